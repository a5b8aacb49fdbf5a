"""The writers and readers that use the store all the time."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Sequence

from check.kv import Session, UnansweredError
from check.record import Record

VALUES_PER_KEY = 50
GIVE_UP_S = 20.0


class Workload:
    """Threads that write and read until told to stop.

    Args:
        name: makes the sessions of this run unlike those of any other.
        pace: seconds between the operations of one worker.
    """

    def __init__(self, members: Sequence[str], record: Record, name: str, seed: int, pace: float) -> None:
        self._members = members
        self._record = record
        self._name = name
        self._seed = seed
        self._pace = pace
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, writers: int, readers: int) -> None:
        """Starts them."""
        for number in range(writers):
            self._start(self._write, f"writer-{number}", number)
        for number in range(readers):
            self._start(self._read, f"reader-{number}", number)

    def stop(self) -> None:
        """Ends them; an operation that is under way is given up after its current question."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=10)
            if thread.is_alive():
                raise RuntimeError(f"{thread.name} does not end")

    def _start(self, work: Callable[[int], None], name: str, number: int) -> None:
        thread = threading.Thread(target=work, args=(number,), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _write(self, number: int) -> None:
        session = Session(self._members, f"{self._name}-{number}", self._stop.wait)
        for count in itertools.count():
            if self._stop.wait(self._pace):
                break
            key, value = f"{number}/{count // VALUES_PER_KEY}", f"{number}:{count}"
            window = self._record.attempt(key, value)
            try:
                length = session.append(key, value, GIVE_UP_S)
            except UnansweredError:
                self._record.unanswered()
            else:
                self._record.wrote(key, value, length, window)
        session.close()

    def _read(self, number: int) -> None:
        session = Session(self._members, f"{self._name}-reader-{number}", self._stop.wait)
        dice = random.Random(f"{self._seed}/{number}")
        # Each read asks another member first: one that still thinks it leads would answer.
        for first in itertools.cycle(self._members):
            if self._stop.wait(self._pace):
                break
            keys = self._record.written_keys(last=6)
            if not keys:
                continue
            key = dice.choice(keys)
            known, window = self._record.known(key), self._record.begin()
            try:
                seen = session.count(key, GIVE_UP_S, first)
            except UnansweredError:
                continue
            self._record.read(key, seen, known, window)
        session.close()
