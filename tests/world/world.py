"""The world: true time, one source of chance, and a heap of things that will happen.

Everything in the simulation hangs on these three. Nothing else tells the time or draws lots, and whatever
happens at one instant happens in the order in which it was scheduled; so a seed is a whole history.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import deque
from collections.abc import Callable
from random import Random

from .clock import SECOND


class Violation(AssertionError):
    """The system did what it must never do."""


class Timer:
    """Something that will happen unless it is cancelled."""

    __slots__ = ("do",)

    def __init__(self, do: Callable[[], None]) -> None:
        self.do: Callable[[], None] | None = do

    def cancel(self) -> None:
        """Makes it not happen; harmless once it has."""
        self.do = None


class Trace:
    """What happened: the last lines always, all of them (and their digest) if `whole`.

    Lines are kept as values and turned into text only when someone reads them: most seeds pass.
    """

    def __init__(self, whole: bool, keep: int = 300) -> None:
        self._lines: deque[tuple[int, str, str, object]] = deque(maxlen=None if whole else keep)
        self._digest = hashlib.sha256() if whole else None

    def add(self, now: int, who: str, what: str, value: object) -> None:
        """One line."""
        line = (now, who, what, value)
        self._lines.append(line)
        if self._digest is not None:
            self._digest.update(_text(line).encode())

    def digest(self) -> str:
        """SHA-256 of the whole trace."""
        if self._digest is None:
            raise ValueError("only a whole trace has a digest")
        return self._digest.hexdigest()

    def tail(self, count: int) -> str:
        """The last `count` lines as text."""
        lines = list(self._lines)
        return "\n".join(_text(line) for line in lines[-count:])


def _text(line: tuple[int, str, str, object]) -> str:
    now, who, what, value = line
    shown = "" if value is None else value if isinstance(value, str) else repr(value)
    return f"{now / SECOND:12.6f}  {who:<10} {what:<12} {shown}"


class World:
    """True time in nanoseconds from 0, and what will happen."""

    def __init__(self, seed: int, whole_trace: bool = False) -> None:
        self.seed = seed
        self.now = 0
        self.random = Random(seed)
        self.trace = Trace(whole_trace)
        self.steps = 0
        self._heap: list[tuple[int, int, Timer]] = []
        self._order = 0

    def at(self, when: int, do: Callable[[], None]) -> Timer:
        """Schedules `do` for a true time; one that has passed stands for now."""
        timer = Timer(do)
        self._order += 1
        heapq.heappush(self._heap, (max(when, self.now), self._order, timer))
        return timer

    def after(self, delay_ns: int, do: Callable[[], None]) -> Timer:
        """Schedules `do` for `delay_ns` from now."""
        return self.at(self.now + delay_ns, do)

    def between(self, low_ns: int, high_ns: int) -> int:
        """A random duration; the square makes short ones common and long ones possible."""
        return low_ns + int((high_ns - low_ns) * self.random.random() ** 2)

    def chance(self, probability: float) -> bool:
        """True with that probability."""
        return self.random.random() < probability

    def note(self, who: str, what: str, value: object = None) -> None:
        """Writes one line into the trace."""
        self.trace.add(self.now, who, what, value)

    def run(self, until: int, done: Callable[[], bool] | None = None) -> bool:
        """Lets time pass up to `until`, or until `done()`; True in the second case."""
        while self._heap and self._heap[0][0] <= until:
            when, _, timer = heapq.heappop(self._heap)
            if timer.do is None:
                continue
            self.now = when
            self.steps += 1
            timer.do()
            if done is not None and done():
                return True
        self.now = until
        return False
