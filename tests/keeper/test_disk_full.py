"""A disk that is filled takes nothing until it is healed, and is not laid to the task."""

from __future__ import annotations

import asyncio
import signal
import time

from keeper.harness import SECONDS, Link, TestTask
from keeper.ordeals import begin, python, send_signal, suffer
from syndicate.volunteer.local import Annotation

# Says first, and for each USR1, whether there is room for bytes, and for names, in every place of its disk.
# Between that it holds still: what is there as the disk is filled makes room for as much when it goes.
_LOOKS = """
import os, signal
signal.signal(signal.SIGUSR1, lambda number, frame: None)
came, told = os.pipe()
os.set_blocking(told, False)
signal.set_wakeup_fd(told)
open("mine", "wb").write(bytes(1 << 20))
while True:
    now = []
    for place in (".", "/tmp", "/dev/shm"):
        try:
            with open(f"{place}/probe", "wb") as file:
                file.write(b"x" * 8192)
            now.append("room")
        except OSError as error:
            now.append(os.strerror(error.errno))
        try:
            os.unlink(f"{place}/probe")
        except FileNotFoundError:
            pass
        try:
            os.mkdir(f"{place}/folder")
            os.rmdir(f"{place}/folder")
            now.append("room")
        except OSError as error:
            now.append(os.strerror(error.errno))
    print("; ".join(now), flush=True)
    os.read(came, 1)
"""
_ROOM = "; ".join(["room"] * 6)
_FULL = "; ".join(["No space left on device"] * 6)
_REUSES = """
import os, time
with open("mine", "wb") as file:
    file.write(bytes(1 << 20))
print("up", flush=True)
while os.statvfs(".").f_bfree:
    time.sleep(0.002)
with open("mine", "r+b") as file:
    file.write(b"1" * (1 << 20))
print("overwritten", flush=True)
os.unlink("mine")
with open("again", "wb") as file:
    file.write(bytes(1 << 20))
print("written again", flush=True)
try:
    open("again", "ab").write(bytes(1 << 20))
except OSError as error:
    print(error.strerror, flush=True)
os.execlp("sleep", "sleep", "1000")
"""
# Each time round it takes a page more: what is deleted makes room for as much, and would do for ever.
_POURS = """
import os
with open("mine", "wb", buffering=0) as file:
    print("up", flush=True)
    top = 8 << 20
    try:
        while top < 24 << 20:
            file.write(bytes(1 << 12))
            if file.tell() == top:
                file.seek(0)
                file.truncate()
                top += 1 << 12
    except OSError as error:
        print(error.strerror, flush=True)
os.execlp("sleep", "sleep", "1000")
"""


async def test_full_disk_takes_nothing_until_it_is_healed(link: Link) -> None:
    """In all places that are of its disk the task finds no room, and all of it again after the heal."""
    task = link.task(python(_LOOKS))
    await begin(task, _ROOM)

    filled = await suffer(task, disk_full=True)
    await send_signal(task, signal.SIGUSR1)
    await task.said(_FULL)
    told = (await link.sync()).slots[0]
    healed = await suffer(task)
    await send_signal(task, signal.SIGUSR1)

    await _said(task, 1, f"{_FULL}\n{_ROOM}\n")
    assert (filled.already, told.disk_full, healed.already) == (False, True, False)


async def _said(task: TestTask, generation: int, text: str) -> None:
    """Return once this is in its output."""
    async with asyncio.timeout(SECONDS):
        while True:
            task.link.listen()
            if text in await _output_of(task, generation):
                return
            await task.link.next_event()


async def _output_of(task: TestTask, generation: int = 1) -> str:
    return b"".join(piece.data for piece in (await task.read(generation, 0)).pieces).decode()


async def test_what_is_on_a_full_disk_can_be_overwritten_and_deleted(link: Link) -> None:
    """As on any full disk; what was deleted makes room for as much, and no more."""
    task = link.task(python(_REUSES))
    await begin(task)

    await suffer(task, disk_full=True)

    await task.said("No space left on device")
    lines = (await _output_of(task)).splitlines()
    assert lines == ["up", "overwritten", "written again", "No space left on device"]


async def test_disk_fills_under_a_task_that_writes_all_the_time(link: Link) -> None:
    """However quickly it writes, the room is gone when the answer comes."""
    task = link.task(python(_POURS))
    await begin(task)

    await suffer(task, disk_full=True)

    await task.said("No space left on device")


async def test_disk_stays_full_over_kill_and_revival(link: Link) -> None:
    """Also a fresh disk is full, once the source is on it; and a heal while nothing runs is one."""
    task = link.task(python(_LOOKS))
    await begin(task, _ROOM)
    await suffer(task, disk_full=True)
    await task.kill()

    await task.revive(2)
    await task.said(_FULL, 2)
    await task.kill(2)
    await task.revive(3, with_disk=False)
    await _said(task, 3, "No space left on device")
    await task.kill(3)
    await suffer(task)
    await task.revive(4, with_disk=False)

    await task.said(_ROOM, 4)


async def test_full_disk_is_not_laid_to_the_task(link: Link) -> None:
    """A disk that was filled by a fault is no bound that the task met."""
    task = link.task(python(_REUSES))
    await begin(task)
    await suffer(task, disk_full=True)
    await task.said("No space left on device")
    # The disk is looked at each second, and at the end.
    began = time.monotonic()
    async with asyncio.timeout(SECONDS):
        while time.monotonic() < began + 1.2:
            await link.audit()

    await task.kill()

    assert Annotation.DISK_FULL not in (await task.exit()).annotations


async def test_empty_source_leaves_a_disk_that_can_be_filled(link: Link) -> None:
    """A disk with no byte on it has no room left either: to the kernel a bound of nothing is none."""
    task = link.task({"Makefile": ""})
    await task.prepare()

    filled = await suffer(task, disk_full=True)
    await suffer(task)

    assert not filled.already
