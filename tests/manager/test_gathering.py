"""A crowd that gathers: what each hands over costs the same, however many wait."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from syndicate.manager.core.effects import ClientsReply, ClientView
from syndicate.manager.core.events import ChaosCaller, ClientsRequested
from syndicate.manager.core.model import TaskRef
from syndicate.manager.engine import Engine
from syndicate.manager.rpc import Shelves
from syndicate.manager.rpc.gathering import Gatherings
from syndicate.manager.rpc.histories import ClientsHistories
from syndicate.manager.rpc.types import Context
from syndicate.manager.wakers import Wakers
from syndicate.v1 import chaos_pb2 as chaos

CROWD = 120
WAIT_S = 60.0


class Job:
    """What the servicer asks of the engine: the clients of one job; counts the clients that it told of."""

    def __init__(self) -> None:
        self.changed = Wakers()
        self.clients = [ClientView(f"client-{number}", 1, over=False) for number in range(CROWD)]
        self.asked = 0
        self.listed = asyncio.Event()
        self.told = 0

    async def call(self, make: Callable[[int], ClientsRequested]) -> ClientsReply:
        """Answers as the core does."""
        event = make(0)
        self.asked += 1
        found = tuple(self.clients) if event.everybody else ()
        self.told += len(found)
        if found:
            self.listed.set()
        return ClientsReply(found)


class Servicer(ClientsHistories):
    """Takes the caller for the context."""

    def __init__(self, job: Job, shelves: Shelves) -> None:
        self._engine = cast(Engine, job)
        self._shelves = shelves
        self._gatherings = Gatherings(job.changed, shelves)

    async def _client(self, context: Any, method: str) -> ChaosCaller:
        return cast(ChaosCaller, context)


def caller(number: int) -> Context:
    """One of the crowd."""
    return cast(Context, ChaosCaller("node-a", TaskRef("cluster", 7, 1, f"client-{number}", 1)))


LAST = chaos.PutHistoryRequest(data=b"x", sha256=hashlib.sha256(b"x").hexdigest(), final=True)


@asynccontextmanager
async def gathering(folder: Path) -> AsyncIterator[tuple[Job, Servicer, list[asyncio.Task[Any]]]]:
    """Everybody gathers, and nobody has handed anything over."""
    job = Job()
    with ThreadPoolExecutor(2) as files:
        servicer = Servicer(job, Shelves(folder, files))
        request = chaos.GatherHistoriesRequest(wait_s=WAIT_S)
        async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:
            waiting = [
                group.create_task(servicer.GatherHistories(request, caller(number)))
                for number in range(CROWD)
            ]
            await job.listed.wait()
            yield job, servicer, waiting


async def test_what_closes_is_counted_and_not_looked_up_by_everybody(tmp_path: Path) -> None:
    """The list of the clients is made once for all who wait, not for each piece and each gatherer again."""
    async with gathering(tmp_path) as (job, servicer, waiting):
        for number in range(CROWD):
            await servicer.PutHistory(LAST, caller(number))
        answers = await asyncio.gather(*waiting)

    assert {len(answer.histories) for answer in answers} == {CROWD}
    assert [list(answer.missing) for answer in answers] == [[]] * CROWD
    assert job.told == CROWD
    assert job.asked <= 2 * CROWD + 2  # each gatherer and each piece proves who it is
    assert servicer._gatherings._open == {}


async def test_a_change_of_the_job_is_looked_up_by_one_of_them(tmp_path: Path) -> None:
    """For all; who ended meanwhile without a word is told as missing."""
    async with gathering(tmp_path) as (job, servicer, waiting):
        job.clients[3] = ClientView("client-3", 1, over=True)
        job.changed.wake(7)
        waiting.pop(3).cancel()
        for number in range(CROWD):
            if number != 3:
                await servicer.PutHistory(LAST, caller(number))
        answers = await asyncio.gather(*waiting)

    assert [list(answer.missing) for answer in answers] == [["client-3"]] * (CROWD - 1)
    assert job.told <= 3 * CROWD
