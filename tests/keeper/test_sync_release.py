"""The end of a slot's sync server: what it told last, and a process that does not end at once."""

from __future__ import annotations

import asyncio

import pytest
from keeper.sync_peer import WITHIN_S, Peer, serving
from syndicate.volunteer.keeper import sync_server
from syndicate.volunteer.keeper.errors import KeeperError
from syndicate.volunteer.local import BarriersTold


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The keeper waits for the last account as long as a test waits for anything."""
    monkeypatch.setattr(sync_server, "_LAST_SECONDS", WITHIN_S)


async def test_no_round_of_the_last_moment_is_lost() -> None:
    """What it told by itself while it was asked stands beside the answer, which is waited for."""
    told: list[BarriersTold] = []
    with Peer() as peer:
        server = await serving(peer, told)

        closing = asyncio.create_task(server.close())
        assert await peer.asked() == b'{"ask":"rounds"}\n'
        peer.tell(b"by-itself")
        peer.tell(b"asked-for", asked=True)
        async with asyncio.timeout(WITHIN_S):
            await closing

    (last,) = told
    assert [one.barrier for one in last.rounds] == ["by-itself", "asked-for"]
    assert (last.total, last.last) == (2, True)


async def test_a_process_that_does_not_end_is_ended_by_the_next_try() -> None:
    """A Release that failed is asked for again; the last account is told once."""
    told: list[BarriersTold] = []
    with Peer(failing_ends=1) as peer:
        server = await serving(peer, told)
        closing = asyncio.create_task(server.close())
        assert await peer.asked() == b'{"ask":"rounds"}\n'
        peer.tell(b"start", asked=True)

        with pytest.raises(KeeperError, match="does not end"):
            await closing
        await server.close()

    assert peer.ended == 2
    assert [one.last for one in told].count(True) == 1
