"""A keeper that dies leaves nothing behind of what its tasks suffered, and mends what dies beside it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from keeper.harness import SECONDS, KeeperProcess, linked, makefile, network_instance
from keeper.ordeals import COUNTS, FORKS, begin, cgroup_of, python, suffer
from syndicate.volunteer.keeper.cgroups import Cgroup
from syndicate.volunteer.local import (
    Degradation,
    LinkState,
    NetworkState,
    SetNetwork,
    SetTask,
    Signal,
    SlotState,
)


@pytest.fixture
def own(folder: Path) -> Iterator[KeeperProcess]:
    """A keeper that the test may end."""
    keeper = KeeperProcess(folder, network_instance()[::-1], slots=1)
    keeper.start()
    yield keeper
    keeper.stop()


@pytest.mark.parametrize("paused", [True, False])
async def test_killed_keeper_leaves_no_ordeal_behind(own: KeeperProcess, paused: bool) -> None:
    """A task that stands still on a full disk goes with its keeper, and the next one starts clean."""
    async with linked(own, release=False) as link:
        task = link.task(python(COUNTS))
        await begin(task)
        await suffer(task, paused=paused, disk_full=True)
        cgroup = cgroup_of(own)

        own.stop(signal.SIGKILL)

    await _emptied(cgroup)
    own.start()
    async with linked(own) as link:
        told, audit = (await link.sync()).slots[0], await link.audit()
        assert (told.state, told.paused, told.disk_full) == (SlotState.EMPTY, False, False)
        assert (audit.in_use, audit.left) == ((), ())
        again = link.task({"Makefile": makefile("@echo ran")})
        assert (await again.run())[1] == "ran\n"


async def test_keeper_killed_as_it_is_asked_leaves_nothing(own: KeeperProcess) -> None:
    """Between what was asked and what was done there is nothing that the next keeper does not clean up."""
    async with linked(own, release=False) as link:
        task = link.task(python(FORKS))
        await begin(task)
        cgroup = cgroup_of(own)
        asked = [
            asyncio.create_task(link.ask(request))
            for request in (SetTask(0, task.id, True, True), Signal(0, task.id, 1, 10, "x"))
        ]
        await asyncio.sleep(0)

        own.stop(signal.SIGKILL)
        await asyncio.gather(*asked, return_exceptions=True)

    await _emptied(cgroup)
    own.start()
    async with linked(own) as link:
        assert (await link.sync()).slots[0].state is SlotState.EMPTY
        assert (await link.audit()).left == ()


async def test_delay_line_that_dies_runs_again_and_is_logged(own: KeeperProcess) -> None:
    """Without anybody's asking; the log has the line for an operator."""
    async with linked(own) as link:
        task = link.task(python(COUNTS))
        await begin(task)
        late = NetworkState(links=(LinkState("", Degradation(delay_ms=5.0)),))
        await link.do(SetNetwork(0, task.id, late))
        [before] = _delay_lines(own)

        os.kill(before, signal.SIGKILL)

        async with asyncio.timeout(SECONDS):
            while not set(_delay_lines(own)) - {before}:  # noqa: ASYNC110  # no event of the protocol tells it
                await asyncio.sleep(0.005)
    lines = [json.loads(line) for line in own.errors.read_text().splitlines() if line.startswith("{")]
    [told] = [line["detail"] for line in lines if line["event"] == "network.trouble"]
    assert told == "the delay line ended with status -9 and is started again"


def _delay_lines(keeper: KeeperProcess) -> list[int]:
    """The keeper's processes that are one, and have not ended."""
    assert keeper.process is not None
    found = []
    for children in Path(f"/proc/{keeper.process.pid}/task").glob("*/children"):
        # A thread or a process that has just ended, before its file was opened or after.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for pid in children.read_text().split():
                if b"_delay_process.py" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(int(pid))
    return found


async def _emptied(cgroup: Cgroup) -> None:
    """Return once no process is left in it: the kernel ends a frozen task like any other."""
    async with asyncio.timeout(SECONDS):
        while not cgroup.is_empty():  # noqa: ASYNC110  # who ends them has gone, and tells nobody
            await asyncio.sleep(0.005)
