"""Why a history has no order, in a few operations.

The shortest beginning of the history that has no order ends with the return of the operation that is to
blame. Of the others all that do not matter are relaxed while there is still no order: a read is left out, any
other operation is taken as one whose end nobody knows. Both only allow more orders, so what remains is a
proof.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from syndicate.client_api.checkers import _text
from syndicate.client_api.checkers._budget import Meter
from syndicate.client_api.checkers._search import Found, Search, prefix
from syndicate.client_api.checkers._values import freeze
from syndicate.client_api.checkers._verdict import Answer, Verdict, origin, overlapping
from syndicate.client_api.checkers.models import Model
from syndicate.client_api.history._operation import Operation, Outcome

_TRY_S = 0.25  # of one try: what takes longer is not relaxed
_ALL_S = 0.7  # of all tries: an answer is due, not the shortest proof
_FEW = 50  # operations that are searched before the clock is looked at: also by a process that stood still
_LARGEST_CORE = 10  # more is no help to a reader


class _Tries:
    """Searches of smaller histories, within what is left of the time."""

    def __init__(self, model: Model, meter: Meter) -> None:
        self.model = model
        self._meter = meter
        self._end = min(meter.end, meter.clock() + _ALL_S)

    def order(self, operations: Sequence[Operation]) -> tuple[Found, list[Operation]]:
        """Whether they have an order, and the longest."""
        until = min(self._end, self._meter.clock() + _TRY_S)
        if self._meter.clock() >= until and len(operations) > _FEW:
            return Found.LATE, []
        search = Search(self.model, operations, self._meter)
        try:
            return search.run(until), search.longest()[0]
        finally:
            search.close()

    def none(self, operations: Sequence[Operation]) -> bool:
        """Whether they certainly have none."""
        return self.order(operations)[0] is Found.NONE


class Failure:
    """A partition that has no order; `longest` is the longest that the search found."""

    def __init__(
        self, model: Model, operations: Sequence[Operation], meter: Meter, longest: list[Operation]
    ) -> None:
        self._model = model
        self._operations = operations
        self._meter = meter
        self._longest = longest

    def verdict(self, everything: Sequence[Operation], began: float) -> Verdict:
        """FALSE, with the operations that prove it."""
        tries = _Tries(self._model, self._meter)
        seen = self._model.conflict(self._operations)
        proven, (*core, blamed) = (True, seen) if seen else self._searched(tries)
        if not self._longest:
            known = prefix(self._operations, int(blamed.completed_ns or 0) - 1, self._model.reads)
            self._longest = tries.order(known)[1]
        start = origin(everything)
        shown = {
            one.index: one
            for one in [*_sources(self._model, [*core, blamed], self._operations), *core, blamed]
        }
        counterexample = tuple(sorted(shown.values(), key=lambda one: (one.invoked_ns, one.index)))
        around = [
            one for one in overlapping(blamed, self._operations, 10 + len(shown)) if one.index not in shown
        ]
        return Verdict(
            Answer.FALSE,
            _sentence(self._model, blamed, core, proven and len(counterexample) == 1, start),
            counterexample,
            tuple(around[-10:]),
            start,
            {
                "operations": len(everything),
                "placed": len(self._longest),
                "seconds": self._meter.clock() - began,
            },
            {
                "key": blamed.key,
                "operation": blamed.index,
                "order": [one.index for one in self._longest],
                "order_ends": [_text.line(one, start) for one in self._longest[-3:]],
            },
        )

    def _searched(self, tries: _Tries) -> tuple[bool, list[Operation]]:
        """Whether it is proven, and the core, the first failure at its end."""
        blamed, known, order = _first_failure(tries, self._operations)
        self._longest = order or self._longest
        proven, core = _core(tries, known, blamed)
        return proven, [*core, blamed]


def _first_failure(
    tries: _Tries, operations: Sequence[Operation]
) -> tuple[Operation, list[Operation], list[Operation]]:
    """The first return that no order allows, what was known then, and the longest order of all before it."""
    ok = [one for one in operations if one.outcome is Outcome.OK]
    ok.sort(key=lambda one: (one.completed_ns, one.index))
    low, high = -1, len(ok) - 1
    order: list[Operation] = []
    while high - low > 1:
        middle = (low + high) // 2
        found, placed = tries.order(prefix(operations, int(ok[middle].completed_ns or 0), tries.model.reads))
        if found is Found.LATE or found is Found.FULL:
            break
        low, high = (low, middle) if found is Found.NONE else (middle, high)
        order = placed if found is Found.ORDER else order
    blamed = ok[high]
    return blamed, prefix(operations, int(blamed.completed_ns or 0), tries.model.reads), order


def _relaxed(one: Operation, reads: frozenset[str]) -> list[Operation]:
    return [] if one.kind in reads else [replace(one, outcome=Outcome.INFO, result=None)]


def _core(tries: _Tries, known: list[Operation], blamed: Operation) -> tuple[bool, list[Operation]]:
    """The other operations whose ends matter: with all others relaxed there is still no order.

    Nothing, and that there is no proof, where the time was too short.

    Found one after another by halving: the last operation without which an order appears is needed.
    """
    sure = sorted(
        (one for one in known if one.outcome is Outcome.OK and one.index != blamed.index),
        key=lambda one: -int(one.completed_ns or 0),
    )
    reads = tries.model.reads
    needed: dict[int, Operation] = {blamed.index: blamed}

    def kept(count: int) -> list[Operation]:
        """The history where of `sure` the first `count` and those needed are as they were."""
        whole = {one.index for one in sure[:count]} | set(needed)
        return [
            new
            for one in known
            for new in ([one] if one.index in whole or one.outcome is Outcome.INFO else _relaxed(one, reads))
        ]

    high = len(sure)
    while (found := tries.order(kept(0))[0]) is Found.ORDER and len(needed) < _LARGEST_CORE:
        low, reached = 0, high
        while reached - low > 1:
            middle = (low + reached) // 2
            low, reached = (low, middle) if tries.none(kept(middle)) else (middle, reached)
        if reached == 0:
            break
        needed[sure[reached - 1].index] = sure[reached - 1]
        high = reached - 1
    proven = found is Found.NONE
    return proven, [one for one in needed.values() if one is not blamed] if proven else []


def _sources(model: Model, core: Sequence[Operation], operations: Sequence[Operation]) -> list[Operation]:
    """Who wrote what the reads of the core returned: the first of each value."""
    wanted = {freeze(one.result) for one in core if one.kind in model.reads and one.result is not None}
    found: dict[object, Operation] = {}
    for one in sorted(operations, key=lambda one: one.invoked_ns):
        if one.kind not in model.reads and freeze(one.argument) in wanted:
            found.setdefault(freeze(one.argument), one)
    return list(found.values())


def _sentence(model: Model, blamed: Operation, core: Sequence[Operation], unwritten: bool, start: int) -> str:
    """For a student: what cannot be, and after what."""
    told = f"{_text.gave(blamed)} (process {blamed.process}, {_text.at(blamed.invoked_ns, start)})"
    done = sorted(core, key=lambda one: one.invoked_ns)
    # Who wrote what was read is not what speaks against the read.
    own = freeze(blamed.result) if blamed.kind in model.reads else None
    done = [
        one for one in done if own is None or one.kind in model.reads or freeze(one.argument) != own
    ] or done
    before = [one for one in done if int(one.completed_ns or 0) < blamed.invoked_ns]
    beside = [one for one in done if one not in before]
    if not core:
        if blamed.kind in model.reads and unwritten:
            return f"{told}, which nothing invoked before its end can have left"
        return f"{told}: no order of what was invoked before its end allows that"
    parts = [f"{_was(one, model)} at {_text.at(one.completed_ns, start)}" for one in before]
    after = f"after {' and '.join(parts)}" if parts else ""
    during = f"while {' and '.join(_text.gave(one) for one in beside)} was open" if beside else ""
    return " ".join(word for word in (told, after, during) if word)


def _was(one: Operation, model: Model) -> str:
    """``put x 2 had been acknowledged``."""
    if one.kind in model.reads or one.result is not None:
        return f"{_text.call(one)} had returned {_text.value(one.result)}"
    return f"{_text.call(one)} had been acknowledged"
