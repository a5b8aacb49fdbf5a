"""The volunteer's end of the local protocol."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from syndicate.volunteer import frames, local
from syndicate.volunteer.keeper_client import KeeperClient, KeeperGone
from volunteer.fakes import FakeKeeper

SYNC = frames.encode(local.RequestFrame(1, local.Sync()))


async def test_what_goes_wrong_with_an_answer_is_no_fault_of_the_keeper(tmp_path: Path) -> None:
    """A full disk while an answer is handled ends the volunteer, and is not taken for a keeper that left."""
    keeper = FakeKeeper(tmp_path / "keeper.sock")
    await keeper.open()

    def full(reply: local.Reply) -> None:
        raise OSError(28, "No space left on device")

    async with asyncio.timeout(60):
        client = await KeeperClient.connect(keeper.path)
        client.send(local.Sync(), full)
        with pytest.raises(OSError, match="No space left") as caught:
            await client.gone()
    await keeper.close()
    assert not isinstance(caught.value, KeeperGone)


async def test_a_keeper_that_goes_away_is_told_as_that(tmp_path: Path) -> None:
    """Who asks then is told so at once."""
    keeper = FakeKeeper(tmp_path / "keeper.sock")
    await keeper.open()
    client = await KeeperClient.connect(keeper.path)
    await client.request(local.Sync(), 60)
    await keeper.close()
    async with asyncio.timeout(60):
        assert "closed the connection" in str(await client.gone())
    with pytest.raises(KeeperGone):
        await client.request(local.Sync(), 60)


async def test_nothing_is_taken_behind_what_is_no_frame(tmp_path: Path) -> None:
    """A request that comes from the keeper ends the connection, and what follows it is not handled."""
    told: list[local.Event] = []

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        grown = local.LogGrew(0, local.TaskId("c-1", 1, 1, "master"), 1, 5)
        writer.write(SYNC + frames.encode(local.EventFrame(grown)))
        writer.close()

    server = await asyncio.start_unix_server(serve, tmp_path / "keeper.sock")
    client = await KeeperClient.connect(tmp_path / "keeper.sock", told.append)
    async with asyncio.timeout(60):
        assert "sent a request" in str(await client.gone())
    await client.close()
    server.close()
    await server.wait_closed()
    assert told == []
