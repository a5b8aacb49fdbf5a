"""Barriers of a sync server: from the last arrival until all are released, memory, and rounds.

The server is as a job has it: a process with an owner, who reads all that it tells. The clients are raw
sockets in one process of their own, which reads without sleeping. Beside each stands what a bare Python
process takes that answers as many clients, and knows no barrier.

And what a job sees of it: how far apart the members of `examples/barrier-bench` start, on ten slots.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.bench.figure import Figure, of
from tests.bench.place import cluster
from tests.support.cluster import EXAMPLES
from tests.sync.daemon import Daemon, daemon

NAMES = ("barrier1000", "barrier10000", "barrier_memory", "barrier_rounds")
NAMES_SPREAD = ("barrier_spread",)
SLOTS = 10
JOBS = 5  # after one that warms up
MANY = 10_000
ROUNDS = {1_000: 15, MANY: 7}  # how often each is measured, after one that warms up
RATES = 5
RATE_S = 1.0
WITHIN_S = 120.0
FLOOR = "a bare process that answers as many"


def load(*words: object, server: Daemon | None = None) -> tuple[float, int]:
    """What the load process measured, and the server's resident bytes while all waited."""
    line = [sys.executable, "-m", "tests.bench.barrier_load", *map(str, words)]
    pipe = subprocess.PIPE
    with subprocess.Popen(line, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        held = 0
        if words[1] == "hold":
            assert process.stdout.readline() == "held\n"
            held = server.rss_bytes() if server is not None else 0
            process.stdin.write("go\n")
            process.stdin.flush()
        answer = process.stdout.readline()
        assert process.wait(WITHIN_S) == 0, answer
    return float(json.loads(answer)), held


@contextmanager
def bare(size: int) -> Iterator[int]:
    """The port of a bare process that answers `size` clients at a time."""
    line = [sys.executable, "-m", "tests.bench.barrier_floor", str(size)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


@contextmanager
def listened_to(server: Daemon) -> Iterator[None]:
    """Reads what the server tells, as its owner would."""

    def read() -> None:
        try:
            while True:
                server.next(time.monotonic() + WITHIN_S)
                server.events.clear()
        except EOFError:
            return

    thread = threading.Thread(target=read, name="owner")
    thread.start()
    try:
        yield
    finally:
        server.process.terminate()
        thread.join(WITHIN_S)


def measure() -> Iterator[Figure]:
    """A server of its own for each size; by turns with the bare one."""
    for waiters, name in zip(ROUNDS, NAMES, strict=False):
        took, floor, grown = held(waiters)
        yield of(name, "ms", took, FLOOR, floor)
    yield of("barrier_memory", "bytes a waiter", grown, "", [])
    with daemon() as server, listened_to(server), bare(2) as port:
        rates, floors = [], []
        for round_ in range(RATES + 1):
            rate, _ = load(server.port, "rounds", RATE_S)
            bare_rate, _ = load(port, "rounds", RATE_S)
            if round_:
                rates.append(rate)
                floors.append(bare_rate)
    yield of("barrier_rounds", "rounds/s", rates, FLOOR, floors)


def measure_spread() -> Iterator[Figure]:
    """Of each job the median of its rounds; nine members and a client."""
    source = EXAMPLES / "barrier-bench"
    spreads = []
    with cluster(SLOTS, tls=False) as place:
        for _ in range(JOBS + 1):
            job = place.run(source, machines=SLOTS - 1, client=source / "client")
            said = re.search(r"started within ([\d.]+) ms \(median\)", place.output(job.job_id, "client-0"))
            assert said is not None, place.story(job.job_id)
            spreads.append(float(said[1]))
    yield of("barrier_spread", "ms", spreads[1:], "", [])


def held(waiters: int) -> tuple[list[float], list[float], list[float]]:
    """Milliseconds here and of the bare process, and by how many bytes a waiter the server grew."""
    took, floor, grown = [], [], []
    with daemon() as server, listened_to(server), bare(waiters) as port:
        before = server.rss_bytes()
        for round_ in range(ROUNDS[waiters] + 1):
            milliseconds, resident = load(server.port, "hold", waiters, server=server)
            least, _ = load(port, "hold", waiters, "bare")
            grown.append((resident - before) / waiters)
            if round_:
                took.append(milliseconds)
                floor.append(least)
    return took, floor, grown
