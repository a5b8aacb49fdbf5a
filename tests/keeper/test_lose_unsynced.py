"""A kill that is a loss of power: what a task synced is there when it is revived, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import signal
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from keeper.harness import SECONDS, KeeperProcess, Link, TestTask, linked, makefile, network_instance
from keeper.ordeals import send_signal, suffer
from syndicate.volunteer.keeper import mounts
from syndicate.volunteer.keeper.disk import Disk, DiskSize
from syndicate.volunteer.keeper.errors import KeeperError
from syndicate.volunteer.local import (
    Done,
    Limits,
    SetTask,
)

from tests.support.cluster import eventually

LIMITS = Limits(disk_bytes=16 << 20)
ITSELF_S = 4.5  # what nobody synced the kernel writes by itself, ext4 after five seconds
# Says what it found, writes one file with and one without a sync, overwrites one that was synced, and tells.
_WRITES = """
import os, sys
print("found", sorted(name for name in os.listdir("data")), flush=True)
if os.path.exists("data/over"):
    print("over", open("data/over").read()[:3], os.path.getsize("data/over"), flush=True)
def write(name, data, sync):
    file = os.open("data/" + name, os.O_CREAT | os.O_WRONLY, 0o600)
    os.write(file, data)
    if sync:
        os.fsync(file)
    os.close(file)
folder = os.open("data", os.O_RDONLY)
write("synced", b"x" * 100_000, True)
write("over", b"old" * 1000, True)
os.fsync(folder)
write("lost", b"x" * 100_000, False)
write("over", b"new" * 1000, False)
print("written", flush=True)
os.execlp("sleep", "sleep", "1000")
"""
_SOURCE = {"Makefile": makefile("@exec python3 it.py"), "it.py": _WRITES, "data/": ""}


async def lay(task: TestTask) -> None:
    assert isinstance(await task.link.do(replace(task.prepare_request(LIMITS), lose_unsynced=True)), Done)


async def begin(task: TestTask) -> None:
    await lay(task)
    await task.start()


async def written(task: TestTask, generation: int) -> None:
    """Return once it wrote, and lives on."""
    await task.said("written", generation)


async def cut_short(
    task: TestTask,
    generation: int,
    start: Callable[[], Awaitable[object]],
    wrote: Callable[[TestTask, int], Awaitable[object]] = written,
) -> tuple[int, Done]:
    """Start this generation and kill it before the kernel has written by itself what it did not sync.

    Where something stood still for so long that it may have, another is tried on a fresh disk. Returns the
    number of the one that was killed in time, and what its kill was answered.
    """
    for _ in range(5):
        began = time.monotonic()
        await start()
        await wrote(task, generation)
        done = await task.kill(generation)
        if time.monotonic() - began < ITSELF_S:
            return generation, done
        generation += 1
        start = partial(task.revive, generation, with_disk=False)
    raise AssertionError(f"not killed within {ITSELF_S} s, however often it was tried")


async def test_what_was_synced_survives_and_nothing_else(link: Link) -> None:
    """Each time anew: the file and the bytes that were synced, and the source, which nobody synced."""
    task = link.task(_SOURCE)
    await lay(task)
    generation, _ = await cut_short(task, 1, task.start)

    for _ in range(3):
        revived = generation + 1
        generation, _ = await cut_short(task, revived, partial(task.revive, revived))

        await task.said("found ['over', 'synced']", revived)
        await task.said("over old 3000", revived)


async def test_a_kill_without_it_keeps_all(link: Link) -> None:
    """The usual disk is memory: a kill ends processes and takes nothing away."""
    task = link.task(_SOURCE)
    await task.begin(LIMITS)
    await task.said("written")

    await task.kill()
    await task.revive(2)

    await task.said("found ['lost', 'over', 'synced']", 2)


async def test_without_the_disk_the_source_alone_is_there(link: Link) -> None:
    """A revival onto a fresh disk finds what the job was submitted with, and loses anew."""
    task = link.task(_SOURCE)
    await begin(task)
    await task.said("written")

    await task.kill()
    last, _ = await cut_short(task, 2, partial(task.revive, 2, with_disk=False))
    await task.revive(last + 1)

    await task.said("found []", 2)
    await task.said("found ['over', 'synced']", last + 1)


async def test_what_ended_by_itself_loses_too_when_it_is_killed(link: Link) -> None:
    """A kill that comes after the end is the end of the power all the same."""
    ends = {**_SOURCE, "it.py": _WRITES.replace('os.execlp("sleep", "sleep", "1000")', "")}
    task = link.task(ends)
    await lay(task)

    last, done = await cut_short(task, 1, task.start, TestTask.exit)
    await task.revive(last + 1)

    assert done.already
    await task.said("found ['over', 'synced']", last + 1)


async def test_an_end_of_its_own_loses_nothing(link: Link) -> None:
    """A program that crashes leaves what it wrote to the kernel, which still has it."""
    ends = {**_SOURCE, "it.py": _WRITES.replace('os.execlp("sleep", "sleep", "1000")', "")}
    task = link.task(ends)
    await begin(task)
    await task.exit()

    await task.revive(2)

    await task.said("found ['lost', 'over', 'synced']", 2)


async def test_its_bounds_hold(link: Link) -> None:
    """A disk of 16 MiB takes about as much, and says that it is full."""
    fills = """
import os
written = 0
try:
    for number in range(20):
        with open(f"big-{number}", "wb", buffering=0) as file:
            for _ in range(64):
                written += file.write(bytes(1 << 16))
except OSError as error:
    print(error.strerror, flush=True)
print("MiB", written >> 20, flush=True)
"""
    task = link.task({"Makefile": makefile("@exec python3 it.py"), "it.py": fills})
    await begin(task)
    await task.exit()

    output = await task.output()

    assert "No space left on device" in output
    found = re.search(r"MiB (\d+)", output)
    assert found is not None
    assert 14 <= int(found[1]) <= 18, output


async def test_a_full_disk_takes_nothing_and_gives_way(link: Link) -> None:
    """DiskFull holds on it as on others, over a loss of power too, and is taken back."""
    # First, and for each USR1. Between that it holds still: what is there as the disk is filled makes room
    # for as much when it goes.
    probes = """
import os, signal
signal.signal(signal.SIGUSR1, lambda number, frame: None)
came, told = os.pipe()
os.set_blocking(told, False)
signal.set_wakeup_fd(told)
while True:
    try:
        with open("probe", "wb") as file:
            file.write(b"x" * 8192)
        now = "room"
    except OSError as error:
        now = error.strerror
    try:
        os.unlink("probe")
    except FileNotFoundError:
        pass
    print(now, flush=True)
    os.read(came, 1)
"""
    task = link.task({"Makefile": makefile("@exec python3 it.py"), "it.py": probes})
    await begin(task)
    await task.said("room")

    await suffer(task, disk_full=True)
    await send_signal(task, signal.SIGUSR1)
    await task.said("No space left on device")
    await task.kill()
    await task.revive(2)
    await task.said("No space left on device", 2)
    await suffer(task)
    await send_signal(task, signal.SIGUSR1, generation=2)

    await task.said("room", 2)


async def test_a_disk_without_power_is_filled_and_healed(link: Link) -> None:
    """While the task is dead, each is done for its next generation, whatever of the filler survived."""
    task = link.task(_SOURCE)
    await lay(task)
    began = time.monotonic()
    await task.start()
    await task.said("written")
    await task.link.do(SetTask(task.slot, task.id, False, True))
    await task.kill()
    first_s = time.monotonic() - began

    await task.link.do(SetTask(task.slot, task.id, False, False))
    began = time.monotonic()
    await task.revive(2)
    await task.said("written", 2)
    await task.kill(2)
    in_time = max(first_s, time.monotonic() - began) < ITSELF_S
    await task.link.do(SetTask(task.slot, task.id, False, True))
    await task.revive(3)

    output = await task_end(task, 3)
    found = "found ['over', 'synced']"
    # After some seconds the kernel has written the name of the third file by itself.
    by_itself = () if in_time else ("found ['lost', 'over', 'synced']",)
    assert output.startswith((found, *by_itself)), output
    assert "No space left on device" in output


async def task_end(task: TestTask, generation: int) -> str:
    """What a generation that fails printed."""
    await task.exit(generation)
    return await task.output(generation)


def test_a_return_of_the_power_that_failed_half_way_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The root is there again after it, and not the empty folder over which it is mounted."""
    skeleton = tmp_path / "skeleton"
    skeleton.mkdir()

    def refuse(_: Path) -> None:
        raise OSError(errno.ENOMEM, "no memory")

    def play() -> list[str]:
        mounts.unshare_mounts()
        disk = Disk.make(tmp_path, skeleton, DiskSize(LIMITS.disk_bytes, 1000, loses=True))
        try:
            (disk.root / "kept").touch()
            disk.settle()
            disk.lose_unsynced()
            with monkeypatch.context() as patched:
                patched.setattr(disk, "_mount_root", refuse)
                with pytest.raises(KeeperError):
                    disk.recover(skeleton)
            disk.recover(skeleton)
            return [entry.name for entry in disk.root.iterdir()]
        finally:
            disk.close()

    with ThreadPoolExecutor(1) as own:
        assert own.submit(play).result(SECONDS) == ["kept"]


def test_a_full_tmp_takes_nothing_of_the_device(tmp_path: Path) -> None:
    """Each has its own bound and room; and without an inode the disk can still be kept full."""
    skeleton = tmp_path / "skeleton"
    skeleton.mkdir()

    def written(path: Path) -> int:
        with path.open("wb", buffering=0) as file:
            code = 0
            while not code:
                try:
                    file.write(bytes(1 << 16))
                    os.fsync(file.fileno())
                except OSError as error:
                    code = error.errno or -1
            assert code == errno.ENOSPC, os.strerror(code)
            return os.fstat(file.fileno()).st_size >> 20

    def play() -> tuple[int, int]:
        mounts.unshare_mounts()
        disk = Disk.make(tmp_path, skeleton, DiskSize(LIMITS.disk_bytes, 1000, loses=True))
        try:
            disk.begin(1)
            found = written(disk.tmp / "x"), written(disk.root / "x")
            with contextlib.suppress(OSError):
                for number in range(20_000):
                    (disk.root / f"file-{number}").touch()
            disk.fill()
            disk.give_back()
            return found
        finally:
            disk.close()

    with ThreadPoolExecutor(1) as own:
        in_tmp, in_root = own.submit(play).result(SECONDS)
    assert in_tmp <= 16
    assert 14 <= in_root <= 18


async def test_nothing_is_left_of_it(link: Link) -> None:
    """After the release no loop device is the slot's, and the next task finds the usual disk."""
    task = link.task(_SOURCE)
    await begin(task)
    await task.said("written")
    # That of a task before it may be gone some moments later only.
    await asyncio.to_thread(eventually, "one is its own", lambda: len(loops_of(link.keeper)) == 1, SECONDS)

    await task.release()

    await asyncio.to_thread(eventually, "the device is nobody's", lambda: not loops_of(link.keeper), SECONDS)
    other = link.task(_SOURCE)
    await other.begin(LIMITS)
    await other.said("written")
    assert not loops_of(link.keeper)


async def test_a_keeper_that_is_killed_without_power_leaves_no_device(folder: Path) -> None:
    """The kernel lets go of the disk with the last process that saw it; the next keeper starts."""
    keeper = KeeperProcess(folder, network_instance()[::-1], slots=1)
    keeper.start()
    try:
        async with linked(keeper, release=False) as link:
            task = link.task(_SOURCE)
            await begin(task)
            await task.said("written")
            await task.kill()
            assert len(loops_of(keeper)) == 1
            keeper.stop(signal.SIGKILL)
        await asyncio.to_thread(eventually, "the device is nobody's", lambda: not loops_of(keeper), SECONDS)
        keeper.start()
    finally:
        assert keeper.stop() == 0


def loops_of(keeper: KeeperProcess) -> list[str]:
    """Files of this keeper that are loop devices."""
    found = []
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):  # the kernel lets go of it just now
            found.append(path.read_text().strip())
    return [name for name in found if str(keeper.state) in name]


async def test_with_everything_full_it_is_killed_and_revived_all_the_same(link: Link) -> None:
    """Neither the loss of the power nor its return needs room that a task took."""
    fills = """
import os
for place in ("/tmp", "/dev/shm", "."):
    try:
        number = 0
        while True:
            with open(f"{place}/{number}", "wb", buffering=0) as file:
                for _ in range(64):
                    file.write(bytes(1 << 16))
            number += 1
    except OSError as error:
        print(place, error.strerror, flush=True)
print("full", flush=True)
os.execlp("sleep", "sleep", "1000")
"""
    task = link.task({"Makefile": makefile("@exec python3 it.py"), "it.py": fills})
    await begin(task)

    for generation in (1, 2):
        await task.said("full", generation)
        await task.kill(generation)
        await task.revive(generation + 1)

    await task.said("full", 3)
