"""Elements that go in and should be there, come out or differ: set-full, total-queue, unique-ids, counter.

Their answers are those of Jepsen's checkers of these names, with one more: what an operation whose end nobody
knows may have done is never held against the system.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter as Count
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from syndicate.client_api.checkers._budget import Budget, Meter
from syndicate.client_api.checkers._checker import listed, number, of_kinds, validate, within
from syndicate.client_api.checkers._errors import BadOperation
from syndicate.client_api.checkers._text import at, gave, value
from syndicate.client_api.checkers._values import freeze
from syndicate.client_api.checkers._verdict import Answer, Verdict, origin, overlapping
from syndicate.client_api.history._operation import Operation, Outcome

_MOST_NAMED = 20  # elements of a kind in the findings


def _ok(operations: Iterable[Operation]) -> list[Operation]:
    return [one for one in operations if one.outcome is Outcome.OK]


def _false(
    reason: str,
    core: Iterable[Operation],
    operations: Sequence[Operation],
    metrics: dict[str, float],
    **found: Any,
) -> Verdict:
    shown = sorted({one.index: one for one in core}.values(), key=lambda one: one.invoked_ns)
    numbers = {one.index for one in shown}
    around = tuple(one for one in overlapping(shown[-1], operations) if one.index not in numbers)
    findings = {name: list(values)[:_MOST_NAMED] for name, values in found.items() if values}
    return Verdict(Answer.FALSE, reason, tuple(shown), around, origin(operations), metrics, findings)


@dataclass(frozen=True, slots=True)
class SetFull:
    """`add` of an element, `read` of all: what was acknowledged, or read once, is in every later read.

    With `linearizable` it must be in each read invoked after; without, only from some read on for good.
    """

    linearizable: bool = True

    def check(
        self, operations: Sequence[Operation], budget: Budget | None = None, *, overlap_ns: int = 0
    ) -> Verdict:
        """See `Checker.check`. Raises BadOperation for a read of no list, or an element added twice."""
        validate(operations, {"add", "read"}, "SetFull", overlap_ns)
        added: dict[Hashable, Operation] = {}
        for one in of_kinds(operations, "add"):
            if added.setdefault(freeze(one.argument), one) is not one:
                raise BadOperation(one, f"it adds {value(one.argument)} again; elements must differ")
        reads = sorted(_ok(of_kinds(operations, "read")), key=lambda one: one.invoked_ns)
        contents = [Count(map(freeze, listed(one, one.result, "result"))) for one in reads]
        return within(
            budget, operations, lambda meter: self._judge(operations, added, reads, contents, meter)
        )

    def _judge(
        self,
        operations: Sequence[Operation],
        added: dict[Hashable, Operation],
        reads: list[Operation],
        contents: list[Count[Hashable]],
        meter: Meter,
    ) -> Verdict:
        for one, content in zip(reads, contents, strict=True):
            meter.check()
            for element, times in content.items():
                add = added.get(element)
                if add is None or add.outcome is Outcome.FAIL or add.invoked_ns > (one.completed_ns or 0):
                    what = "had failed" if add and add.outcome is Outcome.FAIL else "nobody had added"
                    shown = value(one.result[_place(one.result, element)])
                    return _false(
                        f"a read returned {shown}, which {what}", [one, *filter(None, [add])], operations, {}
                    )
                if times > 1:
                    return _false(
                        f"a read returned {value(add.argument)} {times} times", [add, one], operations, {}
                    )
        lost: list[tuple[Operation, Operation]] = []
        stale: list[tuple[Operation, Operation]] = []
        stable = 0
        for element, add in added.items():
            meter.check()
            known = [int(add.completed_ns or 0)] if add.outcome is Outcome.OK else []
            known += [
                int(one.completed_ns or 0)
                for one, held in zip(reads, contents, strict=True)
                if element in held
            ]
            after = [place for place, one in enumerate(reads) if known and one.invoked_ns > min(known)]
            if not after:
                continue
            absent = [place for place in after if element not in contents[place]]
            if not absent:
                stable += 1
            else:
                gone = absent[-1] == after[-1]
                (lost if gone else stale).append((add, reads[absent[-1 if gone else 0]]))
        metrics: dict[str, float] = {
            "adds": len(added),
            "reads": len(reads),
            "stable": stable,
            "lost": len(lost),
            "stale": len(stale),
        }
        for found, told in (
            (lost, "is lost"),
            (stale if self.linearizable else [], "was not there for a while"),
        ):
            if found:
                add, one = found[0]
                start = origin(operations)
                end = (
                    f"acknowledged at {at(add.completed_ns, start)}"
                    if add.outcome is Outcome.OK
                    else "read before"
                )
                when = at(one.invoked_ns, start)
                reason = f"{value(add.argument)}, {end}, {told}: not in a read invoked at {when}"
                return _false(
                    reason, [add, one], operations, metrics, elements=[a.argument for a, _ in found]
                )
        if not stable:
            reason = "no element was read after it was known to be there"
            return Verdict(Answer.UNKNOWN, reason, origin_ns=origin(operations), metrics=metrics)
        reason = f"all of {stable} elements were there in each later read"
        if stale:
            reason = f"no element is lost; {len(stale)} were not there for a while"
        return Verdict(Answer.TRUE, reason, origin_ns=origin(operations), metrics=metrics)


def _place(things: Sequence[object], element: Hashable) -> int:
    return [freeze(thing) for thing in things].index(element)


@dataclass(frozen=True, slots=True)
class TotalQueue:
    """`enqueue`, `dequeue` (None where it was empty) and `drain` (all that is left): what went in comes out.

    In any order. With `exactly_once` it may not come out twice.
    """

    exactly_once: bool = False

    def check(
        self, operations: Sequence[Operation], budget: Budget | None = None, *, overlap_ns: int = 0
    ) -> Verdict:
        """See `Checker.check`. Raises BadOperation for a drain of what is no list."""
        validate(operations, {"enqueue", "dequeue", "drain"}, "TotalQueue", overlap_ns)
        out: list[tuple[Hashable, Operation]] = []
        for one in _ok(operations):
            if one.kind == "drain":
                out += [(freeze(thing), one) for thing in listed(one, one.result, "result")]
            elif one.kind == "dequeue" and one.result is not None:
                out.append((freeze(one.result), one))
        return within(budget, operations, lambda meter: self._judge(operations, out, meter))

    def _judge(
        self, operations: Sequence[Operation], out: list[tuple[Hashable, Operation]], meter: Meter
    ) -> Verdict:
        puts = [
            (freeze(one.argument), one)
            for one in of_kinds(operations, "enqueue")
            if one.outcome is not Outcome.FAIL
        ]
        tried = Count(element for element, _ in puts)
        sure = Count(element for element, one in puts if one.outcome is Outcome.OK)
        came = Count(element for element, _ in out)
        meter.check()
        lost = sure - came
        twice = Count(
            {element: times - tried[element] for element, times in came.items() if 0 < tried[element] < times}
        )
        strange = [(element, one) for element, one in out if not tried[element]]
        unknown = [one for one in of_kinds(operations, "dequeue", "drain") if one.outcome is Outcome.INFO]
        metrics: dict[str, float] = {
            "enqueued": sure.total(), "dequeued": len(out), "lost": lost.total(),
            "duplicated": twice.total(), "unexpected": len(strange),
        }  # fmt: skip
        if strange:
            one = strange[0][1]
            return _false(f"{gave(one)}: what came out was never put in", [one], operations, metrics)
        if self.exactly_once and twice:
            element = next(iter(twice))
            takers = [one for taken, one in out if taken == element]
            reason = (
                f"{takers[0].kind} returned one element {came[element]} times, put in {tried[element]} times"
            )
            return _false(reason, takers[:4], operations, metrics)
        if lost:
            element = next(iter(lost))
            put = next(one for other, one in puts if other == element and one.outcome is Outcome.OK)
            if any(one.kind == "drain" for one in unknown) or lost.total() <= len(unknown):
                reason = (
                    f"{lost.total()} elements did not come out; {len(unknown)} operations whose end "
                    "nobody knows may have taken them"
                )
                return Verdict(Answer.UNKNOWN, reason, (put,), (), origin(operations), metrics)
            reason = f"{lost.total()} acknowledged elements never came out, {value(put.argument)} the first"
            names = [one.argument for other, one in puts if other in lost]
            return _false(reason, [put], operations, metrics, elements=names)
        if not sure:
            return Verdict(Answer.UNKNOWN, "no enqueue succeeded", (), (), origin(operations), metrics)
        reason = f"all of {sure.total()} acknowledged elements came out"
        return Verdict(Answer.TRUE, reason, (), (), origin(operations), metrics)


@dataclass(frozen=True, slots=True)
class UniqueIds:
    """`generate`: no two successes return the same."""

    def check(
        self, operations: Sequence[Operation], budget: Budget | None = None, *, overlap_ns: int = 0
    ) -> Verdict:
        """See `Checker.check`."""
        validate(operations, {"generate"}, "UniqueIds", overlap_ns)
        return within(budget, operations, lambda _: self._judge(operations))

    def _judge(self, operations: Sequence[Operation]) -> Verdict:
        first: dict[Hashable, Operation] = {}
        twice: list[tuple[Operation, Operation]] = []
        for one in sorted(_ok(operations), key=lambda one: one.invoked_ns):
            if (other := first.setdefault(freeze(one.result), one)) is not one:
                twice.append((other, one))
        metrics = {"generated": float(len(first) + len(twice)), "duplicated": float(len(twice))}
        if twice:
            ids = [one.result for _, one in twice]
            return _false(f"{value(ids[0])} was given twice", twice[0], operations, metrics, ids=ids)
        if not first:
            return Verdict(Answer.UNKNOWN, "nothing was generated", (), (), origin(operations), metrics)
        return Verdict(Answer.TRUE, f"all of {len(first)} differ", (), (), origin(operations), metrics)


@dataclass(frozen=True, slots=True)
class Counter:
    """`add` of a whole number, `read`: a read lies between what was surely added and what may have been."""

    def check(
        self, operations: Sequence[Operation], budget: Budget | None = None, *, overlap_ns: int = 0
    ) -> Verdict:
        """See `Checker.check`. Raises BadOperation for what is no whole number."""
        validate(operations, {"add", "read"}, "Counter", overlap_ns)
        for one in operations:
            if one.kind == "add":
                number(one, one.argument, "argument")
            elif one.outcome is Outcome.OK:
                number(one, one.result, "result")
        return within(budget, operations, lambda meter: self._judge(operations, meter))

    def _judge(self, operations: Sequence[Operation], meter: Meter) -> Verdict:
        adds = [one for one in of_kinds(operations, "add") if one.outcome is not Outcome.FAIL]
        sure = {
            sign: _Sums(
                [(int(one.completed_ns or 0), one.argument) for one in _ok(adds) if one.argument * sign > 0]
            )
            for sign in (1, -1)
        }
        may = {
            sign: _Sums([(one.invoked_ns, one.argument) for one in adds if one.argument * sign > 0])
            for sign in (1, -1)
        }
        reads = sorted(_ok(of_kinds(operations, "read")), key=lambda one: one.invoked_ns)
        metrics = {"adds": float(len(adds)), "reads": float(len(reads))}
        for one in reads:
            meter.check()
            # Added before the read was invoked counts for certain; invoked before its end, it may count.
            begin, end = one.invoked_ns, int(one.completed_ns or 0) + 1
            low = sure[1].before(begin) + may[-1].before(end)
            high = sure[-1].before(begin) + may[1].before(end)
            if not low <= one.result <= high:
                reason = f"a read returned {one.result}, which must lie between {low} and {high}"
                return _false(reason, [one], operations, metrics)
        if not reads:
            return Verdict(Answer.UNKNOWN, "no read succeeded", (), (), origin(operations), metrics)
        reason = f"all of {len(reads)} reads lie within their bounds"
        return Verdict(Answer.TRUE, reason, (), (), origin(operations), metrics)


class _Sums:
    """Sums of numbers by time."""

    def __init__(self, pairs: list[tuple[int, int]]) -> None:
        pairs.sort()
        self._times = [time for time, _ in pairs]
        self._sums = [0, *accumulate(amount for _, amount in pairs)]

    def before(self, time: int) -> int:
        """Of those with an earlier time."""
        return self._sums[bisect_left(self._times, time)]
