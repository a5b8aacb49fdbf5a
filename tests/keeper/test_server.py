"""The keeper's socket: what is under way on one connection, and what passes it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from keeper.harness import SECONDS
from syndicate.volunteer import frames
from syndicate.volunteer.keeper.log import Log
from syndicate.volunteer.keeper.server import Server
from syndicate.volunteer.local import Done, Kill, Renew, Reply, Request, RequestFrame, Stamp, Sync, TaskId

_SLOTS = 100
_TASK = TaskId("c1", 1, 1, "master")


async def test_lease_is_renewed_beside_all_that_a_volunteer_asks(folder: Path) -> None:
    """With several slow requests for every slot under way a Renew is still taken and answered."""
    over, renewed = asyncio.Event(), asyncio.Event()
    kills = []

    async def answer(request: Request) -> Reply:
        if isinstance(request, Kill):
            kills.append(request)
            await over.wait()
        if isinstance(request, Renew):
            renewed.set()
        return Done(Stamp("boot", 1, 1), 1)

    async with asyncio.TaskGroup() as tasks:
        server = Server(folder / "socket", 0, 0, _SLOTS, answer, Log())
        await server.open(tasks)
        _, writer = await asyncio.open_unix_connection(str(folder / "socket"))
        writer.write(frames.encode(RequestFrame(1, Sync())))
        asked = [Kill(number % _SLOTS, _TASK, 1) for number in range(4 * _SLOTS)]
        for number, request in enumerate([*asked, Renew("c1", 1)]):
            writer.write(frames.encode(RequestFrame(2 + number, request)))
        try:
            async with asyncio.timeout(SECONDS):
                await renewed.wait()
            assert len(kills) == 4 * _SLOTS
        finally:
            over.set()
            writer.close()
            await server.close()
