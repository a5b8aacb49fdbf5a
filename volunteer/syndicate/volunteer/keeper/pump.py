"""Reads the output of all tasks in one thread, so that no flood of a task's holds up the loop.

Each round reads at most 64 KiB of each pipe that has something; a task that writes faster than it is read
waits in its own write. A task that floods after its head is full is read slowly.

A task that writes little and often is read every few milliseconds, so that what it wrote meanwhile comes as
one piece: each piece has a cost all the way to the manager's disk. The first piece after a silence is read
at once.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from ..clock import Clock
from ..local import LogStream
from .logs import LogStore

_CHUNK = 64 * 1024
_LARGEST_PIPE = 1 << 20  # that a task can make of its own: fs.pipe-max-size
_REST_MS = 2  # bounds a pipe that floods to some 30 MB/s
GATHER_NS = 5_000_000  # between two reads of a task that writes little and often


@dataclass(eq=False)
class Capture:
    """Both pipes of one generation while they are read.

    `grew` and `ended` are called in the pump's thread: after each piece, and once both pipes have ended.
    """

    store: LogStore
    grew: Callable[[], None]
    ended: Callable[[], None]
    open: dict[int, LogStream] = field(default_factory=dict)
    read_ns: int = -GATHER_NS  # when something was last read of it, monotonic


class Pump:
    """The thread that reads; started by `open`, ended by `close`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lock = threading.Lock()
        self._captures: dict[int, Capture] = {}
        # Not in the epoll until then, both pipes of one at a time: else one stream would overtake the other.
        self._gathering: dict[Capture, int] = {}
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="syn-logs", daemon=True)

    def open(self) -> None:
        """Start reading."""
        self._epoll.register(self._wake, select.EPOLLIN)
        self._thread.start()

    def attach(self, capture: Capture, stdout: int, stderr: int) -> None:
        """Read these pipes from now on; the pump owns and closes them."""
        with self._lock:
            for descriptor, stream in ((stdout, LogStream.STDOUT), (stderr, LogStream.STDERR)):
                # A number that was told readable may mean another pipe by the time it is read.
                os.set_blocking(descriptor, False)
                capture.open[descriptor] = stream
                self._captures[descriptor] = capture
                self._epoll.register(descriptor, select.EPOLLIN)

    def detach(self, capture: Capture) -> None:
        """Take what is there and stop, though the pipes are not at their end. Idempotent.

        `ended` is not called. What is there was written: a pump that had no turn is no reason to lose it.
        """
        with self._lock:
            for descriptor, stream in list(capture.open.items()):
                for data in _held_by(descriptor):
                    capture.store.append(stream, self._clock.stamp(), data)
                self._drop(descriptor, capture)

    def close(self) -> None:
        """End the thread and close what is still attached."""
        self._closing = True
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        for descriptor, capture in list(self._captures.items()):
            self._drop(descriptor, capture)
        self._epoll.close()
        os.close(self._wake)

    def _drop(self, descriptor: int, capture: Capture) -> None:
        if capture not in self._gathering:
            self._epoll.unregister(descriptor)
        del self._captures[descriptor]
        del capture.open[descriptor]
        os.close(descriptor)
        if not capture.open:
            self._gathering.pop(capture, None)

    def _run(self) -> None:
        while not self._closing:
            flooded = False
            ready = [descriptor for descriptor, _ in self._epoll.poll(self._patience_s())]
            for descriptor in ready:
                if descriptor != self._wake and self._read(descriptor):
                    flooded = True
            for capture in self._due():
                flooded = self._look_again(capture) or flooded
            if flooded:
                self._rest()

    def _rest(self) -> None:
        """Let a flood wait in its own writes; costs the others a moment and the keeper no core."""
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        poller.poll(_REST_MS)

    # ---- gathering what is written little by little -----------------------------------------------------

    def _patience_s(self) -> float | None:
        """How long there is nothing to do unless a pipe has something: seconds, None for ever."""
        with self._lock:
            due = min(self._gathering.values(), default=None)
        return None if due is None else max(0.0, (due - self._now()) / 1e9)

    def _due(self) -> list[Capture]:
        with self._lock:
            now = self._now()
            return [capture for capture, due in self._gathering.items() if due <= now]

    def _gather(self, capture: Capture) -> None:
        """Look at neither of its pipes for a while. Under the lock."""
        if capture not in self._gathering:
            for descriptor in capture.open:
                self._epoll.unregister(descriptor)
        self._gathering[capture] = self._now() + GATHER_NS

    def _look_again(self, capture: Capture) -> bool:
        """Read what was gathered; one that wrote nothing meanwhile is read at once from now on."""
        flooded = False
        for descriptor in list(capture.open):
            flooded = self._read(descriptor) or flooded
        with self._lock:
            due = self._gathering.get(capture)
            if due is not None and due <= self._now():
                del self._gathering[capture]
                for descriptor in capture.open:
                    self._epoll.register(descriptor, select.EPOLLIN)
        return flooded

    def _now(self) -> int:
        return self._clock.stamp().monotonic_ns

    # ---- reading ------------------------------------------------------------------------------------------

    def _read(self, descriptor: int) -> bool:
        """Take what a pipe has; whether it is a flood: more than its store keeps, and as fast as it can."""
        with self._lock:  # a descriptor must not be closed while it is read; stores are quick
            capture = self._captures.get(descriptor)
            if capture is None:
                return False
            try:
                data = os.read(descriptor, _CHUNK)
            except BlockingIOError:
                return False
            if data:
                self._take(capture, descriptor, data)
            else:
                self._drop(descriptor, capture)
            finished = not capture.open
        if data:
            capture.grew()
        elif finished:
            capture.ended()
        return len(data) == _CHUNK and capture.store.overflows

    def _take(self, capture: Capture, descriptor: int, data: bytes) -> None:
        at = self._clock.stamp()
        capture.store.append(capture.open[descriptor], at, data)
        soon = at.monotonic_ns - capture.read_ns < GATHER_NS or capture in self._gathering
        capture.read_ns = at.monotonic_ns
        # A full chunk is worth its cost: a task that writes much is read as fast as it writes.
        if soon and len(data) < _CHUNK:
            self._gather(capture)


def _held_by(descriptor: int) -> Iterator[bytes]:
    """What a pipe holds, without waiting, and at most as much as one can: somebody may still write to it."""
    with suppress(BlockingIOError):
        for _ in range(_LARGEST_PIPE // _CHUNK):
            if not (data := os.read(descriptor, _CHUNK)):
                return
            yield data
