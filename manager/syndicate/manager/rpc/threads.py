"""Work that would block the loop, done in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

T = TypeVar("T")


async def off(executor: Executor, work: Callable[[], T]) -> T:
    """Do the work in one of the executor's threads, and wait for it.

    A thread cannot be cancelled: whoever is waits until the work is done, so that what it works with may be
    let go. Work that was not begun is not begun then.
    """
    begun = executor.submit(work)
    running = asyncio.wrap_future(begun)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        if not begun.cancel():
            await asyncio.wait([running])
        raise
