"""Work in threads, and how those who wait for it may leave."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from syndicate.manager.rpc.threads import off

from tests.manager.scripted import WAIT_S


async def test_work_that_was_not_begun_is_not_begun_for_nobody() -> None:
    """Whoever is cancelled waits for their work if it runs, and leaves at once if it waits for a thread."""
    gate, begun = threading.Event(), threading.Event()
    done: list[str] = []

    def first() -> None:
        begun.set()
        gate.wait(WAIT_S)
        done.append("first")

    with ThreadPoolExecutor(1) as executor:
        running = asyncio.ensure_future(off(executor, first))
        await asyncio.to_thread(begun.wait, WAIT_S)
        waiting = asyncio.ensure_future(off(executor, lambda: done.append("second")))
        await asyncio.sleep(0)
        waiting.cancel()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(waiting, WAIT_S)
        assert not running.done()
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(running, WAIT_S)
    assert done == ["first"]
