"""Puts lines that come by several streams into the order of their times, at the price of a moment."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence

HOLD_S = 0.25
"""What comes later than this after what it belongs before is printed out of order, with its time.

Output is on its way for some tens of milliseconds, and the manager tells of a job's faults 20 times a second.
"""
MOST_HELD = 10_000
"""Of a job that writes faster than this per HOLD_S, everything is given at once."""


class Ordering:
    """Holds each entry for ``hold_s`` seconds of ``clock``, and gives them by their times."""

    def __init__(self, clock: Callable[[], float], hold_s: float = HOLD_S) -> None:
        self._clock = clock
        self._hold_s = hold_s
        self._held: list[tuple[float, int, Sequence[str]]] = []
        self._arrived: deque[tuple[float, tuple[float, int]]] = deque()
        self._latest: dict[str, float] = {}
        self._count = 0

    def put(self, at_s: float, source: str, lines: Sequence[str]) -> None:
        """Lines of one time. Those of one source keep the order in which they come, whatever their times."""
        at_s = self._latest[source] = max(at_s, self._latest.get(source, at_s))
        self._count += 1
        heapq.heappush(self._held, (at_s, self._count, lines))
        self._arrived.append((self._clock() + self._hold_s, (at_s, self._count)))

    def wait_s(self) -> float | None:
        """Seconds until something may be due; None where nothing is held."""
        return max(0.0, self._arrived[0][0] - self._clock()) if self._held else None

    def due(self) -> list[str]:
        """What was held long enough, and what belongs before it."""
        now = self._clock()
        until = (float("-inf"), 0)
        full = len(self._held) > MOST_HELD
        while self._arrived and (full or self._arrived[0][0] <= now):
            until = max(until, self._arrived.popleft()[1])
        lines: list[str] = []
        while self._held and self._held[0][:2] <= until:
            lines += heapq.heappop(self._held)[2]
        return lines

    def rest(self) -> list[str]:
        """Everything. What comes after it is on a time line of its own."""
        lines = [line for entry in sorted(self._held, key=lambda entry: entry[:2]) for line in entry[2]]
        self._held.clear()
        self._arrived.clear()
        self._latest.clear()
        return lines
