"""The times in which faults were in force, and which operations fell into them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from syndicate.cli.report.run import FaultLine, Op, Run

FAMILIES = {
    "kill": "killed",
    "disconnect": "cut",
    "reset": "cut",
    "partition": "cut",
    "pause": "paused",
    "degrade": "degraded",
    "disk_full": "disk full",
}
"""Kinds of faults that last, and what those that suffer one are."""
_ENDED_BY = {"kill": "revive", "disconnect": "reconnect"}
_MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class Window:
    """A time in which the faults of one call were in force: from the first to the last taken back."""

    number: int
    """From 1, by their beginnings."""
    name: str
    """``cut slave-1``, ``partition halves``, ``killed slave-0``."""
    family: str
    """``killed``, ``cut``, ``paused``, ``degraded``, ``disk full``."""
    start_s: float
    end_s: float
    """The run's end where `healed` is false."""
    start_error_s: float
    end_error_s: float
    healed: bool
    healed_by: str


class Place(StrEnum):
    """Where an operation lies relative to the faults."""

    INSIDE = "in a fault"
    OUTSIDE = "no fault"
    EDGE = "at an edge"  # within what is not known of a fault's beginning or end


def windows(run: Run) -> tuple[Window, ...]:
    """All of them, by their beginnings; those of faults that never held are not there."""
    calls: dict[tuple[int, str], list[FaultLine]] = {}
    for fault in run.faults:
        if fault.kind in FAMILIES and fault.applied_s is not None:
            calls.setdefault((fault.call_id, fault.kind), []).append(fault)
    endings = _Endings(run.faults)
    found = [_window(run, faults, endings) for faults in calls.values()]
    found.sort(key=lambda window: (window.start_s, window.end_s))
    return tuple(replace(window, number=number) for number, window in enumerate(found, 1))


def _window(run: Run, faults: Sequence[FaultLine], endings: _Endings) -> Window:
    first = min(faults, key=lambda one: one.applied_s or 0.0)
    ends = [endings.end(fault) for fault in faults]
    known = [end for end in ends if end is not None]
    start = min(first.applied_s or 0.0, run.length_s)
    last = max(known, default=(run.length_s, 0.0, ""))
    healed = len(known) == len(ends) and last[0] <= run.length_s
    return Window(
        0,
        _name(faults),
        FAMILIES[first.kind],
        start,
        max(start, last[0]) if healed else max(start, run.length_s),
        first.error_s,
        last[1] if healed else 0.0,
        healed,
        last[2] if healed else "",
    )


def _name(faults: Sequence[FaultLine]) -> str:
    tasks = list(dict.fromkeys(fault.task for fault in faults))
    named = ", ".join(tasks[:_MOST_NAMED])
    if len(tasks) > _MOST_NAMED:
        named += f" and {len(tasks) - _MOST_NAMED} more"
    return f"{faults[0].what} {named}".strip()


class _Endings:
    """Revivals and reconnections by task: what ends kills, and the cuts that tell no end themselves."""

    def __init__(self, faults: Iterable[FaultLine]) -> None:
        self._of: dict[tuple[str, str], list[FaultLine]] = {}
        for fault in faults:
            if fault.kind in _ENDED_BY.values() and fault.applied_s is not None:
                self._of.setdefault((fault.kind, fault.task), []).append(fault)

    def end(self, fault: FaultLine) -> tuple[float, float, str] | None:
        """(when, half-width, by whom) a fault ended; None where it did not."""
        if fault.healed_s is not None:
            return fault.healed_s, fault.healed_error_s, fault.healed_by
        later = self._of.get((_ENDED_BY.get(fault.kind, ""), fault.task), [])
        place = bisect_right(later, fault.fault_id, key=lambda one: one.fault_id)
        if place == len(later):
            return None
        ending = later[place]
        return ending.applied_s or 0.0, ending.error_s, ending.by


def united(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The same times without overlaps, in order."""
    out: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if out and start <= out[-1][1]:
            out[-1] = out[-1][0], max(out[-1][1], end)
        else:
            out.append((start, end))
    return out


def overlaps(op: Op, start_s: float, end_s: float) -> bool:
    """Whether an operation was open between two times; one without an end counts by its beginning."""
    end = op.begin_s if op.end_s is None else op.end_s
    return op.begin_s <= end_s and end >= start_s


def places(ops: Sequence[Op], found: Sequence[Window]) -> list[Place]:
    """For each operation whether it was open in any fault; ``ops`` are in the order of their beginnings."""
    narrow = united(
        (window.start_s + window.start_error_s, window.end_s - window.end_error_s)
        for window in found
        if window.start_s + window.start_error_s <= window.end_s - window.end_error_s
    )
    wide = united(
        (window.start_s - window.start_error_s, window.end_s + window.end_error_s) for window in found
    )
    inside, near = _touching(ops, narrow), _touching(ops, wide)
    return [
        Place.INSIDE if within else Place.EDGE if close else Place.OUTSIDE
        for within, close in zip(inside, near, strict=True)
    ]


def _touching(ops: Sequence[Op], spans: Sequence[tuple[float, float]]) -> list[bool]:
    """Of operations by their beginnings, which overlap any of some spans that do not overlap each other."""
    told = []
    place = 0
    for op in ops:
        while place < len(spans) and spans[place][1] < op.begin_s:
            place += 1
        told.append(place < len(spans) and overlaps(op, *spans[place]))
    return told
