"""From the `Submit` call until all four make of a gang are exec'd, beside four plain spawns."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from syndicate.v1 import scheduler_pb2 as scheduler

from tests.bench.figure import Figure, of
from tests.bench.place import JOBS, cluster
from tests.support.cluster import Cluster

NAMES = ("gang4",)
ROUNDS = 30
WARM_UP = 3


def boot_clock_ms() -> float:
    """The clock that the stamps are of."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) / 1e6


def gang(place: Cluster, digest: str) -> float:
    """Milliseconds from the call to the last exec, by the stamps of the tasks."""
    spec = scheduler.JobSpec(source_sha256=digest, machines=4, no_client=True)
    called = boot_clock_ms()
    job = place.users.submit(spec)
    running = place.until_running(job)
    place.users.cancel(job)
    place.wait(job)
    return max(run.started_at.monotonic_ns for task in running.tasks for run in task.runs) / 1e6 - called


def plain(source: Path) -> float:
    """Milliseconds until four plain make are exec'd: posix_spawn returns once it is so."""
    here = os.getcwd()
    os.chdir(source)
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]  # standard output is for the figures alone
    begin = boot_clock_ms()
    pids = [
        os.posix_spawn("/usr/bin/make", ["make", "master"], os.environ, setpgroup=0, file_actions=quiet)
        for _ in range(4)
    ]
    took = boot_clock_ms() - begin
    for pid in pids:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    os.chdir(here)
    return took


def measure() -> Iterator[Figure]:
    """Gangs and plain spawns in turn; the source is on the volunteer already."""
    samples, others = [], []
    with cluster(4, tls=False) as place:
        digest = place.upload(JOBS / "nothing")
        for round_ in range(ROUNDS + WARM_UP):
            took, plainly = gang(place, digest), plain(JOBS / "nothing")
            if round_ >= WARM_UP:
                samples.append(took)
                others.append(plainly)
    yield of("gang4", "ms", samples, "four posix_spawn of the same make at once", others)
