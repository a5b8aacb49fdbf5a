"""A kill answers as soon as no process is left; all else about the end follows."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from keeper.harness import SECONDS, KeeperProcess, Link, TestTask, linked, makefile, network_instance, tarball
from keeper.network_helpers import descriptors, until
from keeper.ordeals import AMPLE, SLOW, pace
from syndicate.volunteer.keeper import calm as calming
from syndicate.volunteer.keeper.box import Box, Site, _make_pipes
from syndicate.volunteer.keeper.calm import Calm
from syndicate.volunteer.keeper.cgroups import Cgroup, find_mount
from syndicate.volunteer.keeper.disk import Disk, DiskSize
from syndicate.volunteer.keeper.errors import KeeperError
from syndicate.volunteer.keeper.launch import Launcher
from syndicate.volunteer.keeper.sandbox import Programs
from syndicate.volunteer.local import Done, Kill, Limits, Reply, Revive, SlotState

_WAITS = {"Makefile": makefile("@setsid sleep 1000 & echo up; exec sleep 1000")}


@pytest.fixture
def own(folder: Path) -> Iterator[KeeperProcess]:
    """A keeper whose descriptors the test may bound."""
    keeper = KeeperProcess(folder, network_instance()[::-1], slots=1)
    keeper.start()
    yield keeper
    keeper.stop()


def _descriptors(pid: int) -> list[int]:
    # Without the one that lists them, where it is this process.
    folder = f"/proc/{pid}/fd"
    return sorted(int(name) for name in os.listdir(folder) if os.path.lexists(f"{folder}/{name}"))


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def _bound(pid: int, free: int) -> None:
    """Leave the process so many descriptors that it can still open."""
    used = set(_descriptors(pid))
    bound = next(number for number in range(1 << 16) if number - len([n for n in used if n < number]) == free)
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (bound, hard))


def _unbound(pid: int) -> None:
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))


async def test_requests_behind_a_kill_find_its_end_recorded(link: Link) -> None:
    """A second kill, a read of the log and a revival, sent at once, find the generation ended and whole."""
    task = link.task(_WAITS)
    await task.begin()
    await task.said("up")

    killed, again, revived = await asyncio.gather(
        link.ask(Kill(0, task.id, 1)), link.ask(Kill(0, task.id, 1)), link.ask(Revive(0, task.id, 2, True))
    )
    read = await task.read(1, 0)

    assert isinstance(killed, Done)
    assert killed.processes == 3
    assert isinstance(again, Done)
    assert again.already
    assert isinstance(revived, Done)
    assert read.end
    assert (await task.exit()).killed


async def test_log_is_whole_right_after_a_kill(link: Link) -> None:
    """A reader that asks as soon as the kill is answered gets the last output and the end of it."""
    task = link.task(_WAITS)
    await task.begin()
    await task.said("up")

    await task.kill()

    read = await task.read(1, 0)
    assert read.end
    assert b"".join(piece.data for piece in read.pieces) == b"up\n"


async def test_kill_answers_when_none_is_left(link: Link, keeper: KeeperProcess) -> None:
    """At the moment of the answer no process of the task is in its cgroup."""
    task = link.task(_WAITS)
    await task.begin()
    await task.said("up")

    await task.kill()

    events = keeper.cgroup / "slot-0" / "cgroup.events"
    assert "populated 0" in events.read_text()


async def _unpacking(link: Link, preparing: asyncio.Task[Reply]) -> None:
    """Return while tar works, which is slow."""
    while not [line for line in (await link.audit()).in_use if line.endswith(" tar")]:
        assert not preparing.done()


def _big(link: Link) -> TestTask:
    return link.task_of(tarball({f"f{number}": "x" * 1000 for number in range(20_000)} | _WAITS))


async def test_sync_stops_a_prepare_of_an_earlier_connection(keeper: KeeperProcess) -> None:
    """Whoever connects anew is told of an empty slot only when nothing is becoming on it."""
    async with linked(keeper, release=False) as first:
        request = _big(first).prepare_request(Limits(disk_bytes=1 << 30, cpu_millis=SLOW))
        preparing = asyncio.create_task(first.ask(request))
        await _unpacking(first, preparing)

        async with linked(keeper) as second:
            slot = (await second.sync()).slots[0]
            audit = await second.audit()

            assert slot.state is SlotState.EMPTY
            assert (audit.in_use, audit.left) == ((), ())
        await asyncio.gather(preparing, return_exceptions=True)


async def test_sync_stops_a_revival_of_an_earlier_connection(keeper: KeeperProcess) -> None:
    """Whoever connects anew is told of an ended task only when no generation of it is becoming."""
    async with linked(keeper, release=False) as first:
        task = _big(first)
        await task.begin(Limits(disk_bytes=1 << 30, cpu_millis=AMPLE))
        await task.kill()
        pace(keeper, SLOW)
        reviving = asyncio.create_task(first.ask(Revive(0, task.id, 2, with_disk=False)))
        await _unpacking(first, reviving)

        async with linked(keeper) as second:
            slot = (await second.sync()).slots[0]
            audit = await second.audit()

            assert slot.state is SlotState.ENDED
            assert [line for line in audit.in_use if line.startswith("process")] == []
        await asyncio.gather(reviving, return_exceptions=True)


def test_pipes_that_cannot_all_be_made_leave_none() -> None:
    """However few descriptors are left, a failure gives back those that were made."""
    before = descriptors()
    try:
        for free in range(11):
            _bound(os.getpid(), free)
            with pytest.raises(OSError, match="Too many open files"):
                _make_pipes()
            _unbound(os.getpid())
            assert descriptors() <= before
    finally:
        _unbound(os.getpid())


def test_process_that_cannot_be_held_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox of which no descriptor can be had is killed and reaped; pipes and cgroup are given back."""

    def no_pidfd(pid: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    mount = find_mount()
    assert mount is not None
    base = Cgroup.make(mount / f"syn-held-{os.getpid()}")
    disk = Disk(tmp_path, DiskSize(1 << 20, 100))
    disk.root.mkdir(parents=True)
    launcher = Launcher.open()
    before, children = descriptors(), set(_children(os.getpid()))
    monkeypatch.setattr(os, "pidfd_open", no_pidfd)
    site = Site(1000, base, tmp_path, Programs(Path("/bin/sleep"), Path("/usr")), (), -1, None, True)
    try:
        with pytest.raises(KeeperError, match="Too many open files"):
            Box.launch(site, launcher, 1, disk, None)

        assert descriptors() <= before
        assert set(_children(os.getpid())) <= children
        assert not (base.path / "g1").exists()
    finally:
        launcher.close()
        base.remove()


async def test_revival_without_descriptors_leaves_nothing(own: KeeperProcess) -> None:
    """However few descriptors are left, a revival that fails gives back what it took, and the next works."""
    assert own.process is not None
    pid = own.process.pid
    async with linked(own) as link:
        task = link.task(_WAITS)
        await task.begin()
        await task.said("up")
        await task.kill()
        await task.exit()
        await link.audit()  # the slot's worker is done with the end
        before, children = len(_descriptors(pid)), set(_children(pid))
        refused = 0
        for free in range(1, 26):
            _bound(pid, free)
            reply = await link.ask(Revive(0, task.id, 2 + free, True))
            _unbound(pid)
            if isinstance(reply, Done):
                break
            refused += 1
            await link.audit()
            # The keeper opens some for a moment by itself.
            until(f"as before, with {free} descriptors", lambda: len(_descriptors(pid)) <= before)
            assert set(_children(pid)) == children, "only the launcher and the sync server that stands by"

        assert refused > 10
        assert refused < 25


async def test_calm_waits_for_the_last_kill() -> None:
    """What can wait goes on once no kill is under way."""
    calm, order = Calm(), []

    async def later() -> None:
        await calm.wait(asyncio.Event())
        order.append("later")

    with calm.kill():
        with calm.kill():
            waiting = asyncio.create_task(later())
            await asyncio.sleep(0)
        order.append("first kill")
    order.append("second kill")
    await waiting

    assert order == ["first kill", "second kill", "later"]


async def test_calm_holds_up_nobody_who_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What somebody asks for goes on at once, and without a kill nothing waits."""
    monkeypatch.setattr(calming, "_MOST_SECONDS", 10 * SECONDS)
    calm, wanted = Calm(), asyncio.Event()

    async with asyncio.timeout(SECONDS):
        await calm.wait(asyncio.Event())
        with calm.kill():
            waiting = asyncio.create_task(calm.wait(wanted))
            await asyncio.sleep(0)
            wanted.set()
            await waiting

    calm.close()


async def test_endless_kills_hold_nothing_up_for_ever() -> None:
    """After a moment the work goes on though kills follow each other."""
    calm = Calm()

    with calm.kill():
        await asyncio.wait_for(calm.wait(asyncio.Event()), SECONDS)

    calm.close()
