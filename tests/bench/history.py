"""Events of a history recorded a second (an invocation and its completion are two), by 16 threads at once.

Beside it the plainest way to keep lines over a kill: one `write` of a finished line an event, by as many
threads.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from syndicate.client_api.history import History, read

from tests.bench.figure import Figure, of

NAMES = ("history_events",)
THREADS = 16
OPERATIONS = 6_000  # of each thread
ROUNDS = 5


def measure() -> Iterator[Figure]:
    """Both by turns, in five rounds after one that warms up; each history is read again."""
    recorded, written = [], []
    with tempfile.TemporaryDirectory(prefix="syn-bench-") as folder:
        for round_ in range(ROUNDS + 1):
            record = recording(Path(folder) / f"{round_}.jsonl")
            write = writing(Path(folder) / f"{round_}.lines")
            if round_:
                recorded.append(record)
                written.append(write)
    yield of("history_events", "events/s", recorded, "one write of a finished line an event", written)


def recording(path: Path) -> float:
    """Events a second of one history."""
    with History(path) as history:

        def work(process: int) -> None:
            for number in range(OPERATIONS):
                history.invoke(process, "put", key=f"k{number % 10}", argument=number).ok()

        rate = per_second(work)
    assert len(read(path).operations) == THREADS * OPERATIONS
    return rate


def writing(path: Path) -> float:
    """Lines a second."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    line = b'{"i":12345,"t":123456789,"p":3,"f":"put","k":"k3","v":5}\n'

    def work(_: int) -> None:
        for _ in range(2 * OPERATIONS):
            os.write(fd, line)

    try:
        return per_second(work)
    finally:
        os.close(fd)


def per_second(work: Callable[[int], None]) -> float:
    """Events a second when each thread does its work once."""
    workers = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    begun = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return 2 * THREADS * OPERATIONS / (time.perf_counter() - begun)
