"""The clients that use the store all the time, and write down what they did."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence

from syndicate.client_api.history import History

from check.kv import Session, UnansweredError

KINDS = ("get", "append", "put")
WEIGHTS = (5, 3, 2)
KEYS = ("a", "b", "c", "d")  # few, so that clients meet; a `put` now and then keeps their lists short
GIVE_UP_S = 10.0
REST_S = 60.0  # for what is under way to end


class Workload:
    """Threads that write and read until told to stop. Each is one process of the history.

    Args:
        seed: decides what each of them does, in which order.
        pace: seconds between the operations of one thread.
    """

    def __init__(self, members: Sequence[str], history: History, seed: int, pace: float) -> None:
        self._members = members
        self._history = history
        self._seed = seed
        self._pace = pace
        self._threads: list[threading.Thread] = []
        self._stop = threading.Event()
        self._changed = threading.Condition()  # guards what follows
        self._paused = False
        self._busy = 0
        self._window = 0
        self._successes: Counter[str] = Counter()  # of operations that began in this window

    def start(self, number: int) -> None:
        """Starts so many threads."""
        for process in range(number):
            thread = threading.Thread(target=self._work, args=(process,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Ends them; an operation under way is given up after its current question."""
        self._stop.set()
        self.resume()
        for thread in self._threads:
            thread.join(timeout=REST_S)
            if thread.is_alive():
                raise RuntimeError(f"{thread.name} does not end")

    def pause(self) -> bool:
        """Lets each thread end what it does and begin nothing; False when that takes too long."""
        with self._changed:
            self._paused = True
            return self._changed.wait_for(lambda: self._busy == 0, REST_S)

    def resume(self) -> None:
        """Lets them go on."""
        with self._changed:
            self._paused = False
            self._changed.notify_all()

    def succeed(self, each: int, seconds: float) -> bool:
        """Waits for so many successes of each kind of what begins from now on; False: not in time."""
        with self._changed:
            self._window += 1
            self._successes.clear()
            return self._changed.wait_for(
                lambda: all(self._successes[kind] >= each for kind in KINDS), seconds
            )

    def _work(self, process: int) -> None:
        dice = random.Random(f"{self._seed}/{process}")
        session = self._session(process, 0)
        for count in itertools.count(1):
            if self._stop.wait(self._pace):
                break
            window = self._begin()
            kind, key = dice.choices(KINDS, WEIGHTS)[0], dice.choice(KEYS)
            try:
                self._do(session, process, kind, key, f"{process}.{count}")
            except UnansweredError:
                session.close()  # a session whose first write got no answer may be unknown to the store
                session = self._session(process, count)
                kind = ""
            self._end(window, kind)
        session.close()

    def _do(self, session: Session, process: int, kind: str, key: str, value: str) -> None:
        """One operation. An UnansweredError leaves it open in the history: nobody knows if it happened."""
        argument = {"get": None, "append": value, "put": [value]}[kind]
        with self._history.operation(process, kind, key, argument) as operation:
            if kind == "get":
                # Another member each time: one that still thinks it leads would answer.
                first = self._members[operation.index % len(self._members)]
                operation.ok(session.get(key, GIVE_UP_S, first))
            elif kind == "append":
                session.append(key, value, GIVE_UP_S)
                operation.ok()
            else:
                session.put(key, value, GIVE_UP_S)
                operation.ok()

    def _begin(self) -> int:
        with self._changed:
            self._changed.wait_for(lambda: not self._paused)
            self._busy += 1
            return self._window

    def _end(self, window: int, kind: str) -> None:
        with self._changed:
            self._busy -= 1
            if window == self._window:
                self._successes[kind] += 1
            self._changed.notify_all()

    def _session(self, process: int, count: int) -> Session:
        # Of all runs no two may have the same name for a session.
        return Session(self._members, f"{time.time_ns()}/{process}/{count}", self._stop.wait)
