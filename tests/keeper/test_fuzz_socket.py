"""Whatever is said to a live keeper's socket: it goes on, answers Sync, and keeps nothing of it."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keeper.harness import SECONDS, KeeperProcess
from keeper.test_frames import REQUESTS
from syndicate.volunteer import frames
from syndicate.volunteer.local import (
    MAX_FRAME_BYTES,
    Audit,
    Audited,
    Frame,
    Refused,
    ReplyFrame,
    RequestFrame,
    Sync,
    Synced,
)

_MOST_GROWTH_BYTES = 20 << 20
_SYNC = frames.encode(RequestFrame(1, Sync()))
_LIVE = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])

_whole = st.builds(RequestFrame, st.integers(0, 1 << 40), REQUESTS).map(frames.encode)
_damaged = st.builds(
    lambda data, at, bit: (
        data[: at % len(data)] + bytes([data[at % len(data)] ^ bit]) + data[at % len(data) + 1 :]
    ),
    *(_whole, st.integers(0, 1 << 16), st.integers(1, 255)),
)
_said = st.lists(
    st.one_of(
        _whole,
        _damaged,
        st.builds(lambda data, end: data[: end % len(data)], _whole, st.integers(1, 1 << 16)),
        st.binary(max_size=400),
        st.builds(lambda n, rest: struct.pack(">I", n) + rest, st.integers(0, (1 << 32) - 1), st.binary()),
        st.builds(
            lambda n, rest: struct.pack(">II", len(rest) + 4, n) + rest, st.integers(0, 400), st.binary()
        ),
    ),
    max_size=6,
).map(b"".join)


@pytest.fixture(autouse=True)
def unharmed(keeper: KeeperProcess) -> Iterator[None]:
    """After each test the keeper answers, is the same process, and has not grown."""
    synced(keeper)
    before = resident_bytes(keeper)
    yield
    synced(keeper)
    assert resident_bytes(keeper) - before < _MOST_GROWTH_BYTES


def resident_bytes(keeper: KeeperProcess) -> int:
    """What of its memory is there."""
    assert keeper.process is not None
    assert keeper.process.poll() is None, keeper.errors.read_text()
    status = Path(f"/proc/{keeper.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) << 10


def connected(keeper: KeeperProcess) -> socket.socket:
    """A connection."""
    link = socket.socket(socket.AF_UNIX)
    link.connect(str(keeper.socket))  # with a time limit it would fail where it should wait for its turn
    link.settimeout(SECONDS)
    return link


def answer(link: socket.socket) -> Frame:
    """The next frame."""
    prefix = link.recv(frames.PREFIX_BYTES, socket.MSG_WAITALL)
    assert len(prefix) == frames.PREFIX_BYTES, "the keeper ended the connection"
    return frames.decode(link.recv(frames.body_length(prefix), socket.MSG_WAITALL))


def synced(keeper: KeeperProcess) -> None:
    """The keeper answers Sync, and its slots hold nothing."""
    with connected(keeper) as link:
        link.sendall(_SYNC)
        reply = answer(link)
    assert isinstance(reply, ReplyFrame), reply
    assert isinstance(reply.reply, Synced), reply
    assert [slot.task for slot in reply.reply.slots] == [None] * keeper.slots


def say(link: socket.socket, data: bytes) -> None:
    """Send it; the keeper may hang up before it has read all."""
    try:
        link.sendall(data)
        link.shutdown(socket.SHUT_WR)
        while link.recv(1 << 16):
            pass
    except (BrokenPipeError, ConnectionResetError):
        return


@_LIVE
@given(_said)
def test_a_stranger_says_anything(keeper: KeeperProcess, said: bytes) -> None:
    """Before Sync: frames whole, damaged and cut off, and bytes that are none."""
    with connected(keeper) as link:
        say(link, said)


@_LIVE
@given(_said)
def test_a_volunteer_says_anything(keeper: KeeperProcess, said: bytes) -> None:
    """After Sync, where requests reach the slots."""
    with connected(keeper) as link:
        say(link, _SYNC + said)


def test_connections_that_say_nothing_keep_nobody_out(keeper: KeeperProcess) -> None:
    """A hundred of them, with half a frame each: who comes later is served at once."""
    with ExitStack() as stack:
        for _ in range(100):
            link = stack.enter_context(connected(keeper))
            link.sendall(_SYNC[:-1])

        synced(keeper)
        with connected(keeper) as person:
            person.sendall(frames.encode(RequestFrame(1, Audit())))
            reply = answer(person)

    assert isinstance(reply, ReplyFrame)
    assert isinstance(reply.reply, Audited)


@pytest.mark.parametrize("is_volunteer", [False, True], ids=["stranger", "volunteer"])
@pytest.mark.parametrize("length", [MAX_FRAME_BYTES, MAX_FRAME_BYTES + 1, (1 << 32) - 1])
def test_a_long_frame_is_refused_by_its_length(
    keeper: KeeperProcess, is_volunteer: bool, length: int
) -> None:
    """Before any of it is kept: no request is that long."""
    with connected(keeper) as link:
        if is_volunteer:
            link.sendall(_SYNC)
            answer(link)
        link.sendall(struct.pack(">I", length))
        reply = answer(link)
        assert link.recv(1) == b""

    assert isinstance(reply, ReplyFrame)
    assert isinstance(reply.reply, Refused)
    assert "at most" in reply.reply.detail


def test_half_frames_that_are_held_open_take_little_memory(keeper: KeeperProcess) -> None:
    """As many connections as there can be, each with the most that it may send without ending a frame."""
    before = resident_bytes(keeper)
    with ExitStack() as stack:
        for _ in range(16):
            link = stack.enter_context(connected(keeper))
            link.sendall(struct.pack(">I", 4096) + bytes(4000))
        with connected(keeper) as volunteer:
            volunteer.sendall(_SYNC + struct.pack(">I", 2 << 20) + bytes((2 << 20) - 1))
            reply = answer(volunteer)
            grown = resident_bytes(keeper) - before

    assert isinstance(reply, ReplyFrame)
    assert isinstance(reply.reply, Synced)
    assert grown < _MOST_GROWTH_BYTES


def test_the_largest_requests_at_once(keeper: KeeperProcess) -> None:
    """Frames of two mebibytes, three on each connection: the first is understood, and refused."""
    head = b'{"number":1,"request":"Kill","' + b"x" * ((2 << 20) - 200) + b'":1}'
    frame = struct.pack(">II", len(head) + 4, len(head)) + head
    for _ in range(50):
        with connected(keeper) as link:
            say(link, _SYNC + frame * 3)


def test_a_crowd_of_another_uid_is_not_heard(keeper: KeeperProcess) -> None:
    """A thousand connections, past the folder's mode: none is answered, and the volunteer still is."""
    program = (
        "import os, socket, sys\n"
        "fd = os.open(sys.argv[1], os.O_PATH)\n"
        "os.setresuid(65534, 65534, 65534)\n"
        "for _ in range(1000):\n"
        "    with socket.socket(socket.AF_UNIX) as link:\n"
        "        link.settimeout(60)\n"
        "        try:\n"
        "            link.connect(f'/proc/self/fd/{fd}')\n"
        "            link.sendall(bytes.fromhex(sys.argv[2]))\n"
        "            if link.recv(1): sys.exit(1)\n"
        "        except (PermissionError, ConnectionError): pass\n"
    )
    keeper.socket.chmod(0o666)
    try:
        command = [sys.executable, "-c", program, str(keeper.socket), _SYNC.hex()]
        ended = subprocess.run(command, timeout=4 * SECONDS, check=False)
    finally:
        keeper.socket.chmod(0o660)

    assert ended.returncode == 0
