"""Windows of faults, and what they ask of a history: success after the heal, and that it was tested."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from syndicate.client_api.checkers._budget import Budget, Meter
from syndicate.client_api.checkers._checker import validate, within
from syndicate.client_api.checkers._text import at
from syndicate.client_api.checkers._verdict import Answer, Verdict, origin, worst
from syndicate.client_api.history._operation import Operation, Outcome


class FaultWindow(NamedTuple):
    """When a fault was in force, by the history's clock; `end_ns` is None of one never healed."""

    kind: str
    start_ns: int
    end_ns: int | None


def _windows(given: Sequence[tuple[str, int, int | None]]) -> list[FaultWindow]:
    """Raise ValueError for a window that ends before it starts."""
    windows = [FaultWindow(*window) for window in given]
    for number, window in enumerate(windows):
        if window.end_ns is not None and window.end_ns < window.start_ns:
            raise ValueError(f"window {number} ({window.kind}) ends before it starts")
    return sorted(windows, key=lambda window: window.start_ns)


def _quiet(windows: Sequence[FaultWindow]) -> Iterator[tuple[str, int, int | None]]:
    """From each heal that leaves no fault in force until the next fault: the kinds healed, start, end."""
    healed: list[str] = []
    end: int | None = None
    for place, window in enumerate(windows):
        if window.end_ns is None:
            return
        healed.append(window.kind)
        end = window.end_ns if end is None else max(end, window.end_ns)
        following = windows[place + 1].start_ns if place + 1 < len(windows) else None
        if following is None or following > end:
            yield "+".join(dict.fromkeys(healed)), end, following
            healed, end = [], None


@dataclass(frozen=True, slots=True)
class AvailableAgain:
    """Whether operations succeed again within some seconds of each heal.

    A heal is the end of a fault after which none is in force. Each kind of operation that the history has (or
    each of `kinds`) must have one that was invoked and ended with success within the time. Unknown where the
    next fault or the history's end came first, or nobody tried.
    """

    seconds: float
    windows: Sequence[tuple[str, int, int | None]]
    kinds: Collection[str] | None = None

    def check(
        self, operations: Sequence[Operation], budget: Budget | None = None, *, overlap_ns: int = 0
    ) -> Verdict:
        """See `Checker.check`. Raises ValueError for a window that ends before it starts."""
        validate(operations, None, "AvailableAgain", overlap_ns)
        windows = _windows(self.windows)
        return within(budget, operations, lambda meter: self._judge(operations, windows, meter))

    def _judge(
        self, operations: Sequence[Operation], windows: Sequence[FaultWindow], meter: Meter
    ) -> Verdict:
        start = origin(operations)
        kinds = sorted(self.kinds if self.kinds is not None else {one.kind for one in operations})
        found = []
        for kind in kinds:
            mine = [one for one in operations if one.kind == kind]
            for healed, begin, end in _quiet(windows):
                meter.check()
                found.append(self._after(kind, mine, healed, begin, end, start))
        if not found:
            what = "no fault was healed" if kinds else "the history is empty"
            return Verdict(Answer.UNKNOWN, what, origin_ns=start)
        answer = worst(verdict.answer for verdict in found)
        first = next(verdict for verdict in found if verdict.answer is answer)
        times = [verdict.metrics["recovered_s"] for verdict in found if "recovered_s" in verdict.metrics]
        metrics = {"slowest_recovery_s": max(times)} if times else {}
        if answer is Answer.TRUE:
            reason = f"each of {', '.join(kinds)} succeeded within {max(times):.3f} s of each heal"
            return Verdict(answer, reason, origin_ns=start, metrics=metrics)
        return Verdict(answer, first.reason, first.counterexample, first.around, start, metrics)

    def _after(
        self, kind: str, mine: Sequence[Operation], healed: str, begin: int, following: int | None, start: int
    ) -> Verdict:
        """What one kind of operation did after one heal."""
        limit = begin + int(self.seconds * 1e9)
        tried = [one for one in mine if (one.completed_ns is None or one.completed_ns >= begin)]
        after = sorted((one for one in tried if one.invoked_ns >= begin), key=lambda one: one.invoked_ns)
        good = [int(one.completed_ns or 0) for one in after if one.outcome is Outcome.OK]
        when = f"{healed} was healed at {at(begin, start)}"
        if good and min(good) <= limit:
            return Verdict(Answer.TRUE, when, metrics={"recovered_s": (min(good) - begin) / 1e9})
        if following is not None and following < limit:
            return Verdict(
                Answer.UNKNOWN, f"{when}, the next fault came within {self.seconds:g} s: no {kind} before"
            )
        early = [one for one in tried if one.invoked_ns <= limit]
        last = max((one.completed_ns or one.invoked_ns for one in mine), default=0)
        if not early or (last < limit and not good):
            return Verdict(Answer.UNKNOWN, f"{when}, no {kind} was tried for {self.seconds:g} s")
        late = f"the first came {(min(good) - begin) / 1e9:.3f} s after" if good else "none came"
        reason = f"{when}, no {kind} succeeded within {self.seconds:g} s: {late}"
        return Verdict(Answer.FALSE, reason, tuple(early[:3]), tuple(early[3:10]))


def vacuous(
    operations: Sequence[Operation],
    windows: Sequence[tuple[str, int, int | None]],
    least_s: float = 1.0,
    kinds: Collection[str] | None = None,
) -> tuple[str, ...]:
    """Why a pass would say nothing: one sentence a reason; empty where it says something.

    No fault took hold, or in a window of at least `least_s` seconds a kind of operation (of `kinds`, or of
    those that the history has) had no success that was invoked and ended in it. Leave out windows of faults
    under which the system need not answer. Raises ValueError for a window that ends before it starts.
    """
    start = origin(operations)
    in_order = _windows(windows)
    if not in_order:
        return ("no fault took hold",)
    wanted = sorted(kinds if kinds is not None else {one.kind for one in operations})
    if not wanted:
        return ("the history is empty",)
    end = max((one.completed_ns or one.invoked_ns for one in operations), default=start)
    reasons = []
    long = 0
    for window in in_order:
        over = max(end, window.start_ns) if window.end_ns is None else window.end_ns
        if over - window.start_ns < least_s * 1e9:
            continue
        long += 1
        inside = [
            one
            for one in operations
            if window.start_ns <= one.invoked_ns and (one.completed_ns or over) <= over
        ]
        for kind in wanted:
            mine = [one for one in inside if one.kind == kind]
            if not any(one.outcome is Outcome.OK for one in mine):
                tried = f"none of {len(mine)} {kind} succeeded" if mine else f"no {kind} was tried"
                times = f"{at(window.start_ns, start)} – {at(over, start)}"
                reasons.append(f"{tried} during {window.kind} ({times})")
    return tuple(reasons) if long else (f"no fault was in force for {least_s:g} s",)


@dataclass(frozen=True, slots=True)
class NotVacuous:
    """Refuses a pass that says nothing: unknown, with the reasons of `vacuous`; else true."""

    windows: Sequence[tuple[str, int, int | None]]
    least_s: float = 1.0
    kinds: Collection[str] | None = None

    def check(
        self, operations: Sequence[Operation], budget: Budget | None = None, *, overlap_ns: int = 0
    ) -> Verdict:
        """See `Checker.check`. Raises ValueError for a window that ends before it starts."""
        validate(operations, None, "NotVacuous", overlap_ns)
        reasons = vacuous(operations, self.windows, self.least_s, self.kinds)
        start = origin(operations)
        if not reasons:
            return Verdict(
                Answer.TRUE, "every kind of operation succeeded during the faults", origin_ns=start
            )
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        findings = {"reasons": list(reasons)}
        return Verdict(Answer.UNKNOWN, f"vacuous: {reasons[0]}{more}", origin_ns=start, findings=findings)
