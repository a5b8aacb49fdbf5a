"""Reads the output of all tasks in one thread, so that no flood of a task's holds up the loop.

Each round reads at most 64 KiB of each pipe that has something; a task that writes faster than it is read
waits in its own write. A task that floods after its head is full is read slowly.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from ..local import LogStream
from .clock import Clock
from .logs import LogStore

_CHUNK = 64 * 1024
_REST_MS = 2  # bounds a pipe that floods to some 30 MB/s


@dataclass(eq=False)
class Capture:
    """Both pipes of one generation while they are read.

    `grew` and `ended` are called in the pump's thread: after each piece, and once both pipes have ended.
    """

    store: LogStore
    grew: Callable[[], None]
    ended: Callable[[], None]
    open: dict[int, LogStream] = field(default_factory=dict)


class Pump:
    """The thread that reads; started by `open`, ended by `close`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lock = threading.Lock()
        self._captures: dict[int, Capture] = {}
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
        """Stop reading though the pipes are not at their end; `ended` is not called. Idempotent."""
        with self._lock:
            for descriptor in list(capture.open):
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
        self._epoll.unregister(descriptor)
        del self._captures[descriptor]
        del capture.open[descriptor]
        os.close(descriptor)

    def _run(self) -> None:
        while not self._closing:
            flooded = False
            for descriptor, _ in self._epoll.poll():
                if descriptor != self._wake and self._read(descriptor):
                    flooded = True
            if flooded:
                self._rest()

    def _rest(self) -> None:
        """Let a flood wait in its own writes; costs the others a moment and the keeper no core."""
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        poller.poll(_REST_MS)

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
                capture.store.append(capture.open[descriptor], self._clock.stamp(), data)
            else:
                self._drop(descriptor, capture)
            finished = not capture.open
        if data:
            capture.grew()
        elif finished:
            capture.ended()
        return len(data) == _CHUNK and capture.store.overflows
