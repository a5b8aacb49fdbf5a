"""Frees what is left of old disks, beside the slots: a thread of the keeper's, behind all its others."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

from .disk import Remains

_NICENESS = 10


class Undertaker:
    """One thread; what waits for it is bounded by the slots, each of which leaves one disk at most.

    Who cannot wait for its turn frees the disk itself: see `Remains.free`.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "syn-undertaker", initializer=_step_back)

    def bury(self, remains: Remains) -> None:
        """Free it soon; returns at once."""
        self._pool.submit(remains.free)

    def close(self) -> None:
        """Return once all is freed."""
        self._pool.shutdown()


def _step_back() -> None:
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
