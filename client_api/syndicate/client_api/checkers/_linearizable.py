"""Whether a history is linearizable: each operation takes effect at a moment between its two ends."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from syndicate.client_api.checkers._budget import Budget, Meter
from syndicate.client_api.checkers._checker import validate, within
from syndicate.client_api.checkers._explain import Failure
from syndicate.client_api.checkers._search import Found, Search
from syndicate.client_api.checkers._verdict import Answer, Verdict, origin
from syndicate.client_api.checkers.models import Model
from syndicate.client_api.history._operation import Operation, Outcome

_FIRST_SLICE_S = 0.05  # of one partition's first turn; each round's are twice as long as the last's


@dataclass(frozen=True, slots=True)
class Linearizable:
    """Judges a history by a model, each partition (key) of it for itself.

    Partitions take turns that grow, so that a hard one does not take the others' time. An operation whose end
    nobody knows may have taken effect at any time after its invocation, or never.
    """

    model: Model

    def check(
        self, operations: Sequence[Operation], budget: Budget | None = None, *, overlap_ns: int = 0
    ) -> Verdict:
        """See `Checker.check`."""
        model = self.model
        validate(operations, model.kinds, type(model).__name__, overlap_ns)
        parts: dict[Hashable, list[Operation]] = {}
        for one in operations:
            model.validate(one)
            if one.outcome is not Outcome.FAIL:
                parts.setdefault(model.partition(one), []).append(one)
        return within(budget, operations, lambda meter: _Turns(model, operations, parts, meter).verdict())


class _Turns:
    """The searches of one check, and whose turn it is."""

    def __init__(
        self,
        model: Model,
        operations: Sequence[Operation],
        parts: dict[Hashable, list[Operation]],
        meter: Meter,
    ) -> None:
        self._model = model
        self._operations = operations
        self._parts = parts
        self._meter = meter
        self._searches: dict[Hashable, Search] = {}
        self._open = list(parts)
        self._given_up: list[Hashable] = []

    def verdict(self) -> Verdict:
        """Run all until each is decided, one has no order, or the budget is used up."""
        began = self._meter.clock()
        turn = min(_FIRST_SLICE_S, self._meter.left() / (2 * len(self._parts) or 1))
        while self._open and not self._meter.late():
            for part in list(self._open):
                if part in self._open and self._turn(part, turn) is Found.NONE:
                    return self._explained(part, began)
            turn *= 2
        return self._no_violation(began)

    def _turn(self, part: Hashable, seconds: float) -> Found:
        """Search one partition for a while; where memory ends, the largest search is given up."""
        until = min(self._meter.clock() + seconds, self._meter.end)
        if self._meter.late():
            return Found.LATE
        if part not in self._searches:
            if self._model.conflict(self._parts[part]):
                return Found.NONE
            self._searches[part] = Search(self._model, self._parts[part], self._meter)
        search = self._searches[part]
        while (found := search.run(until)) is Found.FULL:
            largest = max(
                self._open, key=lambda one: self._searches[one].bytes if one in self._searches else 0
            )
            self._searches[largest].close()
            self._open.remove(largest)
            self._given_up.append(largest)
            if largest == part:
                return found
        if found is Found.ORDER:
            search.close()
            self._open.remove(part)
        return found

    def _explained(self, part: Hashable, began: float) -> Verdict:
        longest = self._searches[part].longest()[0] if part in self._searches else []
        for search in self._searches.values():
            search.close()
        failure = Failure(self._model, self._parts[part], self._meter, longest)
        return failure.verdict(self._operations, began)

    def _no_violation(self, began: float) -> Verdict:
        left = [*self._given_up, *self._open]
        metrics = {
            "operations": len(self._operations),
            "partitions": len(self._parts),
            "undecided": len(left),
            "seconds": self._meter.clock() - began,
        }
        start = origin(self._operations)
        if not left:
            reason = f"an order explains all {len(self._operations)} operations"
            return Verdict(Answer.TRUE, reason, origin_ns=start, metrics=metrics)
        limit = self._meter.memory_text() if self._given_up else self._meter.time_text()
        named = ", ".join(str(part) for part in left[:5]) + (", …" if len(left) > 5 else "")
        which = "" if len(self._parts) == 1 else f" ({len(left)} of {len(self._parts)} keys: {named})"
        return Verdict(Answer.UNKNOWN, limit + which, origin_ns=start, metrics=metrics)
