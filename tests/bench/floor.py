"""What the kernel alone takes to end what four slots hold: the floor under the kills."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from pathlib import Path

from syndicate.volunteer.keeper.cgroups import find_mount

from tests.support.cluster import eventually

GROUPS = 4
PROCESSES = 14  # of a slot with ten daemons: make, its recipe and two of the sandbox besides
WAIT_S = 60.0
_JOIN = 'echo $$ >"$1/cgroup.procs" && exec sleep 3600'


def bare_kills(rounds: int) -> list[float]:
    """Milliseconds from the first write of `cgroup.kill` until four cgroups of sleepers are empty."""
    mount = find_mount()
    if mount is None:
        raise RuntimeError("there is no cgroup version 2 mount")
    base = mount / f"syndicate-floor-{os.getpid()}"
    groups = [base / str(number) for number in range(GROUPS)]
    base.mkdir()
    try:
        for group in groups:
            group.mkdir()
        return [_once(groups) for _ in range(rounds)]
    finally:
        for group in [*groups, base]:
            if group.is_dir():
                group.rmdir()


def _once(groups: list[Path]) -> float:
    sleeping = [
        subprocess.Popen(["sh", "-c", _JOIN, "sh", str(group)], start_new_session=True)
        for group in groups
        for _ in range(PROCESSES)
    ]
    try:
        eventually("all sleep", lambda: all(_asleep(child.pid) for child in sleeping), WAIT_S)
        return _kill(groups)
    finally:
        for child in sleeping:
            child.kill()
            child.wait(WAIT_S)


def _asleep(pid: int) -> bool:
    return Path(f"/proc/{pid}/comm").read_text() == "sleep\n"


def _kill(groups: list[Path]) -> float:
    poll = select.poll()
    watched = {}
    for group in groups:
        descriptor = os.open(group / "cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        watched[descriptor] = group
        os.read(descriptor, 256)
        poll.register(descriptor, select.POLLPRI)
    begin = time.perf_counter()
    try:
        for group in groups:
            (group / "cgroup.kill").write_text("1")
        left = set(watched)
        while left:
            ready = poll.poll(WAIT_S * 1e3)
            if not ready:
                raise TimeoutError(f"{len(left)} cgroups are not empty after {WAIT_S:g} s")
            for descriptor, _ in ready:
                if b"populated 0" in os.pread(descriptor, 256, 0):
                    left.discard(descriptor)
        return (time.perf_counter() - begin) * 1e3
    finally:
        for descriptor in watched:
            os.close(descriptor)


if __name__ == "__main__":
    sys.stdout.write(f"{sorted(bare_kills(10))}\n")
