"""The bytes of the protocol, against C's own layout and against our own client."""

from __future__ import annotations

import ctypes

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from syndicate.client_api import sync, sync_wire
from syndicate.volunteer.sync.core.wire import (
    COUNT_MAX,
    EXTENSION,
    MAGIC,
    REQUEST,
    VERSION,
    Extension,
    Flag,
    Kind,
    Malformed,
    Request,
    decode,
)
from syndicate.volunteer.sync.notices import text


class CRequest(ctypes.Structure):
    """The request as a C compiler lays it out."""

    _fields_ = [
        ("name", ctypes.c_char * 64),
        ("request", ctypes.c_int16),
        ("flags", ctypes.c_int16),
        ("count", ctypes.c_int32),
        ("error", ctypes.c_int32),
    ]


def original(name: bytes = b"b", request: int = 2, flags: int = 0, count: int = 0, error: int = 0) -> bytes:
    """A request of the original client."""
    return bytes(CRequest(name, request, flags, count, error))


def test_a_request_has_76_bytes_as_in_c() -> None:
    """No padding anywhere: both sides lay it out alike."""
    assert ctypes.sizeof(CRequest) == REQUEST.size == 76
    offsets = [getattr(CRequest, name).offset for name in ("request", "flags", "count", "error")]
    assert offsets == [64, 66, 68, 72]


@pytest.mark.parametrize(
    ("data", "request_"),
    [
        (original(), Request(b"b", Kind.WAIT)),
        (original(b"x" * 63, error=239), Request(b"x" * 63, Kind.WAIT, error=239)),
        (original(request=1, count=3), Request(b"b", Kind.INIT, 3)),
        (original(request=1, count=COUNT_MAX, flags=1), Request(b"b", Kind.INIT, COUNT_MAX, no_wait=True)),
        (original(count=77), Request(b"b", Kind.WAIT)),  # a wait's count says nothing
        (original(flags=-2), Request(b"b", Kind.WAIT)),  # flags that nobody knows say nothing either
    ],
)
def test_what_the_original_client_sends_is_understood(data: bytes, request_: Request) -> None:
    """Each field where C puts it."""
    assert decode(data) == request_


def test_a_name_of_64_bytes_is_cut_to_63() -> None:
    """As the original server does, which writes a NUL over the last."""
    assert decode(REQUEST.pack(b"y" * 64, 2, 0, 0, 0)) == Request(b"y" * 63, Kind.WAIT)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "0 bytes"),
        (bytes(75), "75 bytes"),
        (bytes(77), "77 bytes"),
        (bytes(76), "neither init nor wait"),
        (original(b""), "without a name"),
        (original(request=512), "neither init nor wait"),  # the other byte order
        (original(request=1, count=0), "init of 0"),
        (original(request=1, count=-1), "init of -1"),
        (original(error=-1), "error -1"),
        (original(error=240), "error 240"),
    ],
)
def test_what_makes_no_sense_is_malformed(data: bytes, why: str) -> None:
    """And the text says why."""
    with pytest.raises(Malformed, match=why):
        decode(data)


@pytest.mark.parametrize("name", ["b", "ß" * 23, "x" * 47])
def test_our_own_client_is_known_by_what_it_adds(name: str) -> None:
    """Id, flags and time-out stand after the name's NUL, where the name leaves room."""
    request = sync.checked(name, count=2, error=5, abandon=True)
    packed = sync_wire.packed(request, 2**64 - 1, 1, 2.5)
    extension = Extension(2**64 - 1, Flag.ABANDON, 2500)
    assert decode(packed) == Request(name.encode(), Kind.INIT, 2, 5, extension=extension)
    assert packed[: len(name.encode()) + 1] == name.encode() + b"\0"


def test_no_time_out_is_sent_shorter_than_it_is() -> None:
    """The server counts in milliseconds: the last of them is a whole one."""
    (short, sent) = (decode(sync_wire.packed(sync.checked("b"), 1, 0, left)) for left in (1e-9, 0.9993))
    assert short.extension == Extension(1, timeout_ms=1) and sent.extension == Extension(1, timeout_ms=1000)


@pytest.mark.parametrize("size", [48, 63])
def test_a_long_name_leaves_no_room_and_is_sent_as_the_original_does(size: int) -> None:
    """Such a request is the original's, bit for bit."""
    assert sync_wire.packed(sync.checked("x" * size), 7, 0, 3.0) == original(b"x" * size)


def test_a_long_name_is_never_taken_for_an_extension() -> None:
    """Whatever bytes it has where one would stand: there is no NUL before them."""
    name = b"x" * 48 + MAGIC + bytes([VERSION, 7]) + b"y" * 11
    assert decode(original(name)) == Request(name, Kind.WAIT)


def test_both_sides_mean_the_same() -> None:
    """The two ends are programs of their own, and share no code: what they must agree on."""
    assert (sync_wire.REQUEST.format, sync_wire.EXTENSION.format) == (REQUEST.format, EXTENSION.format)
    assert all(sync_wire.shown(bytes([byte])) == text(bytes([byte])) for byte in range(256))
    assert (sync_wire.MAGIC, sync_wire.VERSION) == (MAGIC, VERSION)
    assert (sync_wire.ABANDON, sync_wire.ACKNOWLEDGE, sync_wire.LEAVE) == (
        Flag.ABANDON, Flag.ACKNOWLEDGE, Flag.LEAVE,
    )  # fmt: skip


@settings(deadline=None)
@given(st.binary(max_size=200))
@example(b"\xff" * 76)
@example(b"a\0".ljust(48, b"\0") + MAGIC + b"\x01\xff" + b"\xff" * 40)
def test_bytes_are_a_request_or_malformed(data: bytes) -> None:
    """Whatever comes, nothing else is raised, and what is understood is within bounds."""
    try:
        request = decode(data)
    except Malformed:
        return
    assert len(data) == 76 and len(request.name) <= 63 and 0 not in request.name
    assert 0 <= request.count <= COUNT_MAX and 0 <= request.error <= 239
    assert (request.count > 0) == (request.kind is Kind.INIT)


@settings(deadline=None)
@given(
    st.binary(max_size=64),
    st.sampled_from([0, 1, 2, 3, -1]),
    st.integers(-2, 2),
    st.integers(-(2**31), 2**31 - 1),
    st.integers(-1, 241),
)
def test_fields_of_any_value_are_a_request_or_malformed(
    name: bytes, kind: int, flags: int, count: int, error: int
) -> None:
    """As above, of 76 bytes that nearly make sense."""
    test = REQUEST.pack(name, kind, flags, count, error)
    understood = name[:1] not in (b"", b"\0") and (kind == 2 or (kind == 1 and count > 0))
    try:
        request = decode(test)
    except Malformed:
        assert not understood or not 0 <= error <= 239
    else:
        assert understood and 0 <= error <= 239 and request.name == name[:63].split(b"\0")[0]
