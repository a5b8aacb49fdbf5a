"""Tells at once when a slot runs out of memory on a version 1 hierarchy.

There the kernel ends one process of the slot and leaves the others, such as a make that goes on without its
compiler; what is left must be ended by the keeper. The kernel writes to an eventfd right before it ends a
process (Documentation/admin-guide/cgroup-v1/memory.rst, section 10), before its own counter grows. On version
2 it ends the whole cgroup by itself (memory.oom.group), and there is nothing to watch.

It writes for an out-of-memory of the slot and for one of any cgroup above, not for one of the whole machine.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from .counters import near
from .limits import Limiter


class OomWatch:
    """The watch over one slot. Used on the loop, but for `take`."""

    def __init__(self, folder: Path | None, event: int) -> None:
        self._folder = folder
        self._event = event
        self._told = False

    @classmethod
    def open(cls, limiter: Limiter, slot: int) -> OomWatch:
        """Begin to watch where that is needed; raises OSError. The caller closes it."""
        memory = limiter.get("memory")
        if memory is None or memory.unified:
            return cls(None, -1)
        folder = memory.folder(slot)
        with ExitStack() as undo:
            event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            undo.callback(os.close, event)
            control = os.open(folder / "memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
            try:
                (folder / "cgroup.event_control").write_text(f"{event} {control}")
            finally:
                os.close(control)
            undo.pop_all()
        return cls(folder, event)

    def listen(self, told: Callable[[], None]) -> None:
        """Call `told` on the loop whenever the slot runs out of memory, until `rest`."""
        if self._event >= 0:
            asyncio.get_running_loop().add_reader(self._event, told)

    def rest(self) -> None:
        """Call nobody any more."""
        if self._event >= 0:
            asyncio.get_running_loop().remove_reader(self._event)

    def forget(self) -> None:
        """Begin anew: what was told before is nothing to what follows; from any thread."""
        self.take()
        self._told = False

    def take(self) -> bool:
        """Whether it was told since the last time that the slot ran out of memory; from any thread."""
        if self._event < 0:
            return False
        try:
            os.eventfd_read(self._event)
        except BlockingIOError:
            return False
        self._told = True
        return True

    @property
    def was_told(self) -> bool:
        """Whether it was ever told since `forget`; so it is where the kernel's counters alone say it."""
        self.take()
        return self._told or self._folder is None

    def is_own(self) -> bool:
        """Whether the slot is at its own bound now; from any thread. Raises OSError.

        The kernel tells a slot also when a cgroup above it runs out of memory, which is no fault of its task.
        """
        if self._folder is None:
            return False
        usage, bound = (
            int((self._folder / f"memory.{name}").read_text())
            for name in ("usage_in_bytes", "limit_in_bytes")
        )
        return usage >= near(bound)

    def close(self) -> None:
        """End the watch. Idempotent."""
        if self._event >= 0:
            os.close(self._event)
            self._event = -1
