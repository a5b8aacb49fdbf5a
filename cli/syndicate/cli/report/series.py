"""What the figures show: points, bands and rates over time, few enough for a page of any run."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

from syndicate.cli.report.numbers import latency, quantile
from syndicate.cli.report.run import Op
from syndicate.cli.report.windows import Window

MOST_POINTS = 4000
"""Operations that are drawn one by one; beyond that successes become bands."""
_MOST_ODD = 1000
"""Of those that failed or whose end nobody knows."""
_MOST_BINS = 160
_LEAST_LATENCY_S = 1e-6
MOST_ROWS = 14
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Point:
    """One operation; of one that was never answered the time until the run's end stands for its latency."""

    op: Op
    latency_s: float


@dataclass(frozen=True, slots=True)
class Band:
    """Quantiles of one slice of time: 0.5, 0.95 and 1."""

    at_s: float
    median_s: float
    high_s: float
    most_s: float
    count: int


@dataclass(frozen=True, slots=True)
class Rate:
    """Operations that ended in one slice of time, a second."""

    at_s: float
    per_s: float


def slice_s(length_s: float, most: int = _MOST_BINS) -> float:
    """The finest round width that cuts a run into at most so many slices."""
    size = 0.001
    while True:
        for factor in (1, 2, 5):
            if length_s <= size * factor * most:
                return size * factor
        size *= 10


def points(ops: Sequence[Op], length_s: float) -> list[Point]:
    """One for each operation."""
    return [Point(op, _height(op, length_s)) for op in ops]


def _height(op: Op, length_s: float) -> float:
    taken = latency(op)
    return max(_LEAST_LATENCY_S, length_s - op.begin_s if taken is None else taken)


def thinned(found: Sequence[T], most: int = _MOST_ODD) -> list[T]:
    """At most so many, evenly taken."""
    if len(found) <= most:
        return list(found)
    return [found[place * len(found) // most] for place in range(most)]


def one_by_one(outcome: str, found: Sequence[T]) -> list[T]:
    """Of all that ended so, those that are drawn one by one; of very many successes none, but their bands."""
    if outcome == "ok":
        return list(found) if len(found) <= MOST_POINTS else []
    return thinned(found)


def bands(ops: Iterable[Op], length_s: float, width_s: float) -> list[Band]:
    """Of all operations that began in each slice of time; none of a slice without any."""
    slices: dict[int, array[float]] = {}
    for op in ops:
        slices.setdefault(int(op.begin_s // width_s), array("d")).append(_height(op, length_s))
    told = []
    for place, heights in sorted(slices.items()):
        latencies = sorted(heights)
        told.append(
            Band(
                (place + 0.5) * width_s,
                quantile(latencies, 0.5),
                quantile(latencies, 0.95),
                latencies[-1],
                len(latencies),
            )
        )
    return told


def rates(ops: Sequence[Op], outcome: str, length_s: float, width_s: float) -> list[Rate]:
    """How many operations ended so, slice by slice; those that ended outside of the run are left out."""
    count = max(1, -int(-length_s // width_s))
    counts = [0] * count
    for op in ops:
        ended = op.begin_s if op.end_s is None else op.end_s
        if op.outcome == outcome and 0 <= ended < count * width_s:
            counts[min(count - 1, int(ended // width_s))] += 1
    told = []
    for place, number in enumerate(counts):
        width = min(width_s, length_s - place * width_s) or width_s
        told.append(Rate((place + 0.5) * width_s, number / max(width, width_s / 10)))
    return told


def most_at_once(found: Sequence[Window]) -> int:
    """How many windows are open at the same time at most; one that takes no time is open, too."""
    edges = sorted([(window.start_s, 1) for window in found] + [(window.end_s, -1) for window in found])
    return max(min(len(found), 1), max(accumulate(step for _, step in edges), default=0))


def window_rows(found: Sequence[Window], most: int = MOST_ROWS) -> list[int]:
    """On which row each window is drawn: each on its own or, where there are many, beside each other."""
    if len(found) <= most:
        return list(range(len(found)))
    ends: list[float] = []
    told = []
    for window in found:
        for number, end in enumerate(ends):
            if end <= window.start_s:
                ends[number] = window.end_s
                told.append(number)
                break
        else:
            told.append(len(ends))
            ends.append(window.end_s)
    return told
