"""A task that is paused stands still, whatever it does, and can be ended all the same."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from keeper.harness import SECONDS, KeeperProcess, Link, TestTask, linked, makefile
from keeper.ordeals import COUNTS, FORKS, WAITS, begin, cgroup_of, pids_of, python, suffer
from syndicate.volunteer.keeper.cgroups import Cgroup, find_mount
from syndicate.volunteer.keeper.errors import failed
from syndicate.volunteer.keeper.freezing import frozen
from syndicate.volunteer.keeper.generation import Generation
from syndicate.volunteer.keeper.ordeal import Ordeal
from syndicate.volunteer.keeper.worker import Worker
from syndicate.volunteer.local import (
    Done,
    ErrorCode,
    Kill,
    Revive,
    Role,
    SetTask,
    SlotState,
    Stamp,
    Start,
    TaskId,
)


async def test_paused_task_stands_still_at_once(link: Link, keeper: KeeperProcess) -> None:
    """From the answer on it does nothing, while its neighbour counts on; resumed it goes on where it was."""
    task = link.task(python(COUNTS))
    other = link.task(python(COUNTS, "slave"), Role.SLAVE, slot=1)
    await begin(task)
    await begin(other)

    paused = await suffer(task, paused=True)
    pids, ticks = pids_of(keeper), _ticks_of(pids_of(keeper))
    # What it had written before may still be on its way: both pipes are read in turn, as far as is there.
    for _ in range(2):
        await _said_more(other, 300)
    said = await _told(task)
    await _said_more(other, 300)

    assert not paused.already
    assert (pids_of(keeper), _ticks_of(pids)) == (pids, ticks)
    assert await _told(task) == said
    await suffer(task)
    await _said_more(task, 300)


async def test_pauses_and_resumes_take_no_time(link: Link) -> None:
    """At least one of some: on a busy machine any of them may be late."""
    task = link.task(WAITS)
    await begin(task)

    done = [(await suffer(task, paused=True), await suffer(task)) for _ in range(5)]

    assert min(paused.took_ns for paused, _ in done) < 1e9
    assert min(resumed.took_ns for _, resumed in done) < 1e9


async def test_what_a_paused_task_forks_stands_still_too(link: Link, keeper: KeeperProcess) -> None:
    """A task that never stops forking is frozen whole: no process of it comes or goes."""
    task = link.task(python(FORKS))
    await begin(task)

    await suffer(task, paused=True)

    before = pids_of(keeper)
    await asyncio.gather(*(link.audit() for _ in range(5)))
    assert pids_of(keeper) == before
    assert cgroup_of(keeper).is_frozen()


async def test_pause_repeated_holds_already(link: Link) -> None:
    """A repeat says so, and so does Synced, to whoever connects."""
    task = link.task(WAITS)
    await begin(task)

    first, again = await suffer(task, paused=True), await suffer(task, paused=True)
    told = (await link.sync()).slots[0]
    resumed, resumed_again = await suffer(task), await suffer(task)

    assert (first.already, again.already, told.paused) == (False, True, True)
    assert (resumed.already, resumed_again.already) == (False, True)
    assert not (await link.sync()).slots[0].paused


async def test_paused_task_is_killed_at_once_and_revived_running(link: Link, keeper: KeeperProcess) -> None:
    """A kill needs no resume, and the next generation starts unfrozen; of some kills, one is quick."""
    task = link.task(WAITS)
    await begin(task)
    took = []
    for generation in (1, 2, 3):
        await suffer(task, paused=True)

        killed = await task.kill(generation)

        took.append(killed.took_ns)
        assert killed.processes == 3
        assert (await task.exit(generation)).killed
        told = (await link.sync()).slots[0]
        assert (told.state, told.paused) == (SlotState.ENDED, False)
        await task.revive(generation + 1)
        await task.said("up", generation + 1)
        assert not cgroup_of(keeper, generation + 1).is_frozen()
        assert (await suffer(task)).already
    assert min(took) < 1e9


async def test_paused_task_is_released(keeper: KeeperProcess) -> None:
    """A release leaves nothing of a task that stands still, and the next one on the slot runs."""
    async with linked(keeper, release=False) as link:
        task = link.task(WAITS)
        await begin(task)
        await suffer(task, paused=True, disk_full=True)

        await task.release()

        assert (await link.audit()).left == ()
    async with linked(keeper) as link:
        again = link.task(
            {"Makefile": makefile("@dd if=/dev/zero of=big bs=1M count=8 status=none; echo ran")}
        )
        ended, output = await again.run()
        assert (ended.status, output) == (0, "ran\n")


async def test_lease_ends_a_paused_task(link: Link) -> None:
    """Where the lease runs out a task that stands still is ended like any other."""
    task = link.task(WAITS)
    await begin(task)
    await suffer(task, paused=True)

    await link.renew(seconds=0)

    assert (await task.exit()).cause == "lease"


async def test_only_what_runs_is_paused(link: Link) -> None:
    """Before its start and after its end there is nothing to pause; to resume is never wrong."""
    task = link.task(WAITS)
    await task.prepare()
    early = await link.refused(SetTask(0, task.id, True, False))
    await link.do(Start(0, task.id, 1))
    await task.said("up")
    await task.kill()

    late = await link.refused(SetTask(0, task.id, True, False))

    assert (early.code, late.code) == (ErrorCode.WRONG_STATE, ErrorCode.WRONG_STATE)
    assert (await suffer(task)).already


async def test_kill_sent_with_a_pause_wins(link: Link) -> None:
    """Whichever comes first, after both the task is dead, and a revival runs."""
    task = link.task(python(FORKS))
    await begin(task)

    _, killed = await asyncio.gather(
        link.ask(SetTask(0, task.id, True, False)), link.ask(Kill(0, task.id, 1))
    )

    assert isinstance(killed, Done)
    assert not (await link.sync()).slots[0].paused
    assert isinstance(await link.ask(Revive(0, task.id, 2, True)), Done)
    await task.said("up", 2)


@pytest.fixture
def frozen_one() -> Iterator[Cgroup]:
    """A cgroup of its own with one process, which sleeps."""
    mount = find_mount()
    assert mount is not None
    cgroup = Cgroup.make(mount / f"syn-freeze-{os.getpid()}")
    process = subprocess.Popen(["/bin/sleep", "1000"])
    try:
        (cgroup.path / "cgroup.procs").write_text(str(process.pid))
        yield cgroup
    finally:
        cgroup.kill()
        process.wait()
        cgroup.remove()


async def test_who_waits_for_the_freeze_can_be_told_to_stop(frozen_one: Cgroup) -> None:
    """Processes that do not freeze are waited for until the time is up, or until they are to be ended."""
    stop = asyncio.Event()

    late = await frozen(frozen_one, 0.02, stop)
    waiting = asyncio.create_task(frozen(frozen_one, 60, stop))
    await asyncio.sleep(0)
    stop.set()
    stopped = await asyncio.wait_for(waiting, SECONDS)
    frozen_one.set_frozen(True)

    assert (late, stopped) == (False, False)
    assert await frozen(frozen_one, SECONDS, asyncio.Event())


@pytest.mark.parametrize("error", [failed("no"), OSError("no"), asyncio.CancelledError()])
async def test_pause_is_taken_back_where_the_disk_cannot_be_filled(
    frozen_one: Cgroup, error: BaseException
) -> None:
    """However that failed: who asked is not told that the task stands still."""

    class Ground:
        def set_disk_full(self, full: bool) -> None:
            raise error

    box = SimpleNamespace(cgroup=frozen_one)
    generation = Generation(1, cast(Any, box), cast(Any, None))
    generation.started_at = Stamp("", 0, 0)
    worker = Worker("syn-test")
    ordeal = Ordeal(
        worker, cast(Any, Ground()), cast(Any, SimpleNamespace(current=generation)), cast(Any, None)
    )
    try:
        with pytest.raises(type(error)):
            await ordeal.undergo(SetTask(0, TaskId("c", 1, 1, "master"), True, True))
    finally:
        worker.close()

    assert not generation.stands_still
    assert not frozen_one.is_frozen()


def _ticks_of(pids: list[int]) -> list[int]:
    """Time on a processor that each has had."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return [int(each[11]) + int(each[12]) for each in fields]


async def _told(task: TestTask) -> int:
    """How many bytes of its output can be read by now."""
    told = 0
    while (further := (await task.read(1, told)).next_offset) > told:
        told = further
    return told


async def _said_more(task: TestTask, more: int) -> None:
    """Return once so many more bytes of it were told."""
    begun = await _told(task)
    async with asyncio.timeout(SECONDS):
        while True:
            task.link.listen()
            if (await task.read(1, begun)).next_offset >= begun + more:
                return
            await task.link.next_event()
