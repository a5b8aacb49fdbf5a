"""A slot's sync server whose process is played by hand."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

from keeper.harness import MEMBERS
from syndicate.volunteer.clock import Clock
from syndicate.volunteer.keeper.company import Company
from syndicate.volunteer.keeper.errors import failed
from syndicate.volunteer.keeper.sync_processes import SyncProcess, SyncProcesses
from syndicate.volunteer.keeper.sync_server import SyncServer
from syndicate.volunteer.local import BarriersTold, Limits, Prepare, Role, TaskId
from syndicate.volunteer.sync.core.effects import Opened
from syndicate.volunteer.sync.core.rounds import Rounds
from syndicate.volunteer.sync.doors import Keepalive, opened
from syndicate.volunteer.sync.notices import account

WITHIN_S = 60.0
TASK = TaskId("c1", 7, 1, "master")


class Peer:
    """Both what the keeper has of one process, and that process, by hand; its ends may fail so often."""

    def __init__(self, failing_ends: int = 0) -> None:
        self.ours, self.link = socket.socketpair()
        self.ours.setblocking(False)
        self._rounds = Rounds()
        self._failing = failing_ends
        self.ended = 0

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.ours.close()
        self.link.close()

    async def take(self, _cpu_millis: int) -> SyncProcess:
        """As SyncProcesses."""
        return SyncProcess("sync-0", cast(Any, None), cast(Any, None), self.ours)

    async def stand_by(self) -> None:
        """As SyncProcesses."""

    async def end(self, taken: SyncProcess) -> None:
        """As SyncProcesses."""
        self.ended += 1
        if self.ended <= self._failing:
            raise failed("the sync server does not end")
        taken.link.close()

    def tell(self, name: bytes, **more: object) -> None:
        """An account of one barrier more that has opened."""
        self._rounds.take(Opened(name, 0, {"127.0.0.1": 1}), 400)
        document = account(self._rounds.account(set(), 500), [], 0, {})
        self.link.sendall(json.dumps({**document, **more}).encode() + b"\n")

    def say(self, **document: object) -> None:
        """One line of its own."""
        self.link.sendall(json.dumps(document).encode() + b"\n")

    async def asked(self) -> bytes:
        """What it was told next."""
        self.link.setblocking(False)
        async with asyncio.timeout(WITHIN_S):
            return await asyncio.get_running_loop().sock_recv(self.link, 4096)


async def serving(peer: Peer, told: list[BarriersTold], *, come: bool = True) -> SyncServer:
    """A server to which somebody has come, unless nobody is to."""
    tasks: set[asyncio.Task[None]] = set()

    def spawn(work: Coroutine[Any, Any, None]) -> None:
        tasks.add(asyncio.create_task(work))

    doors = opened("127.0.0.1", 0, Keepalive())
    tell: Callable[[Any], None] = told.append
    company = SimpleNamespace(clock=Clock(), tell=tell, spawn=spawn, trouble=lambda slot, text: None)
    request = Prepare(
        *(0, TASK, 1, Role.MASTER, "127.0.0.1", 8, MEMBERS, "0" * 64, "job", Limits(1 << 20)),
        sync_server=f"127.0.0.1:{doors.port}",
        serve_sync=True,
    )
    processes = cast(SyncProcesses, peer)
    server = SyncServer(0, request, 0, doors, processes, cast(Company, company))
    server.open()
    if not come:
        return server
    with socket.create_connection(("127.0.0.1", doors.port)):
        assert b'"serve"' in await peer.asked()
    return server


@asynccontextmanager
async def served(*, come: bool = True) -> AsyncIterator[tuple[Peer, SyncServer]]:
    """Such a server, whose process is gone afterwards, and so is all of it."""
    with Peer() as peer:
        server = await serving(peer, [], come=come)
        try:
            yield peer, server
        finally:
            peer.link.close()
            await server.close()
