"""The bytes of the local protocol: everything that is valid comes back, nothing else gets in."""

from __future__ import annotations

import ipaddress
import json
import struct
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from syndicate.volunteer import frames, local
from syndicate.volunteer.frames import FrameError, decode, encode

_IDS = st.from_regex(r"[a-z0-9-]{1,63}", fullmatch=True)
_TASKS = st.sampled_from(["master", "slave-0", "slave-12", "client-0"])
_NATURAL = st.integers(0, (1 << 63) - 1)
_POSITIVE = st.integers(1, (1 << 63) - 1)
_ADDRESSES = st.ip_addresses(v=4).map(str)
_BOOTS = st.uuids().map(str)
_NAMES = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=50)
_PERCENT = st.floats(0, 100)
_MILLISECONDS = st.floats(0, 600_000)
_LINES = st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=50)
_STATUS = st.integers(0, 255)

_task_ids = st.builds(local.TaskId, _IDS, _POSITIVE, _NATURAL, _TASKS)
_members = st.builds(local.Member, _TASKS, st.sampled_from(local.Role), _ADDRESSES)
_stamps = st.builds(local.Stamp, _BOOTS, _NATURAL, _NATURAL)
_limits = st.builds(local.Limits, *[_NATURAL] * 6)
_exits = st.builds(
    local.Exit,
    *(_POSITIVE, _STATUS, st.booleans(), st.sampled_from(["", "kill", "release", "lease"]), _stamps),
    *(st.binary(max_size=40), st.binary(max_size=40), _NATURAL),
)
_generations = st.builds(local.GenerationInfo, _POSITIVE, st.none() | _stamps, st.none() | _exits, _NATURAL)


def _many(items: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(items, max_size=3).map(tuple)


_degradations = st.builds(
    local.Degradation,
    *(_PERCENT, _NATURAL, _MILLISECONDS, _MILLISECONDS, _PERCENT, _PERCENT, _PERCENT),
)
_links = st.builds(local.LinkState, st.just("") | _ADDRESSES, _degradations, _degradations)
_networks = st.builds(local.NetworkState, *[_many(_ADDRESSES)] * 4, _many(_links))

REQUESTS = st.one_of(
    st.just(local.Sync()),
    st.just(local.Audit()),
    st.just(local.Reboot()),
    st.builds(
        local.Prepare,
        *(_NATURAL, _task_ids, _NATURAL, st.sampled_from(local.Role), _ADDRESSES, st.integers(1, 32)),
        *(_many(_members), st.from_regex("[0-9a-f]{64}", fullmatch=True), _LINES, _limits),
        *(st.booleans(), st.just("") | _ADDRESSES.map(lambda address: f"{address}:16534"), st.booleans()),
    ),
    st.builds(local.Start, _NATURAL, _task_ids, _POSITIVE),
    st.builds(local.Kill, _NATURAL, _task_ids, _POSITIVE),
    st.builds(local.Revive, _NATURAL, _task_ids, _POSITIVE, st.booleans()),
    st.builds(local.SetNetwork, _NATURAL, _task_ids, _networks),
    st.builds(local.SetTask, _NATURAL, _task_ids, st.booleans(), st.booleans()),
    st.builds(local.Signal, _NATURAL, _task_ids, _POSITIVE, st.integers(1, 64), _NAMES),
    st.builds(local.DropBarriers, _NATURAL, _task_ids, _LINES, _NAMES),
    st.builds(local.Release, _NATURAL, _task_ids),
    st.builds(local.Renew, _IDS, _NATURAL),
    st.builds(local.ReadLog, _NATURAL, _task_ids, _POSITIVE, _NATURAL, st.integers(1, 1000)),
    st.builds(local.ReadDisk, _NATURAL, _task_ids, _NATURAL, st.integers(1, 1000)),
)
_slots = st.builds(
    local.SlotInfo,
    *(_NATURAL, st.sampled_from(local.SlotState), st.none() | _task_ids),
    *(st.none() | st.sampled_from(local.Role), st.just("") | _ADDRESSES),
    *(_many(_members), _networks, st.booleans(), st.booleans(), _many(_generations)),
)
_pieces = st.builds(
    local.LogPiece, _NATURAL, st.sampled_from(local.LogStream), _stamps, st.binary(max_size=300), _NATURAL
)
_replies = st.one_of(
    st.builds(
        local.Synced,
        *(_IDS, _BOOTS, st.sampled_from(["fabric", "host"]), st.just("") | _ADDRESSES, _many(_IDS)),
        *(st.dictionaries(_IDS, _NATURAL, max_size=3), _many(_slots), _many(_IDS)),
        *(_many(st.builds(local.Incapability, _IDS, _LINES)), st.booleans(), st.booleans()),
    ),
    st.builds(local.Done, _stamps, _NATURAL, _NATURAL, st.booleans(), _NATURAL),
    st.builds(local.LogRead, _many(_pieces), _NATURAL, st.booleans()),
    st.builds(local.DiskRead, st.binary(max_size=300), st.booleans(), _LINES),
    st.builds(local.Audited, _many(_LINES), _many(_LINES)),
    st.builds(local.Refused, st.sampled_from(local.ErrorCode), _LINES),
)
_places = _many(st.builds(local.BarrierTask, _TASKS | _ADDRESSES, _NATURAL))
_rounds = st.builds(
    local.BarrierRound,
    *(_LINES, st.sampled_from(local.BarrierEnd), _stamps, _stamps, st.integers(0, 239)),
    *(_places, _places, _NATURAL, _NATURAL, _NATURAL),
)
_open_barriers = st.builds(
    local.OpenBarrier,
    *(_LINES, _stamps, st.integers(-100, 100), _places, _places, _NATURAL, _many(_TASKS), _NATURAL),
    *(st.booleans(), _places),
)
_events = st.one_of(
    st.builds(local.Exited, _NATURAL, _task_ids, _exits),
    st.builds(local.LogGrew, _NATURAL, _task_ids, _POSITIVE, _NATURAL),
    st.builds(
        local.BarriersTold,
        *(_NATURAL, _task_ids, _many(_rounds), _NATURAL, _many(_open_barriers), _NATURAL, _LINES),
        st.booleans(),
    ),
)
_frames = st.one_of(
    st.builds(local.RequestFrame, _NATURAL, REQUESTS),
    st.builds(local.ReplyFrame, _NATURAL, _replies),
    st.builds(local.EventFrame, _events),
)

_TASK = local.TaskId("c1", 7, 1, "slave-0")
_KILL = local.RequestFrame(3, local.Kill(0, _TASK, 1))
_SYNCED = local.ReplyFrame(
    3, local.Synced("i0", "b0", "host", "", (), {"c1": 1}, (local.SlotInfo(0, local.SlotState.EMPTY),))
)
_READ = local.ReplyFrame(3, local.DiskRead(b"abc", True))


def _body(head: object, raw: bytes = b"") -> bytes:
    text = json.dumps(head).encode()
    return struct.pack(">I", len(text)) + text + raw


def _head_of(frame: local.Frame) -> dict[str, Any]:
    body = encode(frame)[frames.PREFIX_BYTES :]
    length = struct.unpack_from(">I", body)[0]
    head: dict[str, Any] = json.loads(body[4 : 4 + length])
    return head


@given(_frames)
def test_every_value_comes_back(frame: local.Frame) -> None:
    """What is encoded decodes to the same, and the prefix tells its length."""
    data = encode(frame)

    assert frames.body_length(data[: frames.PREFIX_BYTES]) == len(data) - frames.PREFIX_BYTES
    assert decode(data[frames.PREFIX_BYTES :]) == frame


def test_every_kind_is_tried() -> None:
    """The strategies of this file know every kind of the protocol."""
    kinds = set(get_args(local.Request)) | set(get_args(local.Reply)) | set(get_args(local.Event))

    assert len(kinds) == 15 + 6 + 3


@given(st.binary(max_size=300))
def test_garbage_is_refused(data: bytes) -> None:
    """Random bytes raise FrameError and nothing else."""
    with pytest.raises(FrameError):
        decode(data)


@given(_frames, st.data())
def test_damaged_frame_is_refused_or_valid(frame: local.Frame, data: st.DataObject) -> None:
    """A frame with one byte changed raises FrameError or is another valid frame; it never fails otherwise."""
    body = bytearray(encode(frame)[frames.PREFIX_BYTES :])
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] = data.draw(st.integers(0, 255))

    try:
        found = decode(bytes(body))
    except FrameError:
        return
    assert encode(found)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_other_json_is_refused(head: object) -> None:
    """JSON that is no frame raises FrameError and nothing else."""
    with pytest.raises(FrameError):
        decode(_body(head))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("frame",), "reply"),
        (("kind",), "Explode"),
        (("number",), -1),
        (("number",), True),
        (("extra",), 1),
        (("value", "slot"), -1),
        (("value", "slot"), "0"),
        (("value", "slot"), 1.0),
        (("value", "slot"), None),
        (("value", "generation"), 0),
        (("value", "generation"), 1 << 63),
        (("value", "more"), 1),
        (("value", "task", "cluster_id"), "C1"),
        (("value", "task", "cluster_id"), "../etc"),
        (("value", "task", "cluster_id"), ""),
        (("value", "task", "cluster_id"), "a" * 64),
        (("value", "task", "cluster_id"), "a\n"),
        (("value", "task", "task"), "slave-01"),
        (("value", "task", "task"), "root"),
    ],
)
def test_field_out_of_bounds_is_refused(path: tuple[str, ...], value: object) -> None:
    """Each field takes its own type and range only."""
    head = _head_of(_KILL)
    place = head
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value

    with pytest.raises(FrameError):
        decode(_body(head))


@pytest.mark.parametrize(
    "address", ["10.0.0", "10.0.0.01", "::1", "10.0.0.256", "localhost", "", "10.0.0.1 "]
)
def test_what_is_no_ipv4_address_is_refused(address: str) -> None:
    """Addresses are IPv4, written as the kernel writes them; encode refuses the others as well."""
    with pytest.raises(FrameError):
        encode(local.RequestFrame(1, local.SetNetwork(0, _TASK, local.NetworkState(cut=(address,)))))


def _degraded(**fields: Any) -> local.RequestFrame:
    link = local.LinkState("", local.Degradation(**fields))
    return local.RequestFrame(1, local.SetNetwork(0, _TASK, local.NetworkState(links=(link,))))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("loss_percent", -0.1),
        ("loss_percent", 100.1),
        ("loss_percent", float("nan")),
        ("loss_percent", 10),
        ("corrupt_percent", float("inf")),
        ("delay_ms", 600_001.0),
        ("jitter_ms", float("nan")),
        ("rate_bps", -1),
        ("rate_bps", 1.5),
    ],
)
def test_degradation_out_of_bounds_is_never_made(field: str, value: float) -> None:
    """Percentages are 0.0 to 100.0, delays at most ten minutes, and what is no number is none of them."""
    with pytest.raises(FrameError):
        encode(_degraded(**{field: value}))


@pytest.mark.parametrize("text", ["1e999", "-1.0", "100.5", "NaN", "Infinity", "10", "true", '"10.0"'])
def test_degradation_out_of_bounds_is_refused(text: str) -> None:
    """What JSON can say beyond that is not taken either."""
    body = encode(_degraded(loss_percent=12.5))[frames.PREFIX_BYTES :]
    damaged = body[4:].replace(b"12.5", text.encode())

    with pytest.raises(FrameError):
        decode(struct.pack(">I", len(damaged)) + damaged)


@pytest.mark.parametrize(("number", "name"), [(0, "x"), (65, "x"), (9, ""), (9, "a\n"), (9, "x" * 256)])
def test_signal_has_a_number_and_a_name(number: int, name: str) -> None:
    """A signal is 1 to 64, and its request has an id."""
    with pytest.raises(FrameError):
        encode(local.RequestFrame(1, local.Signal(0, _TASK, 1, number, name)))


@pytest.mark.parametrize("digest", ["../" + "a" * 61, "A" * 64, "a" * 63, "a" * 65])
def test_source_is_a_digest(digest: str) -> None:
    """A source's name cannot leave the cache folder."""
    head = _head_of(
        local.RequestFrame(
            1,
            local.Prepare(0, _TASK, 1, local.Role.SLAVE, "10.0.0.1", 24, (), "a" * 64, "x", local.Limits()),
        )
    )
    head["value"]["source"] = digest

    with pytest.raises(FrameError):
        decode(_body(head))


@given(st.ip_addresses(v=4).map(str) | st.from_regex(r"[0-9]{1,4}(\.[0-9]{1,4}){2,4}\n?", fullmatch=True))
def test_addresses_are_those_that_a_library_knows(address: str) -> None:
    """What is an address here is one for the standard library, and the other way round."""
    request = local.RequestFrame(1, local.SetNetwork(0, _TASK, local.NetworkState(cut=(address,))))
    try:
        known = str(ipaddress.IPv4Address(address)) == address
    except ValueError:
        known = False

    if known:
        assert decode(encode(request)[frames.PREFIX_BYTES :]) == request
    else:
        with pytest.raises(FrameError, match=r"NetworkState\.cut: not allowed"):
            encode(request)


def _turned(value: Any) -> Any:
    if type(value) is list:
        return [_turned(each) for each in value]
    return {name: _turned(value[name]) for name in reversed(value)} if type(value) is dict else value


@given(st.builds(local.RequestFrame, _NATURAL, REQUESTS))
def test_fields_may_come_in_any_order(frame: local.RequestFrame) -> None:
    """An object of JSON has no order."""
    assert decode(_body(_turned(_head_of(frame)))) == frame


@pytest.mark.parametrize("place", ['{"frame"', '{"slot"', '{"cluster_id"'])
@pytest.mark.parametrize("doubled", ['"frame":"request",', '"slot":0,', '"task":"slave-0",'])
def test_doubled_field_is_refused(place: str, doubled: str) -> None:
    """A field that is given twice, or one too many, is refused at each depth."""
    text = json.dumps(_head_of(_KILL), separators=(",", ":"))
    assert text.count(place) == 1
    damaged = text.replace(place, "{" + doubled + place[1:]).encode()

    with pytest.raises(FrameError, match=r"twice|unknown fields"):
        decode(struct.pack(">I", len(damaged)) + damaged)


@pytest.mark.parametrize(
    ("frame", "old", "new", "detail"),
    [
        (_KILL, '"slot":0', '"slot":"0"', "Kill.slot: int expected, got str"),
        (_KILL, '"slot":0', '"slot":true', "Kill.slot: int expected, got bool"),
        (_KILL, '"slot":0', '"slot":{}', "Kill.slot: int expected, got object"),
        (_KILL, '"c1"', '"C1"', "TaskId.cluster_id: not allowed: 'C1'"),
        (_KILL, '"slot":0', '"slots":0', "Kill: missing or unknown fields: slot, slots"),
        (_KILL, '"kind":"Kill"', '"kind":"Done"', "kind: unknown request 'Done'"),
        (_KILL, '"kind":"Kill"', '"kind":[]', "kind: str expected, got list"),
        (_KILL, '"number":3', '"number":-3', "number: a natural number expected"),
        (_KILL, '"number":3,', "", "missing or unknown fields: number"),
        (
            _KILL,
            '{"cluster_id":"c1","job_id":7,"attempt":1,"task":"slave-0"}',
            "[]",
            "Kill.task: object expected",
        ),
        (_SYNCED, '"epochs":{"c1":1}', '"epochs":{"c1":1,"c1":2}', "a field is given twice"),
        (_SYNCED, '"epochs":{"c1":1}', '"epochs":{"C1":1}', "Synced.epochs: not allowed: 'C1'"),
        (_SYNCED, '"epochs":{"c1":1}', '"epochs":{"c1":-1}', "Synced.epochs: not allowed: '-1'"),
        (_SYNCED, '"state":"empty"', '"state":"gone"', "SlotInfo.state: unknown value 'gone'"),
        (_SYNCED, '"task":null', '"task":0', "SlotInfo.task: object expected, got int"),
        (_SYNCED, '"slot":0', '"slot":null', "SlotInfo.slot: int expected, got NoneType"),
        (_READ, '"data":3', '"data":4', "DiskRead.data: the frame holds fewer bytes than it says"),
        (_READ, '"data":3', '"data":-1', "DiskRead.data: not allowed: '-1'"),
        (_READ, '"data":3', '"data":2', "1 bytes after the end of the frame"),
    ],
)
def test_error_names_the_field(frame: local.Frame, old: str, new: str, detail: str) -> None:
    """One line tells what is wrong where."""
    body = encode(frame)[frames.PREFIX_BYTES :]
    length = struct.unpack_from(">I", body)[0]
    text = body[4 : 4 + length].decode()
    assert text.count(old) == 1
    damaged = text.replace(old, new).encode()

    with pytest.raises(FrameError) as caught:
        decode(struct.pack(">I", len(damaged)) + damaged + body[4 + length :])

    assert str(caught.value).startswith(detail)


@pytest.mark.parametrize(
    ("request_", "detail"),
    [
        (local.Kill(True, _TASK, 1), "Kill.slot: int expected, got bool"),
        (local.Kill(0, None, 1), "Kill.task: TaskId expected, got NoneType"),  # type: ignore[arg-type]
        (local.Kill(0, _TASK, 0), "Kill.generation: not allowed: '0'"),
        (local.Done(local.Stamp("b0", 1, 2), 1), "a request cannot be a Done"),
    ],
)
def test_nothing_that_would_be_refused_is_made(request_: Any, detail: str) -> None:
    """What the other side would not take is told by the side that has made it."""
    with pytest.raises(FrameError) as caught:
        encode(local.RequestFrame(1, request_))

    assert str(caught.value) == detail


def test_raw_part_must_fit_exactly() -> None:
    """Bytes that are missing or left over are refused."""
    read = local.LogRead(
        (local.LogPiece(0, local.LogStream.STDOUT, local.Stamp("b0", 1, 2), b"abc"),), 3, True
    )
    body = encode(local.ReplyFrame(1, read))[frames.PREFIX_BYTES :]

    for damaged in (body[:-1], body + b"d"):
        with pytest.raises(FrameError):
            decode(damaged)


def test_length_is_bounded() -> None:
    """A frame larger than the protocol allows is refused before it is read, and is never made."""
    with pytest.raises(FrameError):
        frames.body_length(struct.pack(">I", local.MAX_FRAME_BYTES + 1))
    with pytest.raises(FrameError):
        frames.body_length(struct.pack(">I", 0))
    with pytest.raises(FrameError):
        encode(local.ReplyFrame(1, local.Audited(("x" * 4000,) * 2000, ())))


def test_deep_and_repeated_json_is_refused() -> None:
    """Nesting that exhausts a parser, doubled fields, and numbers that JSON does not have."""
    for text in (
        b"[" * 100_000,
        b'{"frame":"event","frame":"event"}',
        b'{"number":NaN}',
        b"\xff",
        b"1" * 5000,
    ):
        with pytest.raises(FrameError):
            decode(struct.pack(">I", len(text)) + text)


@pytest.mark.parametrize("field", ["frame", "number", "kind", "value"])
@pytest.mark.parametrize(("begin", "end"), [("[", "]"), ('{"a":', "}")], ids=["lists", "objects"])
def test_field_that_the_parser_only_just_takes_is_refused(field: str, begin: str, end: str) -> None:
    """However deep it is; what is made of objects goes deeper than they did."""
    depth = 600  # of the 1,000 that Python allows
    parts = {"frame": '"request"', "number": "3", "kind": '"Sync"', "value": "{}"}
    parts[field] = begin * depth + "0" + end * depth
    text = "{" + ",".join(f'"{name}":{part}' for name, part in parts.items()) + "}"

    with pytest.raises(FrameError):
        decode(struct.pack(">I", len(text)) + text.encode())


def test_number_of_a_bad_request_is_told() -> None:
    """An error about a request whose number could be read carries it, so that it can be answered."""
    head = _head_of(_KILL)
    head["value"]["slot"] = "x"

    with pytest.raises(FrameError) as caught:
        decode(_body(head))

    assert caught.value.number == 3
