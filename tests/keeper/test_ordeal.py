"""What a task suffers beside its network: it stands still, its disk is full, it gets signals."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from keeper.harness import SECONDS, KeeperProcess, Link, TestTask, linked, makefile, network_instance
from syndicate.volunteer.keeper.cgroups import Cgroup, find_mount
from syndicate.volunteer.keeper.freezing import frozen
from syndicate.volunteer.local import (
    Annotation,
    Done,
    ErrorCode,
    Kill,
    Revive,
    Role,
    SetTask,
    Signal,
    SlotState,
    Start,
)

_COUNTS = """
import time
n = 0
print("up", flush=True)
while True:
    n += 1
    print(n, flush=True)
    time.sleep(0.001)
"""
_FORKS = """
import os
print("up", flush=True)
while True:
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
"""
# Says each time that it changes whether there is room for bytes, and for names, in every place of its disk.
_WRITES = """
import os, time
open("mine", "wb").write(bytes(1 << 20))
places, before = (".", "/tmp", "/dev/shm"), ()
while True:
    now = []
    for place in places:
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
    if now != before:
        print("; ".join(now), flush=True)
        before = now
    time.sleep(0.002)
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
_POURS = """
import os
print("up", flush=True)
with open("mine", "wb", buffering=0) as file:
    try:
        while file.tell() < 24 << 20:
            file.write(bytes(1 << 12))
            if file.tell() % (8 << 20) == 0:
                file.seek(0)
                file.truncate()
    except OSError as error:
        print(error.strerror, flush=True)
os.execlp("sleep", "sleep", "1000")
"""
# Handlers run between two steps of Python: a signal that came right before a pause() would go unseen.
_CATCHES = """
import os, signal, sys

def caught(number, frame):
    print("caught", number, flush=True)
    if number == signal.SIGTERM:
        sys.exit(0)

for each in (signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1):
    signal.signal(each, caught)
came, told = os.pipe()
os.set_blocking(told, False)
signal.set_wakeup_fd(told)
print("up", flush=True)
while True:
    os.read(came, 1)
"""
_CAUGHT_UNDER_A_SHELL = {"Makefile": makefile("@python3 catch.py; echo after $$?"), "catch.py": _CATCHES}
_WAITS = {"Makefile": makefile("@setsid sleep 1000 & echo up; exec sleep 1000")}
_names = count()


@pytest.fixture
def own(folder: Path) -> Iterator[KeeperProcess]:
    """A keeper that the test may end."""
    keeper = KeeperProcess(folder, network_instance()[::-1], slots=1)
    keeper.start()
    yield keeper
    keeper.stop()


def _python(program: str, role: str = "master") -> dict[str, str]:
    return {"Makefile": makefile("@exec python3 it.py", role), "it.py": program}


async def _begin(task: TestTask, line: str = "up") -> None:
    await task.begin()
    await task.said(line)


async def _set(task: TestTask, paused: bool = False, disk_full: bool = False) -> Done:
    return await task.link.do(SetTask(task.slot, task.id, paused, disk_full))


async def _signal(task: TestTask, number: int, generation: int = 1, name: str = "") -> Done:
    name = name or f"signal-{next(_names)}"
    return await task.link.do(Signal(task.slot, task.id, generation, int(number), name))


def _cgroup(keeper: KeeperProcess, generation: int = 1, slot: int = 0) -> Cgroup:
    return Cgroup(keeper.cgroup / f"slot-{slot}" / f"g{generation}")


def _pids(keeper: KeeperProcess, generation: int = 1) -> list[int]:
    return _cgroup(keeper, generation).pids()


def _ticks(pids: list[int]) -> list[int]:
    """Time on a processor that each has had."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return [int(each[11]) + int(each[12]) for each in fields]


async def _lines(task: TestTask, more: int) -> None:
    """Return once so many more bytes of it were told."""
    begun = (await task.read(1, 0)).next_offset
    async with asyncio.timeout(SECONDS):
        while True:
            task.link.listen()
            if (await task.read(1, begun)).next_offset >= begun + more:
                return
            await task.link.next_event()


# ---- standing still


async def test_paused_task_stands_still_at_once(link: Link, keeper: KeeperProcess) -> None:
    """From the answer on it does nothing, while its neighbour counts on; resumed it goes on where it was."""
    task = link.task(_python(_COUNTS))
    other = link.task(_python(_COUNTS, "slave"), Role.SLAVE, slot=1)
    await _begin(task)
    await _begin(other)

    paused = await _set(task, paused=True)
    pids, ticks, said = _pids(keeper), _ticks(_pids(keeper)), (await task.read(1, 0)).next_offset
    await _lines(other, 300)

    assert not paused.already
    assert (_pids(keeper), _ticks(pids)) == (pids, ticks)
    # What it had written before may still be on its way through the pipe.
    assert (await task.read(1, 0)).next_offset - said < 100
    assert (await _set(task)).took_ns < 1e9
    await _lines(task, 300)


async def test_what_a_paused_task_forks_stands_still_too(link: Link, keeper: KeeperProcess) -> None:
    """A task that never stops forking is frozen whole: no process of it comes or goes."""
    task = link.task(_python(_FORKS))
    await _begin(task)

    await _set(task, paused=True)

    before = _pids(keeper)
    await asyncio.gather(*(link.audit() for _ in range(5)))
    assert _pids(keeper) == before
    assert _cgroup(keeper).is_frozen()


async def test_pause_repeated_holds_already(link: Link) -> None:
    """A repeat says so, and so does Synced, to whoever connects."""
    task = link.task(_WAITS)
    await _begin(task)

    first, again = await _set(task, paused=True), await _set(task, paused=True)
    told = (await link.sync()).slots[0]
    resumed, resumed_again = await _set(task), await _set(task)

    assert (first.already, again.already, told.paused) == (False, True, True)
    assert (resumed.already, resumed_again.already) == (False, True)
    assert not (await link.sync()).slots[0].paused


async def test_paused_task_is_killed_at_once_and_revived_running(link: Link, keeper: KeeperProcess) -> None:
    """A kill needs no resume, and the next generation starts unfrozen."""
    task = link.task(_WAITS)
    await _begin(task)
    await _set(task, paused=True)

    killed = await task.kill()

    assert killed.processes == 3
    assert killed.took_ns < 1e9
    assert (await task.exit()).killed
    told = (await link.sync()).slots[0]
    assert (told.state, told.paused) == (SlotState.ENDED, False)
    await task.revive(2)
    await task.said("up", 2)
    assert not _cgroup(keeper, 2).is_frozen()
    assert (await _set(task)).already


async def test_paused_task_is_released(keeper: KeeperProcess) -> None:
    """A release leaves nothing of a task that stands still, and the next one on the slot runs."""
    async with linked(keeper, release=False) as link:
        task = link.task(_WAITS)
        await _begin(task)
        await _set(task, paused=True, disk_full=True)

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
    task = link.task(_WAITS)
    await _begin(task)
    await _set(task, paused=True)

    await link.renew(seconds=0)

    assert (await task.exit()).cause == "lease"


async def test_only_what_runs_is_paused(link: Link) -> None:
    """Before its start and after its end there is nothing to pause; to resume is never wrong."""
    task = link.task(_WAITS)
    await task.prepare()
    early = await link.refused(SetTask(0, task.id, True, False))
    await link.do(Start(0, task.id, 1))
    await task.said("up")
    await task.kill()

    late = await link.refused(SetTask(0, task.id, True, False))

    assert (early.code, late.code) == (ErrorCode.WRONG_STATE, ErrorCode.WRONG_STATE)
    assert (await _set(task)).already


async def test_kill_sent_with_a_pause_wins(link: Link) -> None:
    """Whichever comes first, after both the task is dead, and a revival runs."""
    task = link.task(_python(_FORKS))
    await _begin(task)

    _, killed = await asyncio.gather(
        link.ask(SetTask(0, task.id, True, False)), link.ask(Kill(0, task.id, 1))
    )

    assert isinstance(killed, Done)
    assert not (await link.sync()).slots[0].paused
    assert isinstance(await link.ask(Revive(0, task.id, 2, True)), Done)
    await task.said("up", 2)


async def test_who_waits_for_the_freeze_can_be_told_to_stop() -> None:
    """Processes that do not freeze are waited for until the time is up, or until they are to be ended."""
    mount = find_mount()
    assert mount is not None
    cgroup = Cgroup.make(mount / f"syn-freeze-{os.getpid()}")
    process = subprocess.Popen(["/bin/sleep", "1000"])  # noqa: ASYNC220  # returns at once
    stop = asyncio.Event()
    try:
        (cgroup.path / "cgroup.procs").write_text(str(process.pid))

        late = await frozen(cgroup, 0.02, stop)
        waiting = asyncio.create_task(frozen(cgroup, 60, stop))
        await asyncio.sleep(0)
        stop.set()
        stopped = await asyncio.wait_for(waiting, SECONDS)
        cgroup.set_frozen(True)

        assert (late, stopped) == (False, False)
        assert await frozen(cgroup, SECONDS, asyncio.Event())
    finally:
        cgroup.kill()
        process.wait()
        cgroup.remove()


# ---- a full disk


async def test_full_disk_takes_nothing_until_it_is_healed(link: Link) -> None:
    """In all places that are of its disk the task finds no room, and all of it again after the heal."""
    task = link.task(_python(_WRITES))
    await _begin(task, _ROOM)

    filled = await _set(task, disk_full=True)
    await task.said(_FULL)
    told = (await link.sync()).slots[0]
    healed = await _set(task)

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
    task = link.task(_python(_REUSES))
    await _begin(task)

    await _set(task, disk_full=True)

    await task.said("No space left on device")
    lines = (await _output_of(task)).splitlines()
    assert lines == ["up", "overwritten", "written again", "No space left on device"]


async def test_disk_fills_under_a_task_that_writes_all_the_time(link: Link) -> None:
    """However quickly it writes, the room is gone when the answer comes."""
    task = link.task(_python(_POURS))
    await _begin(task)

    await _set(task, disk_full=True)

    await task.said("No space left on device")


async def test_disk_stays_full_over_kill_and_revival(link: Link) -> None:
    """Also a fresh disk is full, once the source is on it; and a heal while nothing runs is one."""
    task = link.task(_python(_WRITES))
    await _begin(task, _ROOM)
    await _set(task, disk_full=True)
    await task.said(_FULL)
    await task.kill()

    await task.revive(2)
    await task.said(_FULL, 2)
    await task.kill(2)
    await task.revive(3, with_disk=False)
    await _said(task, 3, "No space left on device")
    await task.kill(3)
    await _set(task)
    await task.revive(4, with_disk=False)

    await task.said(_ROOM, 4)


async def test_full_disk_is_not_laid_to_the_task(link: Link) -> None:
    """A disk that was filled by a fault is no bound that the task met."""
    task = link.task(_python(_REUSES))
    await _begin(task)
    await _set(task, disk_full=True)
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

    filled = await _set(task, disk_full=True)
    await _set(task)

    assert not filled.already


# ---- signals


async def test_signal_reaches_the_program_and_neither_make_nor_its_shell(link: Link) -> None:
    """Under make and a shell that waits for it one process is reached, and both see it go on."""
    task = link.task(_CAUGHT_UNDER_A_SHELL)
    await _begin(task)

    quit_ = await _signal(task, signal.SIGQUIT)
    await task.said("caught 3")
    ended = await _signal(task, signal.SIGTERM)

    record = await task.exit()
    assert (quit_.processes, ended.processes) == (1, 1)
    assert (record.status, record.killed) == (0, False)
    assert await task.output() == "up\ncaught 3\ncaught 15\nafter 0\n"


async def test_shell_that_waits_for_nobody_gets_signals(link: Link) -> None:
    """A job may be a shell script: one that works itself is a program like any other."""
    task = link.task({"Makefile": makefile("@trap 'echo caught; exit 0' USR1; echo up; while :; do :; done")})
    await _begin(task)

    sent = await _signal(task, signal.SIGUSR1)

    assert sent.processes == 1
    assert (await task.exit()).status == 0


async def test_signal_that_nobody_handles_ends_the_programs(link: Link) -> None:
    """Its ends are the task's own: nobody killed it."""
    task = link.task(_WAITS)
    await _begin(task)

    sent = await _signal(task, signal.SIGTERM)

    record = await task.exit()
    assert sent.processes == 2
    assert not record.killed
    assert record.status == 2


async def test_signal_of_one_request_is_sent_once(link: Link, keeper: KeeperProcess) -> None:
    """A repeat, also over another connection and after the task's end, gets the first answer."""
    task = link.task(_CAUGHT_UNDER_A_SHELL)
    await _begin(task)
    first = await _signal(task, signal.SIGUSR1, name="one")
    await task.said("caught 10")

    again = await _signal(task, signal.SIGUSR1, name="one")
    await _signal(task, signal.SIGTERM, name="two")
    await task.exit()
    after = await _signal(task, signal.SIGTERM, name="two")

    assert (first.already, again.already, again.processes) == (False, True, 1)
    assert (after.already, after.processes) == (True, 1)
    assert (await task.output()).count("caught 10") == 1


async def test_signal_to_what_does_not_run_is_refused(link: Link) -> None:
    """A generation that was not started, has ended, or is not the last gets none."""
    task = link.task(_WAITS)
    await task.prepare()
    early = await link.refused(Signal(0, task.id, 1, 3, "a"))
    await task.start()
    await task.said("up")
    other = await link.refused(Signal(0, task.id, 2, 3, "b"))
    await task.kill()

    late = await link.refused(Signal(0, task.id, 1, 3, "c"))

    assert {early.code, other.code, late.code} == {ErrorCode.WRONG_STATE}


async def test_paused_task_gets_its_signals_when_it_runs_again(link: Link, keeper: KeeperProcess) -> None:
    """Until then even one that would end it changes nothing; then they come in their order."""
    task = link.task(_CAUGHT_UNDER_A_SHELL)
    await _begin(task)
    await _set(task, paused=True)
    before = _pids(keeper)

    sent = [await _signal(task, number) for number in (signal.SIGUSR1, signal.SIGTERM)]
    held = _pids(keeper)
    await _set(task)

    await task.exit()
    assert [each.processes for each in sent] == [1, 1]
    assert held == before
    assert "caught 15\n" in await task.output()


async def test_signal_without_a_handler_waits_for_a_paused_task(link: Link, keeper: KeeperProcess) -> None:
    """The kernel would end it at once, frozen or not: so it is held back."""
    task = link.task(_WAITS)
    await _begin(task)
    await _set(task, paused=True)
    before = _pids(keeper)

    await _signal(task, signal.SIGTERM)
    held = _pids(keeper)
    await _set(task)

    assert held == before
    assert not (await task.exit()).killed


async def test_task_that_forks_gets_a_signal_whole(link: Link) -> None:
    """However quickly its processes come and go, those of one moment get it, and it ends of it."""
    task = link.task(_python(_FORKS))
    await _begin(task)

    sent = await _signal(task, signal.SIGKILL)

    assert sent.processes in (1, 2)
    assert (await task.exit()).status == 2


# ---- a keeper that dies


@pytest.mark.parametrize("paused", [True, False])
async def test_killed_keeper_leaves_no_ordeal_behind(own: KeeperProcess, paused: bool) -> None:
    """A task that stands still on a full disk goes with its keeper, and the next one starts clean."""
    async with linked(own, release=False) as link:
        task = link.task(_python(_COUNTS))
        await _begin(task)
        await _set(task, paused=paused, disk_full=True)
        cgroup = _cgroup(own)

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
        task = link.task(_python(_FORKS))
        await _begin(task)
        cgroup = _cgroup(own)
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


async def _emptied(cgroup: Cgroup) -> None:
    """Return once no process is left in it: the kernel ends a frozen task like any other."""
    async with asyncio.timeout(SECONDS):
        while not cgroup.is_empty():  # noqa: ASYNC110  # who ends them has gone, and tells nobody
            await asyncio.sleep(0.005)
