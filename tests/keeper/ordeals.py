"""Tasks that suffer beside their network: programs that tell of it, and who asks for it."""

from __future__ import annotations

from itertools import count

from keeper.harness import KeeperProcess, TestTask, makefile
from syndicate.volunteer.keeper.cgroups import Cgroup
from syndicate.volunteer.keeper.limits import Bounds, Controller, find_version_1
from syndicate.volunteer.local import Done, SetTask, Signal

COUNTS = """
import time
n = 0
print("up", flush=True)
while True:
    n += 1
    print(n, flush=True)
    time.sleep(0.001)
"""
FORKS = """
import os
print("up", flush=True)
while True:
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
"""
_SLEEPS = """
import os, subprocess
subprocess.Popen(["sleep", "1000"], start_new_session=True)
print("up", flush=True)
os.execlp("sleep", "sleep", "1000")
"""
# make and two processes, neither of them a shell once it says that it is up.
WAITS = {"Makefile": makefile("@exec python3 it.py"), "it.py": _SLEEPS}
# Thousandths of a processor: with so few tar takes far longer for thousands of files than anybody may stand
# still who is to find it at work. A task that is to be slowed later has the ample bound: on version 1 only
# one with a bound comes under it at all.
SLOW, AMPLE = 20, 8000
_names = count()


def python(program: str, role: str = "master") -> dict[str, str]:
    return {"Makefile": makefile("@exec python3 it.py", role), "it.py": program}


async def begin(task: TestTask, line: str = "up") -> None:
    await task.begin()
    await task.said(line)


async def suffer(task: TestTask, paused: bool = False, disk_full: bool = False) -> Done:
    return await task.link.do(SetTask(task.slot, task.id, paused, disk_full))


async def send_signal(task: TestTask, number: int, generation: int = 1, name: str = "") -> Done:
    name = name or f"signal-{next(_names)}"
    return await task.link.do(Signal(task.slot, task.id, generation, int(number), name))


def pace(keeper: KeeperProcess, cpu_millis: int, slot: int = 0) -> None:
    """Bound the processors of a slot over the keeper's head; 0 for not at all."""
    hierarchy = find_version_1("cpu")
    base = keeper.cgroup if hierarchy is None else hierarchy / keeper.cgroup.name
    Controller("cpu", base, unified=hierarchy is None).set(slot, Bounds(cpu_millis=cpu_millis))


def cgroup_of(keeper: KeeperProcess, generation: int = 1, slot: int = 0) -> Cgroup:
    return Cgroup(keeper.cgroup / f"slot-{slot}" / f"g{generation}")


def pids_of(keeper: KeeperProcess, generation: int = 1) -> list[int]:
    return cgroup_of(keeper, generation).pids()
