"""Bounds of a task on this machine's own controllers: what it meets ends it, or is told with its end."""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from dataclasses import replace

import pytest
from keeper.harness import KeeperProcess, Link, makefile
from keeper.ordeals import begin, python, send_signal
from syndicate.volunteer.keeper.limits import find_version_1
from syndicate.volunteer.local import Annotation, Exit, Limits

_MIB = 1 << 20
_HOG = "x = []\nwhile True:\n    x.append(bytearray(b'x' * (1 << 20)))\n"
# Thousandths of a processor, in the middle of five tries: where the machine itself stands still the kernel
# lays that to who had the processor.
_BURN = """
import time
took = []
for _ in range(5):
    began, before = time.monotonic(), time.process_time()
    while time.monotonic() < began + 0.4:
        pass
    took.append((time.process_time() - before) / (time.monotonic() - began))
print(round(sorted(took)[2] * 1000))
"""
_FILLS_FOR_A_WHILE = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
try:
    with open("big", "wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 16))
except OSError:
    print("full", flush=True)
signal.sigwait({signal.SIGUSR1})
os.unlink("big")
"""
_QUEUES = """
import socket
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen(200)
held, queued = [], 0
for _ in range(200):
    near = socket.socket()
    near.connect(listener.getsockname())
    held += [near, listener.accept()[0]]
    near.setblocking(False)
    try:
        while True:
            queued += near.send(bytes(1 << 16))
    except BlockingIOError:
        pass
print(queued)
"""
_FORKS = """
import os, time
for _ in range(100):
    try:
        if os.fork() == 0:
            time.sleep(60)
    except BlockingIOError:
        print("denied")
        break
"""


def _limits(memory_mib: int = 0, pids: int = 0, cpu_millis: int = 0) -> Limits:
    return Limits(
        disk_bytes=32 * _MIB,
        memory_bytes=memory_mib * _MIB,
        pids=pids,
        cpu_millis=cpu_millis,
        open_files=1024,
    )


def _is_out_of_memory(ended: Exit) -> bool:
    return ended.killed and ended.cause == "memory"


async def test_out_of_memory_ends_the_whole_task(keeper: KeeperProcess, link: Link) -> None:
    """One process that takes too much ends all the others, and the record says why."""
    recipe = "@for i in $$(seq 50); do sleep 600 & done; python3 hog.py; echo survived; sleep 600"
    task = link.task({"Makefile": makefile(recipe), "hog.py": _HOG})

    await task.begin(_limits(memory_mib=96))
    ended = await task.exit()

    assert _is_out_of_memory(ended), ended
    assert _left(keeper) == []


async def test_compiler_that_runs_out_of_memory_is_told(link: Link) -> None:
    """A make that only sees its recipe killed and ends by itself is not taken for a failed recipe."""
    task = link.task({"Makefile": makefile("@python3 hog.py"), "hog.py": _HOG})

    ended, _ = await task.run(_limits(memory_mib=96))

    assert _is_out_of_memory(ended), ended


async def test_files_in_memory_count_as_memory(link: Link) -> None:
    """A disk that holds more than the task's memory ends the task, not the machine."""
    task = link.task({"Makefile": makefile("@head -c 100000000 /dev/zero >big; sleep 60")})

    ended, _ = await task.run(Limits(disk_bytes=256 * _MIB, memory_bytes=64 * _MIB))

    assert _is_out_of_memory(ended), ended


async def test_what_waits_in_sockets_counts_as_memory(link: Link) -> None:
    """Nobody reads it, and it is the machine's memory: without a bound some 400 MiB."""
    task = link.task({"Makefile": makefile("@python3 queues.py"), "queues.py": _QUEUES})

    ended, output = await task.run(_limits(memory_mib=96))

    assert _is_out_of_memory(ended) or 0 < int(output) < 96 * _MIB, (ended, output)


async def test_next_generation_begins_with_a_clean_record(link: Link) -> None:
    """What one generation met is not told of the next one."""
    task = link.task(
        {"Makefile": makefile("@if [ ! -e seen ]; then touch seen; python3 hog.py; fi"), "hog.py": _HOG}
    )
    first, _ = await task.run(_limits(memory_mib=96))

    await task.revive(2)
    second = await task.exit(2)

    assert _is_out_of_memory(first), first
    assert (second.status, second.killed, second.cause, second.annotations) == (0, False, "", ())


async def test_memory_within_the_bound_is_nobodys_business(link: Link) -> None:
    """A task that stays below its bound ends as it wishes."""
    task = link.task({"Makefile": makefile("@python3 -c \"x = b'x' * (40 << 20)\"")})

    ended, _ = await task.run(_limits(memory_mib=96))

    assert (ended.status, ended.killed, ended.annotations) == (0, False, ())


async def test_denied_processes_are_told(link: Link) -> None:
    """A task that may not fork any more goes on, and its end tells why it could not."""
    task = link.task({"Makefile": makefile("@python3 forks.py"), "forks.py": _FORKS})

    ended, output = await task.run(_limits(pids=20))

    assert "denied" in output
    assert ended.annotations == (Annotation.PIDS_LIMIT,)
    assert ended.cause == ""


@pytest.mark.parametrize(
    "fill",
    ["head -c 100000000 /dev/zero >big", "mkdir many && cd many && seq 2000 | xargs touch"],
    ids=["bytes", "inodes"],
)
async def test_full_disk_is_told(link: Link, fill: str) -> None:
    """A task that met the end of its disk is told so, bytes and inodes alike."""
    task = link.task({"Makefile": makefile(f"-@{fill}\n@true")})

    ended, _ = await task.run(replace(_limits(), disk_inodes=1000))

    assert ended.annotations == (Annotation.DISK_FULL,)


async def test_disk_that_was_full_for_a_while_is_told(link: Link) -> None:
    """A disk that is full while it is looked at is told, even if there was room again at the end."""
    task = link.task(python(_FILLS_FOR_A_WHILE))
    await begin(task, "full")
    began = time.monotonic()
    while time.monotonic() < began + 1.2:  # it is looked at each second, if the keeper has a turn
        await link.audit()

    await send_signal(task, signal.SIGUSR1)

    ended = await task.exit()
    assert (ended.status, ended.annotations) == (0, (Annotation.DISK_FULL,))


async def test_dropped_output_is_told(link: Link) -> None:
    """A task that says more than is kept is told so."""
    task = link.task({"Makefile": makefile("@head -c 3000000 /dev/zero | tr '\\\\0' x")})

    ended, _ = await task.run(Limits(disk_bytes=32 * _MIB, log_head_bytes=_MIB, log_tail_bytes=_MIB))

    assert ended.annotations == (Annotation.LOG_LIMIT,)


async def test_processor_time_is_bounded(link: Link) -> None:
    """A busy loop gets the part of a processor that it may have."""
    task = link.task({"Makefile": makefile("@python3 burn.py"), "burn.py": _BURN})

    _, output = await task.run(_limits(cpu_millis=250))
    await task.revive(2)
    await task.exit(2)

    assert int(output.splitlines()[-1]) < 500
    assert int((await task.output(2)).splitlines()[-1]) < 500


async def test_bounds_go_with_the_task(keeper: KeeperProcess, link: Link) -> None:
    """The next task on the slot has its own bounds, here none."""
    task = link.task({"Makefile": makefile("@true")})
    await task.run(_limits(memory_mib=96, pids=64, cpu_millis=500))

    await task.release()

    hierarchy = find_version_1("memory")
    if hierarchy is not None:
        bound = (hierarchy / keeper.cgroup.name / "slot-0" / "memory.limit_in_bytes").read_text()
        assert int(bound) > 1 << 60
    else:
        assert (keeper.cgroup / "slot-0" / "memory.max").read_text() == "max\n"


def _left(keeper: KeeperProcess) -> list[str]:
    with suppress(OSError):  # it goes after the end was told, also between opening and reading (ENODEV)
        return (keeper.cgroup / "slot-0" / "g1" / "cgroup.procs").read_text().split()
    return []
