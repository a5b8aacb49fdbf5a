"""What attacks on the daemons have at hand: how much a process takes, students, and raw connections."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from syndicate.v1 import scheduler_pb2 as scheduler

from tests.attacks.arena import Arena
from tests.attacks.attack import Attack, Ran

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW, _CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_FIRST_WINDOW = 65_535
_LARGEST_FRAME = 16_384

MUCH = 32 << 20
"""By so many bytes no daemon grows for one peer."""
_MANY_DESCRIPTORS = 100
_PEAKS = ("memory.max_usage_in_bytes", "memory.peak")  # of version 1 of cgroups, and of version 2


def done(arena: Arena, **facts: Any) -> Ran:
    """An attack that is no job has been run."""
    return Ran(arena, "done", facts=facts, text=str(facts))


def memory_of(pid: int) -> int:
    """Bytes that a process has in memory; 0 where it is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) << 10
    return 0


def descriptors_of(pid: int) -> int:
    """How many descriptors a process has open; 0 where it is gone."""
    with contextlib.suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/fd"))
    return 0


def student_of(arena: Arena, name: str) -> str:
    """A token of a student's."""
    users = arena.cluster.users
    users.put_users([scheduler.User(name=name, role=scheduler.USER_ROLE_STUDENT)])
    return users.create_token(user=name).secret


class RawCall:
    """One gRPC call written by hand, frame by frame, so that it may say what no library says."""

    def __init__(self, address: str, path: str, token: str) -> None:
        host, _, port = address.rpartition(":")
        self._link = socket.create_connection((host, int(port)), timeout=10)
        self._link.setblocking(False)
        self._heard = b""
        self._windows = {0: _FIRST_WINDOW, 1: _FIRST_WINDOW}
        self.over = False
        """Whether the other side has ended the call or the connection."""
        self._headers = (
            *((":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "attack")),
            *(("te", "trailers"), ("content-type", "application/grpc")),
            ("authorization", f"Bearer {token}"),
        )
        self._write(_PREFACE + _frame(_SETTINGS, 0, 0, b""))

    def begin(self) -> None:
        """The headers, as they should be."""
        block = b"".join(_literal(name, value) for name, value in self._headers)
        self._write(_frame(_HEADERS, _END_HEADERS, 1, block))

    def endless_headers(self) -> Iterator[int]:
        """Headers that never end; gives how many bytes were sent, as they are."""
        block = b"".join(_literal(name, value) for name, value in self._headers)
        self._write(_frame(_HEADERS, 0, 1, block))
        sent = 0
        while not self.over:
            more = _literal(f"x-{sent}", "x" * 16_000)
            self._write(_frame(_CONTINUATION, 0, 1, more))
            sent += len(more)
            yield sent

    def message(self, size: int) -> Iterator[int]:
        """One message of so many bytes; gives how many were sent, as they are."""
        self._data(struct.pack(">BI", 0, size))
        sent, piece = 0, b"\0" * _LARGEST_FRAME
        while sent < size and not self.over:
            self._data(piece)
            sent += len(piece)
            yield sent

    def close(self) -> None:
        """Ends the connection."""
        self._link.close()

    def _data(self, piece: bytes) -> None:
        deadline = time.monotonic() + 30.0
        while min(self._windows.values()) < len(piece) and not self.over:
            self._listen(max(deadline - time.monotonic(), 0.0))
            assert self.over or time.monotonic() < deadline, "the other side reads no more"
        for stream in self._windows:
            self._windows[stream] -= len(piece)
        self._write(_frame(_DATA, 0, 1, piece))

    def _write(self, data: bytes) -> None:
        view, deadline = memoryview(data), time.monotonic() + 30.0
        while view and not self.over:
            assert time.monotonic() < deadline, "the other side reads no more"
            self._listen(0.0)
            if self.over or not select.select([], [self._link], [], 1.0)[1]:
                continue
            try:
                view = view[self._link.send(view) :]
            except (BrokenPipeError, ConnectionResetError):
                self.over = True

    def _listen(self, seconds: float) -> None:
        """Take in what has come, waiting so long for something."""
        while not self.over and select.select([self._link], [], [], seconds)[0]:
            seconds = 0.0
            try:
                data = self._link.recv(65_536)
            except ConnectionResetError:
                data = b""
            self.over = self.over or not data
            self._heard += data
            while len(self._heard) >= 9:
                length = int.from_bytes(self._heard[:3], "big")
                if len(self._heard) < 9 + length:
                    break
                kind, flags = self._heard[3], self._heard[4]
                stream = int.from_bytes(self._heard[5:9], "big")
                self._took(kind, flags, stream, self._heard[9 : 9 + length])
                self._heard = self._heard[9 + length :]

    def _took(self, kind: int, flags: int, stream: int, body: bytes) -> None:
        if kind == _WINDOW:
            self._windows[stream] = self._windows.get(stream, 0) + int.from_bytes(body, "big")
        elif kind == _SETTINGS and not flags & _ACK:
            for at in range(0, len(body), 6):
                number, value = struct.unpack(">HI", body[at : at + 6])
                if number == 4:  # SETTINGS_INITIAL_WINDOW_SIZE
                    self._windows[1] += value - _FIRST_WINDOW
            self._answer(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self._answer(_frame(_PING, _ACK, 0, body))
        elif kind in (_RESET, _GOAWAY) or (kind == _HEADERS and flags & _END_STREAM):
            self.over = True

    def _answer(self, frame: bytes) -> None:
        """To a peer that may have gone since it asked."""
        self._link.settimeout(30)
        try:
            self._link.sendall(frame)
        except (BrokenPipeError, ConnectionResetError):
            self.over = True
        finally:
            self._link.setblocking(False)


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + body


def _literal(name: str, value: str) -> bytes:
    """A header that is in no table: RFC 7541, section 6.2.2."""
    return b"\0" + _length(len(name)) + name.encode() + _length(len(value)) + value.encode()


def _length(number: int) -> bytes:
    """An integer with a prefix of 7 bits: RFC 7541, section 5.1."""
    if number < 127:
        return bytes((number,))
    number -= 127
    parts = [127]
    while number >= 128:
        parts.append(number % 128 + 128)
        number //= 128
    return bytes((*parts, number))


def grown(pid: int, before: int, steps: Iterable[int], most: int, every: int) -> tuple[int, int]:
    """Goes through the steps until the process has grown by more than `most`: how much, and the last step.

    It is looked at whenever so many bytes more were sent.
    """
    largest, step, looked = 0, 0, 0
    for step in steps:
        if step - looked >= every:
            looked = step
            largest = max(largest, memory_of(pid) - before)
            if largest > most:
                break
    return max(largest, memory_of(pid) - before), step


def watching_volunteer(arena: Arena, attack: Attack) -> Ran:
    """Runs it, and tells how much memory and how many descriptors the volunteer had at most."""
    pid = arena.cluster.daemons["volunteer"].pid
    memory, descriptors = memory_of(pid), descriptors_of(pid)
    most = {"bytes": 0, "descriptors": 0}
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            most["bytes"] = max(most["bytes"], memory_of(pid) - memory)
            most["descriptors"] = max(most["descriptors"], descriptors_of(pid) - descriptors)

    watch = threading.Thread(target=look)
    watch.start()
    try:
        ran = arena.submit(attack)
    finally:
        over.set()
        watch.join()
    return dataclasses.replace(ran, facts={**ran.facts, **most})


def watching_peak(arena: Arena, attack: Attack) -> Ran:
    """Runs it, and tells the most memory that its slot had at a time, by the kernel's count.

    Version 1 of cgroups begins that count anew, from what the slot has in memory then. That can be all the
    files that its earlier tasks were the first to read on this machine, so it is given up before.
    """
    facts = arena.facts()
    mounts = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))
    slots = [path for mount in mounts for path in mount.glob(f"{arena.cluster.cgroup_name}/slot-*")]
    beside = {f"slot-{number}" for number in facts["bystander_slots"].values()}
    for path in slots:
        if path.name not in beside and (path / _PEAKS[0]).exists():
            (path / "memory.force_empty").write_text("0")
            (path / _PEAKS[0]).write_text("0")
    ran = arena.submit(attack, facts)
    assert ran.job is not None, ran.end
    own = [path / name for path in slots for name in _PEAKS if path.name == f"slot-{ran.job.tasks[0].slot}"]
    peak = max(int(path.read_text()) for path in own if path.exists())
    return dataclasses.replace(ran, facts={**ran.facts, "peak": peak})


def overloaded(ran: Ran) -> str:
    """What the volunteer took for one client."""
    if ran.facts["bytes"] > MUCH or ran.facts["descriptors"] > _MANY_DESCRIPTORS:
        return f"{ran.facts['bytes']:,} bytes, {ran.facts['descriptors']} descriptors"
    return ""
