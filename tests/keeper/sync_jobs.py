"""Tasks of a job whose master serves the barriers, and what is told of these."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from keeper.harness import MEMBERS, KeeperProcess, Link, TestTask, makefile
from syndicate.volunteer.local import (
    BarriersTold,
    Role,
)

SERVER = f"{MEMBERS[0].address}:16534"

WITHIN_S = 60.0


def source(recipe: str, role: Role = Role.MASTER) -> dict[str, str]:
    """A task that does this, and nothing before."""
    return {"Makefile": makefile(recipe, role.value)}


async def prepare(task: TestTask, serves: bool | None = None) -> None:
    """Lay it down in a job whose master serves the barriers."""
    serve = task.role is Role.MASTER if serves is None else serves
    request = replace(task.prepare_request(), sync_server=SERVER, serve_sync=serve)
    await task.link.do(request)


async def begin(*tasks: TestTask) -> None:
    """Lay them down, and start them once all are."""
    for task in tasks:
        await prepare(task)
    for task in tasks:
        await task.start()


async def told(
    link: Link, wanted: Callable[[BarriersTold], bool], within_s: float = WITHIN_S
) -> BarriersTold:
    """The first account that is so; raises TimeoutError."""
    async with asyncio.timeout(within_s):
        while True:
            link.listen()
            for event in link.events:
                if isinstance(event, BarriersTold) and wanted(event):
                    return event
            await link.next_event()


def servers(keeper: KeeperProcess) -> list[Path]:
    """The cgroups of sync servers, and of the one that stands by."""
    return sorted(keeper.cgroup.glob("sync-*"))


async def await_servers(keeper: KeeperProcess, number: int) -> list[Path]:
    """Those cgroups, once there are so many; one that stands by is started after an account was told."""
    async with asyncio.timeout(WITHIN_S):
        while len(found := servers(keeper)) != number:  # noqa: ASYNC110  # no event of the protocol tells it
            await asyncio.sleep(0.005)
    return found


def remaining(account: BarriersTold) -> dict[str, int]:
    """How many each open barrier waits for."""
    return {one.barrier: one.remaining for one in account.open}
