"""One thread for each slot: the blocking work on a slot is done there, in order.

The thread is the same for as long as the worker is: what is its own, such as its mounts, stands as long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_T = TypeVar("_T")


class Worker:
    """A thread that does one thing after the other."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, work: Callable[[], _T]) -> _T:
        """Do `work` there after what was asked before, to its end even if the caller is cancelled."""
        return await self.submit(work)

    def submit(self, work: Callable[[], _T]) -> asyncio.Future[_T]:
        """Have `work` done there after what was asked before; the future has what comes of it."""
        return asyncio.get_running_loop().run_in_executor(self._pool, work)

    def close(self) -> None:
        """End the thread once it has done what was asked."""
        self._pool.shutdown()
