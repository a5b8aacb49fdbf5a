"""Streams end when nothing was heard on them for too long."""

from __future__ import annotations

import asyncio

from syndicate.manager.clock import Clock
from syndicate.manager.core.model import Config
from syndicate.manager.rpc.session import Session
from syndicate.manager.rpc.silence import Silence

from tests.manager.scripted import WAIT_S


async def test_a_stream_ends_so_long_after_what_was_heard_last() -> None:
    """Not after it began; and while nothing is read nobody is silent."""
    session = Session("stream", Config("test", 1, "boot"), Clock())
    silence = Silence(session, 0.05)
    silence.since = None
    await asyncio.sleep(0.15)
    read_again = silence.since = silence.time()
    ended_before = session.ended.done()

    async with asyncio.timeout(WAIT_S):
        error = await session.ended

    assert not ended_before
    assert silence.time() - read_again >= 0.05
    assert error is not None and error.reason == "HEARTBEAT_LATE"


async def test_a_stream_that_is_over_is_not_watched() -> None:
    """Nothing ends it a second time."""
    session = Session("stream", Config("test", 1, "boot"), Clock())
    Silence(session, 0.01).over()
    await asyncio.sleep(0.05)

    assert not session.ended.done()
