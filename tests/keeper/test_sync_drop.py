"""What a slot's sync server is asked to drop, and what is said of it."""

from __future__ import annotations

import asyncio
import json

import pytest
from keeper.sync_peer import WITHIN_S, served
from syndicate.volunteer.keeper import sync_server
from syndicate.volunteer.keeper.errors import KeeperError
from syndicate.volunteer.keeper.sync_account import BadAccount, drop_done


async def test_the_server_says_how_many_it_dropped() -> None:
    """It alone knows what is there; the keeper waits for it."""
    async with served() as (peer, server):
        dropping = asyncio.create_task(server.drop("start", "one"))
        asked = json.loads(await peer.asked())
        peer.say(event="dropped", barrier="start", tasks={})
        peer.say(event="drop", number=asked["number"], dropped=1)

        async with asyncio.timeout(WITHIN_S):
            assert await dropping == 1

    assert (asked["ask"], asked["barrier"]) == ("drop", "start")


async def test_a_drop_that_is_asked_for_again_drops_nothing_more() -> None:
    """A volunteer that was restarted asks again: what was there the first time is what is told."""
    async with served() as (peer, server):
        both = [asyncio.create_task(server.drop("", "one")) for _ in range(2)]
        asked = json.loads(await peer.asked())
        peer.say(event="drop", number=asked["number"], dropped=3)
        async with asyncio.timeout(WITHIN_S):
            first = await asyncio.gather(*both)
            again = await server.drop("", "one")

            other = asyncio.create_task(server.drop("", "two"))
            asked = json.loads(await peer.asked())
            peer.say(event="drop", number=asked["number"], dropped=0)
            assert await other == 0

    assert (first, again) == ([3, 3], 3)


async def test_where_nobody_came_nothing_was_dropped() -> None:
    """No process is asked, and none is started for it."""
    async with served(come=False) as (_, server):
        assert await server.drop("start", "one") == 0


async def test_a_server_that_does_not_answer_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it dropped is not known; what it says too late is nobody's answer."""
    monkeypatch.setattr(sync_server, "_DROP_SECONDS", 0.1)
    async with served() as (peer, server):
        with pytest.raises(KeeperError, match=r"has not answered for 0\.1 s: what it dropped is not known"):
            await server.drop("start", "one")
        late = json.loads(await peer.asked())

        monkeypatch.setattr(sync_server, "_DROP_SECONDS", WITHIN_S)
        again = asyncio.create_task(server.drop("start", "two"))
        asked = json.loads(await peer.asked())
        peer.say(event="drop", number=late["number"], dropped=1)
        peer.say(event="drop", number=asked["number"], dropped=0)

        assert await again == 0


async def test_a_server_that_ends_meanwhile_is_told_so() -> None:
    """Its barriers ended with it, though nobody dropped them."""
    async with served() as (peer, server):
        dropping = asyncio.create_task(server.drop("start", "one"))
        await peer.asked()
        peer.link.close()

        async with asyncio.timeout(WITHIN_S):
            with pytest.raises(KeeperError, match="ended meanwhile"):
                await dropping


@pytest.mark.parametrize("dropped", [None, "1", True, 1.0, -1, 1 << 40])
def test_a_number_that_no_server_of_ours_tells_is_refused(dropped: object) -> None:
    """It has parsed what tasks sent."""
    line = json.dumps({"event": "drop", "number": 7, "dropped": dropped}).encode()

    assert drop_done(line, 8) is None
    with pytest.raises(BadAccount):
        drop_done(line, 7)
