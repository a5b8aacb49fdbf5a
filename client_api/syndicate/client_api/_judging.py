"""The verdict on the histories of several clients: merged, checked once, and with the clocks' bounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from syndicate.client_api._histories import Gathered
from syndicate.client_api._results import Fault, MemberState
from syndicate.client_api.checkers import (
    Answer,
    BadHistory,
    Budget,
    Checker,
    FaultWindow,
    NotVacuous,
    Verdict,
    compose,
    fault_windows,
)
from syndicate.client_api.history import HistoryError, Merged, merge

Wanted = Checker | Callable[[Sequence[FaultWindow]], Checker]
"""A checker, or what makes one of the windows of the job's faults: ``lambda w: AvailableAgain(5.0, w)``."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the histories; see ``Chaos.judge``."""

    checkers: Mapping[str, Wanted]
    budget: Budget | None = None
    windows: Sequence[tuple[str, int, int | None]] | None = None
    tested: bool = True
    least_s: float = 1.0
    kinds: Collection[str] | None = None


def unknown(reason: str) -> Verdict:
    """The verdict where the histories cannot be judged."""
    return Verdict(Answer.UNKNOWN, reason)


def judged(
    gathered: Gathered, members: Sequence[MemberState], faults: Sequence[Fault], question: Question
) -> Verdict:
    """The verdict. Raises ValueError for windows that cannot be, and OSError."""
    if lacking := [*gathered.lacking, *_lost(gathered, members)]:
        # What is missing may hold the write that explains a read, or the read that nothing explains.
        return unknown(f"not all histories were handed over: {', '.join(lacking)}")
    if not gathered.histories:
        return unknown("no client has handed a history over")
    try:
        merged = merge(gathered.read())
        verdict = _checked(merged, faults, question)
    except (HistoryError, BadHistory) as error:
        return unknown(f"the histories cannot be judged: {error}")
    return replace(
        verdict,
        parts={**verdict.parts, "clocks": _clocks(merged)},
        findings={**verdict.findings, "clocks": [str(clock) for clock in merged.clocks]},
    )


def _lost(gathered: Gathered, members: Sequence[MemberState]) -> list[str]:
    """Clients that were revived more often than they handed over: what a lost disk held is not there."""
    counts = Counter(history.task for history in gathered.histories)
    return [
        f"{member.task} ({counts[member.task]} of its {member.generation} runs)"
        for member in members
        if member.generation > counts[member.task] > 0 and member.task not in gathered.missing
    ]


def _checked(merged: Merged, faults: Sequence[Fault], question: Question) -> Verdict:
    given = question.windows
    windows = fault_windows(faults) if given is None else [FaultWindow(*one) for one in given]
    if given is None and windows:
        _require_one_clock(merged, faults)
    made = {name: one if hasattr(one, "check") else one(windows) for name, one in question.checkers.items()}
    if question.tested:
        made["tested"] = NotVacuous(windows, question.least_s, question.kinds)
    # Operations of one process overlap by what both their ends were moved.
    worst = max((clock.error_ns or 0 for clock in merged.clocks if clock.widened), default=0)
    return compose(made).check(merged.operations, question.budget, overlap_ns=2 * worst)


def _require_one_clock(merged: Merged, faults: Sequence[Fault]) -> None:
    """The ledger is on the manager's clock: operations that are not cannot be told to lie in a window."""
    managers = {fault.requested_at.boot_id for fault in faults}
    for clock in merged.clocks:
        if clock.offset_ns is None and {clock.boot_id} != managers:
            raise HistoryError(
                f"the clock of {clock.client} was never compared to the manager's, on which the faults stand:"
                " record history.set_clock(chaos.ping())"
            )


def _clocks(merged: Merged) -> Verdict:
    errors = [clock.error_ns for clock in merged.clocks if clock.error_ns is not None]
    machines = len({clock.boot_id for clock in merged.clocks})
    histories = "1 history" if len(merged.clocks) == 1 else f"{len(merged.clocks)} histories"
    lines = [f"{histories} of {machines} machine{'s' * (machines > 1)}"]
    metrics = {"worst_error_ms": max(errors) / 1e6} if errors else {}
    return Verdict(
        Answer.TRUE, "\n".join([*lines, *(f"  {clock}" for clock in merged.clocks)]), metrics=metrics
    )
