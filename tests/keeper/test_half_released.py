"""A slot of which something could not be taken away: what is asked of it is refused, and ends no keeper."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from keeper.harness import KeeperProcess, Link, TestTask, linked, makefile, network_instance
from keeper.ordeals import cgroup_of
from syndicate.volunteer.keeper.logs import LogStore
from syndicate.volunteer.local import (
    WHOLE,
    Audit,
    Done,
    DropBarriers,
    ErrorCode,
    Kill,
    LogRead,
    LogStream,
    NetworkState,
    ReadDisk,
    ReadLog,
    Refused,
    Release,
    Request,
    Revive,
    Role,
    SetNetwork,
    SetTask,
    Signal,
    SlotState,
    Stamp,
)

_SOURCE = {"Makefile": makefile("@echo up; exec sleep 1000") + "slave:\n\t@echo up; exec sleep 1000\n"}
_CUT = NetworkState(cut=("10.88.0.9",))
# A fabric whose ports do not go down while a file lies in the keeper's state folder.
# Where it is, what the kernel has of it cannot be told either.
_STUCK_PORTS = """
import os
from syndicate.volunteer.keeper.network import FabricNetwork, NetworkError
from syndicate.volunteer.keeper.network._fabric_slot import FabricSlot

bring_down = FabricSlot._bring_down

def stuck(self):
    if os.path.exists({path!r}):
        raise NetworkError("a port does not go down", 5)
    bring_down(self)

leftovers = FabricNetwork.leftovers

def untold(self):
    if os.path.exists({path!r}):
        raise NetworkError("the kernel does not answer", 5)
    return leftovers(self)

FabricSlot._bring_down = stuck
FabricNetwork.leftovers = untold
"""
# What stays of a slot, and where a file lies that is in its way.
_HINDRANCES = {"folder": "slots/0/hindrance", "disk": "slots/0/disk/hindrance", "network": "hindrance"}


@pytest.fixture
def own(folder: Path) -> Iterator[KeeperProcess]:
    """A keeper with two slots, whose networks stay where a file says so."""
    keeper = KeeperProcess(folder, network_instance()[::-1], slots=2)
    keeper.start_changed(_STUCK_PORTS.format(path=str(keeper.state / _HINDRANCES["network"])))
    yield keeper
    assert keeper.stop() == 0


@contextmanager
def _hindered(keeper: KeeperProcess, what: str) -> Iterator[None]:
    """Meanwhile this stays of slot 0, or of any slot."""
    # The mounts of slots are not to be seen from here: it lies beneath the disk.
    path = keeper.state / _HINDRANCES[what]
    path.touch()
    try:
        yield
    finally:
        path.unlink()


async def _begin(task: TestTask) -> None:
    await task.begin()
    await task.said("up")


async def _release_by_half(link: Link, task: TestTask) -> None:
    refused = await link.refused(Release(task.slot, task.id))
    assert refused.code is ErrorCode.FAILED


def _of_a_whole_slot(task: TestTask) -> dict[str, Request]:
    """What can be asked only where disk and network are."""
    slot, own = task.slot, task.id
    return {
        "prepare": task.prepare_request(),
        "whole": SetNetwork(slot, own, WHOLE),
        "cut": SetNetwork(slot, own, _CUT),
        "pause": SetTask(slot, own, True, False),
        "fill": SetTask(slot, own, False, True),
        "signal": Signal(slot, own, 1, 10, "one"),
        "revive": Revive(slot, own, 2, True),
        "revive afresh": Revive(slot, own, 2, False),
        "read disk": ReadDisk(slot, own, 0, 4096),
    }


@pytest.mark.parametrize("what", _HINDRANCES)
async def test_nothing_is_done_to_what_is_left(own: KeeperProcess, what: str) -> None:
    """Neither fault nor revival nor a look at its disk; the next Release leaves nothing."""
    async with linked(own) as link:
        task = link.task(_SOURCE)
        await _begin(task)
        with _hindered(own, what):
            await _release_by_half(link, task)

            told = {name: await link.ask(request) for name, request in _of_a_whole_slot(task).items()}
            assert (await link.sync()).slots[0].state is SlotState.ENDED

        await task.release()
        assert (await link.audit()).left == ()
        await _begin(link.task(_SOURCE))
    codes = {name: reply.code if isinstance(reply, Refused) else reply for name, reply in told.items()}
    assert codes == dict.fromkeys(told, ErrorCode.WRONG_STATE)


@pytest.mark.parametrize("what", _HINDRANCES)
async def test_what_was_is_told_on(own: KeeperProcess, what: str) -> None:
    """That it was started and has ended; its output is gone. An audit and a failed Release are answered."""
    async with linked(own) as link:
        task = link.task(_SOURCE)
        await _begin(task)
        with _hindered(own, what):
            await _release_by_half(link, task)

            assert (await task.start()).already
            assert (await task.kill()).already
            read = await task.read(1, 0)
            dropped = await link.refused(DropBarriers(0, task.id, "", "one"))
            audit = await link.ask(Audit())
            await _release_by_half(link, task)

    assert isinstance(audit, Refused) == (what == "network")
    assert (read.pieces, read.end) == ((), True)
    assert dropped.code is ErrorCode.WRONG_STATE


@pytest.mark.parametrize("what", _HINDRANCES)
async def test_others_of_the_same_moment_are_changed(own: KeeperProcess, what: str) -> None:
    """A cut of two slots, one of them released by half, comes in one read: the other's holds."""
    async with linked(own) as link:
        task, other = link.task(_SOURCE), link.task(_SOURCE, Role.SLAVE, slot=1)
        await _begin(task)
        await _begin(other)
        with _hindered(own, what):
            await _release_by_half(link, task)

            half, whole = await asyncio.gather(
                *(link.ask(SetNetwork(each.slot, each.id, _CUT)) for each in (task, other))
            )
            suffered = (await link.sync()).slots[1].network

    assert isinstance(half, Refused) and half.code is ErrorCode.WRONG_STATE
    assert isinstance(whole, Done) and not whole.already
    assert suffered == _CUT


async def test_a_network_that_is_half_closed_is_no_other_tasks(own: KeeperProcess) -> None:
    """No sandbox is made in what is left of it; once it can be closed the next task has another."""
    async with linked(own) as link:
        task = link.task(_SOURCE)
        with _hindered(own, "network"):
            await link.refused(link.task_of(b"not a tar").prepare_request())
            await link.sync()  # what the slot makes ahead of the next task was tried by then

            assert cgroup_of(own).pids() == []
            await link.refused(task.prepare_request())
        await _begin(task)


async def test_output_that_cannot_be_read_is_refused(own: KeeperProcess) -> None:
    """Somebody took the file away: the keeper goes on, and the slot is released all the same."""
    async with linked(own) as link:
        task = link.task(_SOURCE)
        await _begin(task)
        await task.kill()
        (own.state / "slots" / "0" / "log-1.head").unlink()

        refused = await link.refused(ReadLog(0, task.id, 1, 0, 4096))

        assert refused.code is ErrorCode.FAILED
        await task.release()


async def test_a_kill_after_the_disk_was_half_removed(own: KeeperProcess) -> None:
    """A revival came to nothing, and there is no disk any more whose power could fail."""
    async with linked(own) as link:
        task = link.task({"Makefile": makefile("@echo ran")})
        await link.do(replace(task.prepare_request(), lose_unsynced=True))
        await task.start()
        await task.exit()
        with _hindered(own, "disk"):
            assert (await link.refused(Revive(0, task.id, 2, False))).code is ErrorCode.FAILED

            refused = await link.refused(Kill(0, task.id, 1))

            assert refused.code is ErrorCode.FAILED
        await task.release()


def test_logs_that_could_not_be_removed_are_removed_by_the_next_try(tmp_path: Path) -> None:
    """Both files: else their folder, and the slot with it, would be taken for ever."""
    store = LogStore(tmp_path, 1, "boot", 100, 10_000)
    store.append(LogStream.STDOUT, Stamp("boot", 1, 1), bytes(1000))
    store.finish()
    head = tmp_path / "log-1.head"
    head.unlink()
    head.mkdir()

    with pytest.raises(OSError, match=r"log-1\.head"):
        store.close()
    head.rmdir()
    store.close()

    assert os.listdir(tmp_path) == []
    assert store.read(0, 4096) == LogRead((), 0, True)
