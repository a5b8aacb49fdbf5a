"""The search for an order of one object's operations: Wing and Gong's, with Lowe's optimisations.

Operations take effect just in time: nothing is placed until an operation returns that was not, and then it
is, alone or behind others that are open. A configuration is what was reached: the next return, which of the
open operations took effect already (bits of an integer), and the state (the number of one). One that was seen
before is not searched again. To this come, each of them without loss of an answer:

- An open operation that fits, leaves the state as it is and would do so anywhere (`Model.passive`) takes
  effect at once.
- Of open operations that do the same (`Model.alike`) the one that returns first is tried.
- An operation whose end nobody knows never returns; it is tried last, and never where it changes nothing. A
  configuration that used up more of these than another, all else equal, is not searched.
- `Model.held_until`: a state that is reached once is not left before all who need it could have had it.

Sources: Wing and Gong, "Testing and verifying concurrent objects" (1993); Lowe, "Testing for linearizability"
(2017); the partial order of what ends unknown is that of Jepsen's histories.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Hashable, Sequence
from dataclasses import replace
from enum import Enum
from typing import TypeAlias

from syndicate.client_api.checkers._budget import Meter
from syndicate.client_api.checkers._values import size
from syndicate.client_api.checkers.models import REFUSED, Model
from syndicate.client_api.history._operation import Operation, Outcome

# Bytes of one remembered configuration beside its integer, in a set and in a dict with its values, tables
# that grow included. With these tracemalloc's peak is some four fifths of what was counted (CPython 3.11).
_SET_ENTRY = 70
_DICT_ENTRY = 160
_STEP_ENTRY = 60
_STATE_ENTRY = 350  # its number, its own dict of steps, its places in two lists
_PER_OPERATION = 1200  # its places in the lists, a frame of the search, its cell of the path
_STEPS_PER_LOOK = 4000  # steps of the model between two looks at the clock: some milliseconds

Path: TypeAlias = "tuple[int, Path] | None"


class Found(Enum):
    """What a search came to."""

    ORDER = "order"  # there is one
    NONE = "none"  # there is none
    LATE = "late"  # not yet; it goes on when it is run again
    FULL = "full"  # memory is used up; it goes on when it is run again


class Search:
    """One search, which can be interrupted and resumed. Its operations are OK or INFO, on one object."""

    def __init__(self, model: Model, operations: Sequence[Operation], meter: Meter) -> None:
        relevant = [one for one in operations if one.outcome is Outcome.OK or one.kind not in model.reads]
        self._model = model.specialise(relevant)
        self._meter = meter
        self.bytes = 0
        # What may never have been done, and what nobody could tell if it was, was not.
        passive = self._model.passive
        self._lay_out([one for one in relevant if one.outcome is Outcome.OK or not passive(one)])
        self._number_alike()
        at_once = [passive(one) for one in self.ok]
        self._passive = [tuple([p for p in now if at_once[p]]) for now in self._open]
        self._states: dict[Hashable, int] = {}
        self._values: list[Hashable] = []
        self._steps: list[dict[int, int]] = []
        self._leave: list[int] = []
        self._seen: set[int] = set()
        self._used: dict[int, tuple[int, ...]] = {}
        self._charge(_PER_OPERATION * len(relevant) + 16 * sum(map(len, self._open)))
        # Where the search stands: (return, bits, state, path), and what is still to be tried before it.
        self._place: tuple[int, int, int, Path] = (0, 0, self._number(self._model.initial), None)
        self._stack: list[tuple[int, int, Path, list[int]]] = []
        self._deepest: tuple[int, Path] = (-1, None)

    def _lay_out(self, operations: Sequence[Operation]) -> None:
        """The returns in their order; what is open at each; the bits.

        What returns at the very time of another's invocation is concurrent to it: clocks are not finer than
        that.
        """
        self.ok = sorted(
            (one for one in operations if one.outcome is Outcome.OK),
            key=lambda one: (one.completed_ns, one.index),
        )
        self.info = sorted(
            (one for one in operations if one.outcome is Outcome.INFO),
            key=lambda one: (one.invoked_ns, one.index),
        )
        self.all = [*self.ok, *self.info]
        self._ends = [int(one.completed_ns or 0) for one in self.ok]
        self._open: list[tuple[int, ...]] = []
        bits = [0] * len(self.ok)
        invoked = sorted(range(len(self.ok)), key=lambda p: self.ok[p].invoked_ns, reverse=True)
        free: list[int] = []
        width = 0
        now: list[int] = []
        for returning, end in enumerate(self._ends):
            while invoked and self.ok[invoked[-1]].invoked_ns <= end:
                new = invoked.pop()
                if not free:
                    free.append(width)
                    width += 1
                bits[new] = 1 << free.pop()
                now.append(new)
            now.sort()
            self._open.append(tuple(now))
            now.remove(returning)
            free.append(bits[returning].bit_length() - 1)
        self._width = width
        self._bits = bits + [1 << (width + place) for place in range(len(self.info))]
        self._known = [bisect_left([one.invoked_ns for one in self.info], end + 1) for end in self._ends]

    def _number_alike(self) -> None:
        numbers: dict[Hashable, int] = {}
        alike = self._model.alike
        self._alike = [numbers.setdefault((alike(one), one.outcome), len(numbers)) for one in self.all]

    def _charge(self, count: int) -> None:
        self.bytes += count
        self._meter.used += count

    def _number(self, value: Hashable) -> int:
        """The number of a state."""
        number = self._states.get(value)
        if number is None:
            number = self._states[value] = len(self._values)
            self._values.append(value)
            self._steps.append({})
            until = self._model.held_until(value)
            self._leave.append(0 if until is None else bisect_left(self._ends, until))
            self._charge(size(value) + _STATE_ENTRY)
        return number

    def _step(self, state: int, p: int) -> int:
        """The number of the state after an operation, -1 where it is refused; remembered for those alike."""
        after = self._model.step(self._values[state], self.all[p])
        number = -1 if after is REFUSED else self._number(after)
        self._steps[state][self._alike[p]] = number
        self._charge(_STEP_ENTRY)
        return number

    def close(self) -> None:
        """Forget everything; the search can only be asked for its deepest path afterwards."""
        self._meter.used -= self.bytes
        self.bytes = 0
        self._seen, self._used, self._stack = set(), {}, []
        self._states, self._values, self._steps = {}, [], []

    def longest(self) -> tuple[list[Operation], Operation | None]:
        """The longest order that was found, and the operation that could not be placed behind it."""
        returning, path = self._deepest
        order = []
        while path is not None:
            p, path = path
            order.append(self.all[p])
        return order[::-1], self.ok[returning] if 0 <= returning < len(self.ok) else None

    def run(self, until: float) -> Found:
        """Search on until a time of the meter's clock."""
        meter, steps, passive, bits, alike = self._meter, self._steps, self._passive, self._bits, self._alike
        returns, work = len(self.ok), 0
        at, mask, state, path = self._place
        while True:
            if at == returns:
                self._deepest = (at, path)
                return Found.ORDER
            if work > _STEPS_PER_LOOK:
                work = 0
                if meter.full() or meter.clock() >= until:
                    self._place = (at, mask, state, path)
                    return Found.FULL if meter.full() else Found.LATE
            row, now = steps[state], passive[at]
            work += len(now) + 4
            for p in now:
                if not mask & bits[p]:
                    after = row.get(alike[p])
                    if after is None:
                        after = self._step(state, p)
                    if after == state:
                        mask |= bits[p]
                        path = (p, path)
            if mask & bits[at]:
                mask ^= bits[at]
                at += 1
                continue
            if at >= self._leave[state] and self._is_new(at, mask, state):
                choices = self._choices(at, mask, state)
                work += 2 * len(choices)
            else:
                choices = []
            if not choices:
                if at > self._deepest[0]:
                    self._deepest = (at, path)
                while self._stack and not self._stack[-1][3]:
                    self._stack.pop()
                if not self._stack:
                    return Found.NONE
                at, mask, path, choices = self._stack[-1]
            else:
                self._stack.append((at, mask, path, choices))
            p = choices.pop()
            state = choices.pop()
            mask |= bits[p]
            path = (p, path)

    def _is_new(self, at: int, mask: int, state: int) -> bool:
        """Whether a configuration was not seen yet, nor one that can do as much; it is remembered."""
        key = (state * (len(self.ok) + 1) + at) << self._width
        if not self.info:
            key |= mask
            if key in self._seen:
                return False
            self._seen.add(key)
            self._charge(_SET_ENTRY + sys.getsizeof(key))
            return True
        key |= mask & ((1 << self._width) - 1)
        used = mask >> self._width
        before = self._used.get(key)
        if before is None:
            self._used[key] = (used,)
            self._charge(_DICT_ENTRY + sys.getsizeof(key) + sys.getsizeof(used))
            return True
        if any(one & used == one for one in before):
            return False
        self._used[key] = (*(one for one in before if one & used != used), used)
        self._charge(8 + sys.getsizeof(used))
        return True

    def _choices(self, at: int, mask: int, state: int) -> list[int]:
        """What may take effect next, as state and operation in turn, the best last.

        First the one that returns; then those after which it fits; then the rest; unknown ends after known
        ones.
        """
        row, bits, alike, steps = self._steps[state], self._bits, self._alike, self._steps
        wanted = alike[at]
        direct: list[int] = []
        better: list[int] = []
        other: list[int] = []
        tried = set()
        fits = row.get(wanted)
        if fits is None:
            fits = self._step(state, at)
        first = len(self.ok)
        for group in (self._open[at], range(first, first + self._known[at])):
            for p in group:
                kind = alike[p]
                if mask & bits[p] or kind in tried:
                    continue
                tried.add(kind)
                after = row.get(kind)
                if after is None:
                    after = self._step(state, p)
                if after < 0 or (after == state and p >= first):
                    continue
                if p == at:
                    direct = [after, p]
                    continue
                then = -1
                if fits < 0:
                    known = steps[after].get(wanted)
                    then = self._step(after, at) if known is None else known
                (other if then < 0 else better).extend((p, after))
        other.reverse()
        better.reverse()
        return [*other, *better, *direct]


def prefix(operations: Sequence[Operation], end_ns: int, reads: frozenset[str]) -> list[Operation]:
    """What was known of operations at a time: those not completed are INFO, reads among them gone."""
    known = []
    for one in operations:
        if one.completed_ns is not None and one.completed_ns <= end_ns and one.outcome is Outcome.OK:
            known.append(one)
        elif one.invoked_ns <= end_ns and one.kind not in reads:
            known.append(replace(one, outcome=Outcome.INFO, result=None))
    return known
