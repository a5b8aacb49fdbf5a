"""A store in a folder of the test's, and what stands in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from syndicate.manager.core.model import (
    JobSpec,
    JobState,
    Source,
    Stamp,
)
from syndicate.manager.core.records import (
    JobRecord,
    Record,
)
from syndicate.manager.store import SqliteStore

AT = Stamp("boot", 1, 2)
SPEC = JobSpec("job", Source("0" * 64, 10), 1, None, 0, 60.0)
WAIT_S = 60.0


def job(job_id: int, state: JobState = JobState.QUEUED, owner: str = "alice") -> JobRecord:
    """A job's row."""
    return JobRecord(job_id, f"request-{job_id}", owner, SPEC, state, 1, AT, AT)


class Durable:
    """What the store has told to be durable."""

    def __init__(self) -> None:
        self.tickets: list[int] = []
        self.changed = asyncio.Event()
        self.failure: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    def up_to(self, ticket: int) -> None:
        """The store's callback."""
        self.tickets.append(ticket)
        self.changed.set()

    async def until(self, ticket: int) -> None:
        """Wait until a ticket is durable."""
        async with asyncio.timeout(WAIT_S):
            while not self.tickets or self.tickets[-1] < ticket:
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def opened(path: Path, **options: int) -> AsyncIterator[tuple[SqliteStore, Durable]]:
    """A store that takes records."""
    store, durable = SqliteStore.open(path, **options), Durable()
    store.start(durable.up_to, durable.failure.set_result)
    try:
        yield store, durable
    finally:
        await store.close()


async def saved(path: Path, *records: Record) -> None:
    """Save records and close."""
    async with opened(path) as (store, durable):
        await durable.until(store.submit(records))


async def restored(path: Path, keep_ended: int = 1000) -> list[Record]:
    """What a restart finds."""
    store = SqliteStore.open(path)
    found = list(store.restore(keep_ended))
    await store.close()
    return found
