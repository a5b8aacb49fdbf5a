"""What a checker answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypedDict

from syndicate.client_api._results import Outcome as Found
from syndicate.client_api.checkers._text import line, lines, plain
from syndicate.client_api.history._operation import Operation


class Answer(StrEnum):
    """Whether a history has the property that was asked for."""

    TRUE = "true"
    UNKNOWN = "unknown"  # nobody can tell: the budget was too small, or nothing was tested
    FALSE = "false"


_WORST = (Answer.TRUE, Answer.UNKNOWN, Answer.FALSE)
_OUTCOMES = {Answer.TRUE: Found.PASS, Answer.FALSE: Found.FAIL, Answer.UNKNOWN: Found.UNKNOWN}


class FinishArguments(TypedDict):
    """What ``Chaos.finish`` takes: ``chaos.finish(**verdict.finish_arguments())``."""

    outcome: Found
    text: str
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True)
class Verdict:
    """An answer, and what it rests on.

    Attributes:
        answer: see `Answer`.
        reason: one sentence, for people.
        counterexample: of FALSE: the operations that cannot be, few, in the order of their invocations.
        around: of FALSE: operations that were open meanwhile, for the reader; at most ten.
        origin_ns: the history's first invocation; texts tell times from there.
        metrics: numbers of this check, by name.
        findings: more of what was found, as JSON values.
        parts: of a composed checker: the verdict of each of its checkers.
    """

    answer: Answer
    reason: str
    counterexample: tuple[Operation, ...] = ()
    around: tuple[Operation, ...] = ()
    origin_ns: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    findings: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, Verdict] = field(default_factory=dict)

    def text(self) -> str:
        """A few plain lines: the answer and its reason, then the operations or the parts."""
        told = [f"{self.answer.value}: {self.reason}"]
        told += lines("  ", self.counterexample, self.origin_ns)
        if self.around:
            told += ["  meanwhile:", *lines("    ", self.around, self.origin_ns)]
        for name, part in self.parts.items():
            first, *rest = part.text().splitlines()
            told += [f"  {name}: {first}", *("  " + more for more in rest)]
        return "\n".join(told)

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON values; operations as ``{index, process, kind, …}``."""
        return {
            "answer": self.answer.value,
            "reason": self.reason,
            "counterexample": [plain(operation) for operation in self.counterexample],
            "around": [plain(operation) for operation in self.around],
            "origin_ns": self.origin_ns,
            "metrics": dict(self.metrics),
            "findings": dict(self.findings),
            "parts": {name: part.as_dict() for name, part in self.parts.items()},
        }

    def all_metrics(self) -> dict[str, float]:
        """Its metrics, and those of its parts as ``part.name``."""
        named = {name: float(value) for name, value in self.metrics.items()}
        for part, verdict in self.parts.items():
            named |= {f"{part}.{name}": value for name, value in verdict.all_metrics().items()}
        return named

    def finish_arguments(self) -> FinishArguments:
        """For ``Chaos.finish(**verdict.finish_arguments())``."""
        return {"outcome": _OUTCOMES[self.answer], "text": self.text(), "metrics": self.all_metrics()}


def worst(answers: Iterable[Answer]) -> Answer:
    """False before unknown before true; true of none."""
    return max(answers, key=_WORST.index, default=Answer.TRUE)


def origin(operations: Sequence[Operation]) -> int:
    """When the first operation was invoked; 0 where there is none."""
    return min((operation.invoked_ns for operation in operations), default=0)


def overlapping(
    operation: Operation, operations: Iterable[Operation], most: int = 10
) -> tuple[Operation, ...]:
    """Operations that were open while this one was, those that ended last before the others."""
    end = float("inf") if operation.completed_ns is None else operation.completed_ns
    found = [
        other
        for other in operations
        if other.index != operation.index
        and other.invoked_ns <= end
        and (other.completed_ns is None or other.completed_ns >= operation.invoked_ns)
    ]
    found.sort(key=lambda other: -other.invoked_ns)
    return tuple(sorted(found[:most], key=lambda other: other.invoked_ns))


__all__ = ["Answer", "FinishArguments", "Verdict", "line", "origin", "overlapping", "worst"]
