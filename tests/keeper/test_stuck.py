"""Processes that do not end for a while: nobody is told that they did, and nothing comes in their place."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from keeper.harness import CLUSTER, SECONDS, KeeperProcess, linked, makefile, network_instance
from keeper.ordeals import AMPLE, SLOW, pace
from syndicate.volunteer.keeper.limits import find_version_1
from syndicate.volunteer.local import ErrorCode, Exited, Kill, Limits, Refused, Release, Revive, SlotState

# The shell ends with the first kill; what it left does not, while it is frozen.
_WAITS = {"Makefile": makefile("@setsid sleep 1000 & echo up; exec sleep 1000")}


@pytest.fixture
def own(folder: Path) -> Iterator[KeeperProcess]:
    """A keeper with one slot, which must leave nothing."""
    keeper = KeeperProcess(folder, network_instance()[::-1], slots=1)
    keeper.start()
    yield keeper
    assert keeper.stop() == 0, keeper.errors.read_text()
    assert not keeper.cgroup.exists()


@contextmanager
def _stuck(keeper: KeeperProcess, name: str = "sleep") -> Iterator[int]:
    """One of the task's processes of this name, which no signal ends before the context does."""
    hierarchy = find_version_1("freezer")
    if hierarchy is None:
        pytest.skip("without the version 1 freezer no process can be kept from ending")
    freezer = hierarchy / f"syn-{keeper.instance}"
    freezer.mkdir()
    try:
        _until(lambda: name in map(_name, _pids(keeper)))  # a shell says that it is up before it is one
        pid = next(pid for pid in _pids(keeper) if _name(pid) == name)
        (freezer / "cgroup.procs").write_text(str(pid))
        (freezer / "freezer.state").write_text("FROZEN")
        _until(lambda: (freezer / "freezer.state").read_text().strip() == "FROZEN")
        try:
            yield pid
        finally:
            (freezer / "freezer.state").write_text("THAWED")
            with suppress(ProcessLookupError):  # it went with what killed it before
                os.kill(pid, signal.SIGKILL)
        _until(lambda: not (freezer / "cgroup.procs").read_text())
    finally:
        freezer.rmdir()


def _pids(keeper: KeeperProcess) -> list[int]:
    found: list[int] = []
    for file in keeper.cgroup.glob("slot-0/g*/cgroup.procs"):
        with suppress(OSError):  # an ended generation's goes, also between opening and reading (ENODEV)
            found += map(int, file.read_text().split())
    return found


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):  # it ended just now
        return ""


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline


async def test_kill_that_failed_is_no_end(own: KeeperProcess) -> None:
    """While a process of it lives the task is running: no end is told, no Revive or Release passes."""
    async with linked(own) as link:
        task = link.task(_WAITS)
        await task.begin()
        await task.said("up")
        with _stuck(own) as pid:
            killed = await link.refused(Kill(0, task.id, 1))

            revived = await link.refused(Revive(0, task.id, 2, True))

            assert killed.code is ErrorCode.FAILED
            assert revived.code is ErrorCode.WRONG_STATE
            assert (await link.sync()).slots[0].state is SlotState.RUNNING
            assert not [event for event in link.events if isinstance(event, Exited)]
            released = await link.refused(Release(0, task.id))
            assert released.code is ErrorCode.FAILED
            assert pid in _pids(own)

        await task.exit()  # told by itself once the process is gone
        assert (await task.kill()).already
        await task.revive(2)
        await task.said("up", 2)
        await task.release()
        assert (await link.audit()).left == ()


async def test_revival_that_failed_and_cannot_be_ended_leaves_no_half_source(own: KeeperProcess) -> None:
    """The next revival, with the disk too, finds all of it."""
    recipe = "@test -e last && echo whole; echo up; exec sleep 1000"
    many = {f"f{number}": "" for number in range(20_000)}
    async with linked(own) as link:
        task = link.task({"Makefile": makefile(recipe), **many, "last": ""})
        await task.begin(Limits(disk_bytes=256 << 20, disk_inodes=40_000, cpu_millis=AMPLE))
        await task.said("whole")
        await task.kill()
        pace(own, SLOW)
        revival = asyncio.create_task(link.ask(Revive(0, task.id, 2, False)))
        await asyncio.to_thread(_until, lambda: "tar" in map(_name, _pids(own)))
        with _stuck(own, "tar"):
            pace(own, AMPLE)
            await task.kill(2)
            refused = await revival
        assert isinstance(refused, Refused), refused
        assert "do not end" in refused.detail

        await task.revive(3)
        await task.said("up", 3)

        await task.kill(3)
        assert await task.output(3) == "whole\nup\n"


async def test_keeper_outlives_a_process_that_outlives_its_lease(own: KeeperProcess) -> None:
    """A task that cannot be ended when its lease runs out is ended as soon as it can be."""
    async with linked(own) as link:
        task = link.task(_WAITS)
        await task.begin()
        await task.said("up")
        with _stuck(own):
            await link.renew(0.1)
            await asyncio.to_thread(_until, lambda: "do not end" in own.errors.read_text())
            assert (await link.sync()).slots[0].state is SlotState.RUNNING

        assert (await task.exit()).cause == "lease"
        await link.renew()


async def test_release_is_refused_while_a_cgroup_stays(own: KeeperProcess) -> None:
    """What an end could not give back is given back at the release, which says so where it still cannot."""
    async with linked(own) as link:
        task = link.task(_WAITS)
        await task.begin()
        await task.said("up")
        await task.kill()
        await task.revive(2)
        hindrance = own.cgroup / "slot-0" / "g2" / "syn-hindrance"
        hindrance.mkdir()
        (namespace,) = own.slot_mounts()
        enter = ["nsenter", f"--mount={namespace}"]
        await _run([*enter, "mount", "-t", "tmpfs", "syndicate", str(hindrance)])
        await task.kill(2)
        await task.exit(2)

        refused = await link.refused(Release(0, task.id))

        assert refused.code is ErrorCode.FAILED
        await _run([*enter, "umount", str(hindrance)])
        await task.release()
        assert not hindrance.parent.exists()
        assert (await link.audit()).left == ()


async def test_what_waits_at_the_keepers_end_is_not_begun(own: KeeperProcess) -> None:
    """Requests whose turn comes after the end was asked for are not carried out first."""
    assert own.process is not None
    async with linked(own, release=False) as link:
        task = link.task(_WAITS)
        await task.begin()
        await task.said("up")
        with _stuck(own):
            requests = (Kill(0, task.id, 1), Release(0, task.id), task.prepare_request(epoch=9))
            asked = [asyncio.create_task(link.ask(request)) for request in requests]
            await link.audit()  # they were taken; all but the kill wait for their turn
            own.process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(_until, lambda: not own.socket.exists())
        await asyncio.gather(*asked, return_exceptions=True)
    assert await asyncio.to_thread(own.stop) == 0
    assert json.loads((own.state / "epochs.json").read_text()) == {CLUSTER: 1}


async def _run(command: list[str]) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0
