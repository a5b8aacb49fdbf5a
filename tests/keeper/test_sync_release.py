"""The end of a slot's sync server: what it told last, and a process that does not end at once."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any, cast

import pytest
from keeper.harness import MEMBERS
from syndicate.volunteer.clock import Clock
from syndicate.volunteer.keeper.company import Company
from syndicate.volunteer.keeper.errors import KeeperError, failed
from syndicate.volunteer.keeper.sync_processes import SyncProcess, SyncProcesses
from syndicate.volunteer.keeper.sync_server import SyncServer
from syndicate.volunteer.local import BarriersTold, Limits, Prepare, Role, TaskId
from syndicate.volunteer.sync.core.effects import Opened
from syndicate.volunteer.sync.core.rounds import Rounds
from syndicate.volunteer.sync.doors import Keepalive, opened
from syndicate.volunteer.sync.notices import account

WITHIN_S = 10.0
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

    async def asked(self) -> bytes:
        """What it was told next."""
        self.link.setblocking(False)
        async with asyncio.timeout(WITHIN_S):
            return await asyncio.get_running_loop().sock_recv(self.link, 4096)


async def serving(peer: Peer, told: list[BarriersTold]) -> SyncServer:
    """A server to which somebody has come."""
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
    with socket.create_connection(("127.0.0.1", doors.port)):
        assert b'"serve"' in await peer.asked()
    return server


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
