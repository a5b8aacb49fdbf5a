"""Waiting for a process through its pidfd, on the loop or in a thread."""

from __future__ import annotations

import os
import select
import time
from dataclasses import dataclass

from .waiting import readable

KILLED_STATUS = 128 + 9
_LOOK_SECONDS = 0.001


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit status, or 128 + n and `by_signal` for signal n."""

    status: int
    by_signal: bool


class Process:
    """A child of the keeper; it is reaped here and nowhere else."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._fd = os.pidfd_open(pid)
        self._ended: Ended | None = None

    def reap(self) -> Ended | None:
        """How it ended, or None while it lives. Not for two threads at once."""
        if self._ended is None:
            info = os.waitid(os.P_PIDFD, self._fd, os.WEXITED | os.WNOHANG)
            if info is not None:
                by_signal = info.si_code != os.CLD_EXITED
                self._ended = Ended(info.si_status + 128 if by_signal else info.si_status, by_signal)
        return self._ended

    def wait(self, seconds: float) -> Ended | None:
        """How it ended, waiting at most so long, in a thread; None if it lives on."""
        if self._ended is None:
            poller = select.poll()
            poller.register(self._fd, select.POLLIN)
            poller.poll(seconds * 1000)
        return self.reap()

    def reap_orphan(self, seconds: float) -> None:
        """Reap a process whose own parent ended before it, waiting at most so long, in a thread.

        The keeper is the subreaper of what it starts; a first process of a machine or container may not reap
        at all, and a zombie counts against the slot's bound on processes.
        """
        try:
            self.wait(seconds)
        except ChildProcessError:
            return  # its own parent reaped it

    async def ended(self) -> Ended:
        """How it ended, once it has, on the loop."""
        await readable(self._fd)
        found = self.reap()
        if found is None:
            raise RuntimeError(f"the pidfd of {self.pid} told an end that the kernel does not know")
        return found

    async def gone(self) -> None:
        """Return once it has ended, on the loop, whoever reaps it."""
        await readable(self._fd)

    def first_child(self) -> int | None:
        """The pid of its first child, or None; for bubblewrap that is the first process of the sandbox."""
        listing = os.open(f"/proc/{self.pid}/task/{self.pid}/children", os.O_RDONLY | os.O_CLOEXEC)
        try:
            children = os.read(listing, 64).split()
        finally:
            os.close(listing)
        return int(children[0]) if children else None

    def close(self) -> None:
        """Give the descriptor back; the process must have been reaped. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def reap(pid: int, seconds: float) -> bool:
    """Reap a child that nothing else holds, waiting at most so long, in a thread; False if it lives on.

    By looking, not by a pidfd: it is for where things went wrong, of descriptors too.
    """
    deadline = time.monotonic() + seconds
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_LOOK_SECONDS)
    return True
