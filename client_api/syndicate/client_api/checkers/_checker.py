"""What all checkers share: their form, the care for their input, and their budget."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from syndicate.client_api.checkers._budget import Budget, Exhausted, Meter
from syndicate.client_api.checkers._errors import BadOperation, OverlappingOperations, UnknownKind
from syndicate.client_api.checkers._text import value
from syndicate.client_api.checkers._verdict import Answer, Verdict, origin, worst
from syndicate.client_api.history._operation import Operation, Outcome


class Checker(Protocol):
    """Anything that judges a history."""

    def check(
        self, operations: Sequence[Operation], budget: Budget | None = None, *, overlap_ns: int = 0
    ) -> Verdict:
        """Judge a history within a budget (the default `Budget` where none is given).

        Operations of one process may overlap by `overlap_ns`: those of a history that was widened by the
        bounds of its clocks. Raises BadHistory for a history that cannot be judged.
        """
        ...


def validate(
    operations: Iterable[Operation], kinds: Collection[str] | None, who: str, overlap_ns: int = 0
) -> None:
    """Raise a BadHistory for the first operation that cannot be, or that `who` does not know.

    `kinds` are those that it knows; None for any. Operations of one process may overlap by `overlap_ns`.
    """
    last: dict[int | str, Operation] = {}
    for operation in sorted(operations, key=lambda one: one.invoked_ns):
        if kinds is not None and operation.kind not in kinds:
            known = ", ".join(sorted(kinds))
            raise UnknownKind(operation, f"{who} does not know {operation.kind!r}; it knows {known}")
        if operation.completed_ns is None and operation.outcome is not Outcome.INFO:
            raise BadOperation(operation, f"it is {operation.outcome.value}, but was never completed")
        if operation.completed_ns is not None and operation.completed_ns < operation.invoked_ns:
            raise BadOperation(operation, "it was completed before it was invoked")
        before = last.get(operation.process)
        if before is not None:
            end = before.completed_ns
            if end is None or end - overlap_ns > operation.invoked_ns:
                text = f"it was invoked while operation {before.index} was open"
                raise OverlappingOperations(operation, text)
        last[operation.process] = operation


def within(
    budget: Budget | None, operations: Sequence[Operation], work: Callable[[Meter], Verdict]
) -> Verdict:
    """The verdict of `work`, or unknown where it does not fit in its budget."""
    reason = ""
    try:
        return work((budget or Budget()).begin())
    except Exhausted as spent:
        reason = str(spent)
    except MemoryError:
        # Past the handler, so that what the work held is free again.
        reason = "not decided: the process has no memory left"
    return Verdict(Answer.UNKNOWN, reason, origin_ns=origin(operations))


@dataclass(frozen=True, slots=True)
class Composed:
    """Several checkers as one: see `compose`."""

    checkers: Mapping[str, Checker]

    def check(
        self, operations: Sequence[Operation], budget: Budget | None = None, *, overlap_ns: int = 0
    ) -> Verdict:
        """Each in turn; one has an equal share of the time that those before it left."""
        budget = budget or Budget()
        meter = budget.begin()
        parts: dict[str, Verdict] = {}
        for name, checker in self.checkers.items():
            share = max(meter.left(), budget.seconds / 1000) / (len(self.checkers) - len(parts))
            parts[name] = checker.check(operations, replace(budget, seconds=share), overlap_ns=overlap_ns)
        answer = worst(part.answer for part in parts.values())
        named = [name for name, part in parts.items() if part.answer is answer]
        if answer is Answer.TRUE:
            reason = f"all hold: {', '.join(named)}" if named else "nothing was asked for"
        else:
            reason = f"{named[0]}: {parts[named[0]].reason}"
        return Verdict(answer, reason, origin_ns=origin(operations), parts=parts)


def compose(checkers: Mapping[str, Checker]) -> Checker:
    """A checker that answers the worst of what these answer: false before unknown before true."""
    return Composed(dict(checkers))


def of_kinds(operations: Iterable[Operation], *kinds: str) -> list[Operation]:
    """Those of these kinds."""
    return [operation for operation in operations if operation.kind in kinds]


def number(operation: Operation, thing: object, what: str) -> int:
    """A whole number that an operation must hold; raises BadOperation."""
    if isinstance(thing, bool) or not isinstance(thing, int):
        raise BadOperation(operation, f"its {what} {value(thing)} is not a whole number")
    return thing


def listed(operation: Operation, thing: object, what: str) -> list[object]:
    """A list that an operation must hold; raises BadOperation."""
    if not isinstance(thing, (list, tuple)):
        raise BadOperation(operation, f"its {what} {value(thing)} is not a list")
    return list(thing)
