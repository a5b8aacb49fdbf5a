"""Shelves of histories, as the loop uses them: one call at a time on each, in the threads for files."""

from __future__ import annotations

import asyncio
import functools
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from ..histories import Bounds, Kept, Piece, Shelf, remove_job, sizes
from ..wakers import Wakers
from .threads import off

T = TypeVar("T")

# Of the others the folder is read again when somebody asks.
_MOST_OPEN: Final = 256


@dataclass(slots=True)
class _Open:
    """A shelf, and how many use it or wait for it."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    shelf: Shelf | None = None
    users: int = 0


class Shelves:
    """Owns `root`. `changed` wakes whoever waits for the last that a job's clients hand over."""

    def __init__(self, root: Path, files: Executor, bounds: Bounds | None = None) -> None:
        self.changed = Wakers()
        self._root = root
        self._files = files
        self._bounds = bounds or Bounds()
        self._open: OrderedDict[tuple[int, int], _Open] = OrderedDict()

    async def put(self, job_id: int, attempt: int, piece: Piece) -> int:
        """As `Shelf.put`."""
        async with self._held(job_id, attempt) as shelf:
            said = shelf.finals.get(piece.task)
            size = await off(self._files, functools.partial(shelf.put, piece))
            says = shelf.finals.get(piece.task)
        # A repeat wakes nobody: thousands may wait, and each looks at the whole job then.
        if says != said:
            self.changed.wake(job_id)
        return size

    async def kept(self, job_id: int, attempt: int) -> tuple[tuple[Kept, ...], dict[str, int]]:
        """All histories of an attempt, and by task the generation that hands nothing more over."""
        async with self._held(job_id, attempt) as shelf:
            return shelf.kept, shelf.finals

    async def read(self, job_id: int, attempt: int, what: Callable[[Shelf], bytes]) -> bytes:
        """What a read of the shelf gives."""
        async with self._held(job_id, attempt) as shelf:
            return await off(self._files, functools.partial(what, shelf))

    async def remove_job(self, job_id: int) -> None:
        """Remove what a job that has ended left. Raises OSError."""
        await off(self._files, functools.partial(remove_job, self._root, job_id))
        for key in [key for key in self._open if key[0] == job_id]:
            self._open[key].shelf = None

    async def jobs(self) -> dict[int, int]:
        """Bytes of each job that has any, the oldest job first. Raises OSError."""
        return await off(self._files, functools.partial(sizes, self._root))

    @asynccontextmanager
    async def _held(self, job_id: int, attempt: int) -> AsyncIterator[Shelf]:
        key = (job_id, attempt)
        held = self._open.setdefault(key, _Open())
        self._open.move_to_end(key)
        held.users += 1
        try:
            async with held.lock:
                if held.shelf is None:
                    folder = self._root / str(job_id) / str(attempt)
                    held.shelf = await off(self._files, functools.partial(Shelf, folder, self._bounds))
                yield held.shelf
        finally:
            held.users -= 1
            self._forget()

    def _forget(self) -> None:
        """Lets go of the shelves that were not used for longest, and of none that is in use."""
        for key in list(self._open)[: max(0, len(self._open) - _MOST_OPEN)]:
            if not self._open[key].users:
                del self._open[key]
