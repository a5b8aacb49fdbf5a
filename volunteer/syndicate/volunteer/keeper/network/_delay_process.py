"""The delay line: a process of its own that holds packets back and sends them on when they are due.

It is run by its path and imports the standard library alone, so that it starts within milliseconds. It reads
whole frames from the devices that the keeper gives it, and writes each to the device it came from, from where
the bridge takes it on. Its orders come over a socket, each about a slot, and `null` once it has those of all
that is in force and is to read; it ends when the socket is closed, so never after the keeper.

Arguments: the descriptors of the socket, and of the two devices: of what slots send, of what they hear.
"""

from __future__ import annotations

import contextlib
import gc
import heapq
import json
import os
import random
import select
import socket
import sys
from time import monotonic_ns

MOST_BYTES = 64 << 20
MOST_PACKETS = 100_000
_FRAME = 1 << 16
_AT_ONCE = 64  # packets that are read before those that are due are looked after again
READ = b"null"
_ORDER = 1 << 18
_SLICE, _IN_SLICE = 10_000_000, 300  # nanoseconds, and packets that are read in them: 30,000 a second
_NS = 1_000_000  # in a millisecond
_HEADERS = 34  # Ethernet and IPv4: what is behind them is corrupted
_SENT = slice(6, 12), slice(30, 34)  # where the slot's hardware address and the peer's IPv4 address stand
_HEARD = slice(0, 6), slice(26, 30)
_MAC_OF = _SENT[0], _HEARD[0]

Entry = tuple[float, float, float, float, float]
"""Delay and jitter in milliseconds; duplicate, corrupt and reorder in percent."""
Profile = dict[bytes, list[Entry]]
"""By the peer's address; the empty one for all that are not there."""


class Line:
    """Packets by the time they are due. What comes while it is full is lost.

    A slot's direction holds at most as much as is left free, so that a flood under a long delay, of whichever
    job, leaves room for the packets of others.
    """

    def __init__(self, devices: list[int]) -> None:
        self._dice = random.Random()  # noqa: S311  # no secret hangs on it
        self._devices = devices
        self._profiles: tuple[dict[bytes, Profile], dict[bytes, Profile]] = ({}, {})
        self._waiting: list[tuple[int, int, int, bytes]] = []  # due, number, direction, frame
        self._bytes = 0
        self._held: dict[tuple[int, bytes], tuple[int, int]] = {}  # packets and bytes that wait
        self._number = 0
        self._slice_end = 0
        self._left = 0

    def obey(self, order: bytes) -> None:
        """Set or remove a slot's profile of one direction."""
        direction, mac, profile = json.loads(order)
        slots = self._profiles[direction]
        if profile is None:
            slots.pop(bytes.fromhex(mac), None)
            return
        slots[bytes.fromhex(mac)] = {
            bytes.fromhex(peer): [tuple(entry) for entry in entries] for peer, entries in profile.items()
        }

    def sources(self) -> list[int]:
        """The devices to read from, none where enough was read in this slice of time.

        The process goes before all others on the machine, and a flood must leave them their share. What is
        not read waits in the device's queue, and is lost where that is full.
        """
        now = monotonic_ns()
        if now >= self._slice_end:
            self._slice_end, self._left = now + _SLICE, _IN_SLICE
        return self._devices if self._left > 0 else []

    def read(self, direction: int) -> None:
        """Take in what a device has, some of it."""
        device = self._devices[direction]
        mac_of, peer_of = (_SENT, _HEARD)[direction]
        for _ in range(_AT_ONCE):
            try:
                frame = os.read(device, _FRAME)
            except BlockingIOError:
                return
            self._left -= 1
            mac = frame[mac_of]
            profile = self._profiles[direction].get(mac, {})
            entries = profile.get(frame[peer_of]) or profile.get(b"", [])
            self._take((direction, mac), frame, entries)

    def _take(self, slot: tuple[int, bytes], frame: bytes, entries: list[Entry]) -> None:
        due, copies = monotonic_ns(), 1
        for delay, jitter, duplicate, corrupt, reorder in entries:
            if not self._happens(reorder):
                due += max(0, int((delay + self._dice.uniform(-jitter, jitter)) * _NS))
            if self._happens(duplicate):
                copies += 1
            if self._happens(corrupt):
                frame = self._corrupted(frame)
        for _ in range(copies):
            packets, size = self._held.get(slot, (0, 0))
            free = MOST_BYTES - self._bytes - len(frame)
            if packets >= MOST_PACKETS - len(self._waiting) or size > free:
                return
            self._number += 1
            self._bytes += len(frame)
            self._held[slot] = packets + 1, size + len(frame)
            heapq.heappush(self._waiting, (due, self._number, slot[0], frame))

    def _let_go(self, direction: int, frame: bytes) -> None:
        self._bytes -= len(frame)
        slot = direction, frame[_MAC_OF[direction]]
        packets, size = self._held[slot]
        if packets > 1:
            self._held[slot] = packets - 1, size - len(frame)
        else:
            del self._held[slot]

    def _happens(self, percent: float) -> bool:
        return percent > 0 and self._dice.random() * 100 < percent

    def _corrupted(self, frame: bytes) -> bytes:
        """The frame with one bit of what IPv4 carries turned over."""
        if len(frame) <= _HEADERS:
            return frame
        changed = bytearray(frame)
        changed[self._dice.randrange(_HEADERS, len(frame))] ^= 1 << self._dice.randrange(8)
        return bytes(changed)

    def send(self) -> None:
        """Send what is due."""
        waiting = self._waiting
        while waiting and waiting[0][0] <= monotonic_ns():
            _, _, direction, frame = heapq.heappop(waiting)
            self._let_go(direction, frame)
            with contextlib.suppress(OSError):  # the device is down or full, and the packet is lost
                os.write(self._devices[direction], frame)

    def patience(self) -> float | None:
        """Seconds until a packet is due or devices may be read again; None where neither will be."""
        times = [due for due, *_ in self._waiting[:1]]
        if self._left <= 0:
            times.append(self._slice_end)
        return max(0, min(times) - monotonic_ns()) / 1e9 if times else None


def main(control: socket.socket, devices: list[int]) -> None:
    """Run until the socket is closed."""
    line = Line(devices)
    with contextlib.suppress(PermissionError):  # without CAP_SYS_NICE a busy machine makes packets late
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    gc.disable()  # nothing here makes cycles, and a collection would make packets late
    told = False  # what waits in the devices already is not to pass as if nothing were in force
    while True:
        line.send()
        sources = line.sources() if told else []
        readable, _, _ = select.select([control.fileno(), *sources], [], [], line.patience())
        for ready in readable:
            if ready in devices:
                line.read(devices.index(ready))
                continue
            order = control.recv(_ORDER)
            if not order:
                return
            if order == READ:
                told = True
            else:
                line.obey(order)
            control.send(b"done")


if __name__ == "__main__":
    descriptors = [int(argument) for argument in sys.argv[1:]]
    with contextlib.suppress(ConnectionError, KeyboardInterrupt):  # the keeper has ended
        main(socket.socket(fileno=descriptors[0]), descriptors[1:])
