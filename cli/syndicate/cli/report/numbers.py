"""The numbers behind the pictures: quantiles in and out of faults, and what became of each fault."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from syndicate.cli.report.run import Op
from syndicate.cli.report.windows import Place, Window, places

QUANTILES = (0.5, 0.9, 0.99, 1.0)


@dataclass(frozen=True, slots=True)
class Row:
    """What operations of one kind did in one part of the run; latencies, in seconds, of successes."""

    where: str
    kind: str
    ok: int
    fail: int
    info: int
    latencies_s: tuple[float, ...]
    """At `QUANTILES`; empty where nothing succeeded."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """One kind of operation in one fault and after it."""

    window: Window
    kind: str
    inside: tuple[int, int, int]
    """ok, fail and info of the operations that were open in it."""
    after_s: float | None
    """From the heal to the end of the first success that ended after it; None where there was none."""


def quantile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank quantile of values in ascending order: always one of them."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def latency(op: Op) -> float | None:
    """Seconds from the call to its end; None where it had none."""
    return None if op.end_s is None else max(0.0, op.end_s - op.begin_s)


def row(where: str, kind: str, ops: Iterable[Op]) -> Row:
    """Counts and quantiles of some operations."""
    counts: Counter[str] = Counter()
    latencies = []
    for op in ops:
        counts[op.outcome] += 1
        taken = latency(op)
        if op.outcome == "ok" and taken is not None:
            latencies.append(taken)
    latencies.sort()
    told = tuple(quantile(latencies, share) for share in QUANTILES) if latencies else ()
    return Row(where, kind, counts["ok"], counts["fail"], counts["info"], told)


def kinds(ops: Iterable[Op]) -> list[str]:
    """The kinds of operations, the most frequent first."""
    return [kind for kind, _ in Counter(op.kind for op in ops).most_common()]


def rows(ops: Sequence[Op], found: Sequence[Window]) -> list[Row]:
    """One for each kind in all of the run, without faults, and in any; and at the edges if there are such."""
    of_kind: dict[tuple[str, str], list[Op]] = {}
    for op, place in zip(ops, places(ops, found), strict=True):
        of_kind.setdefault((op.kind, place.value), []).append(op)
        of_kind.setdefault((op.kind, "all of it"), []).append(op)
    wheres = ["all of it", *(place.value for place in (Place.OUTSIDE, Place.INSIDE, Place.EDGE) if found)]
    return [
        row(where, kind, of_kind.get((kind, where), ()))
        for kind in kinds(ops)
        for where in wheres
        if where != Place.EDGE.value or (kind, where) in of_kind
    ]


def recoveries(ops: Sequence[Op], found: Sequence[Window]) -> list[Recovery]:
    """For each fault and kind, by the faults' numbers."""
    told = []
    for kind in kinds(ops):
        mine = [op for op in ops if op.kind == kind]
        times = [_Times([op for op in mine if op.outcome == outcome]) for outcome in ("ok", "fail", "info")]
        ends = sorted(op.end_s for op in mine if op.outcome == "ok" and op.end_s is not None)
        for window in found:
            ok, fail, info = (one.open_in(window) for one in times)
            told.append(Recovery(window, kind, (ok, fail, info), _after(window, ends)))
    return sorted(told, key=lambda one: one.window.number)


class _Times:
    """When operations began and ended: how many overlap a window is told without looking at each."""

    def __init__(self, ops: Sequence[Op]) -> None:
        self._begins = sorted(op.begin_s for op in ops)
        self._ends = sorted(op.begin_s if op.end_s is None else op.end_s for op in ops)

    def open_in(self, window: Window) -> int:
        """Those that have begun by its end, without those that ended before it: as `overlaps` says of one."""
        return bisect_right(self._begins, window.end_s) - bisect_left(self._ends, window.start_s)


def _after(window: Window, ends: Sequence[float]) -> float | None:
    """The first success that certainly ended after the heal."""
    if not window.healed:
        return None
    place = bisect_left(ends, window.end_s + window.end_error_s)
    return ends[place] - window.end_s if place < len(ends) else None
