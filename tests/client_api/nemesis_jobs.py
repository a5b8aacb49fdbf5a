"""What the tests of a nemesis share: a job of five on the fake, its schedules, and what to look for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from syndicate.client_api import AioNemesis, TaskState, nemesis
from syndicate.client_api.nemesis import Event, Schedule
from syndicate.client_api.testing import FakeJob

FIVE = [f"10.77.0.{number}" for number in range(11, 16)]
NAMES = ("master", "slave-0", "slave-1", "slave-2", "slave-3")
WAIT_S = 60.0
EVERYTHING = [
    nemesis.kill(rate=5, duration=(0.02, 0.1)),
    nemesis.pause(rate=5, duration=0.05, whom="minority"),
    nemesis.disconnect(rate=5, duration=0.05),
    nemesis.reset(rate=5, duration=0.05),
    nemesis.partition("majority-ring", rate=5, duration=0.05),
    nemesis.degrade(loss="10%", rate=5, duration=0.05),
    nemesis.disk_full(rate=5, duration=0.05),
    nemesis.signal("QUIT", rate=5, duration=0.05),
]


def of(*events: Event, duration_ms: int = 300) -> Schedule:
    return Schedule(1, duration_ms, NAMES, events)


def at(job: FakeJob, task: str) -> Any:
    return next(member for member in job.members if member.task == task)


def all_is_well(job: FakeJob) -> bool:
    lives = all(member.state is TaskState.RUNNING for member in job.members)
    return lives and not any(fault.in_force for fault in job.faults)


def calls(job: FakeJob, *rpcs: str) -> list[Any]:
    return [call for call in job.calls if call.rpc in rpcs]


async def struck(monkey: AioNemesis) -> None:
    """Waits for the first fault to hold."""
    await asyncio.to_thread(until, lambda: bool(monkey.windows()))


def until(so: Callable[[], bool]) -> None:
    """Waits for what another thread brings about."""
    done = threading.Event()
    for _ in range(int(WAIT_S / 0.005)):
        if so():
            return
        done.wait(0.005)
    raise AssertionError("it did not come")
