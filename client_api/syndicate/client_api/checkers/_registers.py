"""Registers and maps of them: the models, and what makes their search short."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Sequence
from enum import Enum
from itertools import pairwise
from typing import Any

from syndicate.client_api.checkers._errors import BadOperation
from syndicate.client_api.checkers._text import value
from syndicate.client_api.checkers._tokens import Lineage
from syndicate.client_api.checkers._values import freeze
from syndicate.client_api.checkers._zones import conflict
from syndicate.client_api.checkers.models import REFUSED, Model, by_value
from syndicate.client_api.history._operation import Operation, Outcome

READS = frozenset({"get", "read"})
WRITES = frozenset({"put", "write"})


class _Unread(Enum):
    """The one state that stands for all values that nobody ever saw."""

    UNREAD = "unread"


_UNREAD = _Unread.UNREAD


class KeyValue(Model):
    """A map: `get`, `put` and `append` (`read` and `write` are understood too), each on its key.

    `initial` is what a key holds that was never written. `append` joins text; where `initial` is a list it
    adds its argument as an element.
    """

    reads = READS
    kinds = frozenset({"get", "put", "append", *READS, *WRITES})

    def __init__(self, initial: Any = None) -> None:
        self.initial = freeze(initial)
        self.lists = isinstance(self.initial, tuple)

    def partition(self, operation: Operation) -> Hashable:
        """By key."""
        return freeze(operation.key)

    def alike(self, operation: Operation) -> Hashable:
        """By value."""
        return by_value(operation)

    def step(self, state: Any, operation: Operation) -> Hashable:
        """The state is the key's value."""
        if operation.kind in READS:
            fits = operation.outcome is Outcome.INFO or freeze(operation.result) == state
            return state if fits else REFUSED
        if operation.kind in WRITES:
            return freeze(operation.argument)
        if operation.kind == "append":
            return self.joined(state, freeze(operation.argument))
        old, new = operation.argument
        return freeze(new) if freeze(old) == state else REFUSED

    def joined(self, state: Any, addition: Hashable) -> Hashable:
        """What an append leaves."""
        if self.lists:
            return (*(state or ()), addition)
        return addition if state is None else state + addition

    def validate(self, operation: Operation) -> None:
        """Text is appended; a compare-and-set has two values; lists are read and written as lists."""
        if operation.kind == "append" and not self.lists and not isinstance(operation.argument, str):
            raise BadOperation(
                operation,
                f"it appends {value(operation.argument)}, which is no text: say KeyValue(initial=[])",
            )
        pair = operation.argument
        if operation.kind == "cas" and not (isinstance(pair, (list, tuple)) and len(pair) == 2):
            raise BadOperation(operation, f"its argument {value(pair)} is not [old, new]")

    def conflict(self, operations: Sequence[Operation]) -> tuple[Operation, ...]:
        """By the times of each value that is reached once."""
        reads: dict[Hashable, list[Operation]] = {}
        bring: dict[Hashable, list[Operation]] = {}
        append: dict[Hashable, list[Operation]] = {}
        for one in operations:
            if one.kind in READS:
                if one.outcome is Outcome.OK:
                    reads.setdefault(freeze(one.result), []).append(one)
            elif one.kind == "append":
                append.setdefault(freeze(one.argument), []).append(one)
            elif one.kind == "cas":
                old, new = map(freeze, one.argument)
                bring.setdefault(new, []).append(one)
                if one.outcome is Outcome.OK:
                    reads.setdefault(old, []).append(one)
            else:
                bring.setdefault(freeze(one.argument), []).append(one)
        lengths = () if self.lists else {len(str(one)) for one in append}

        def makers(value: Any) -> list[Operation]:
            able = list(bring.get(value, ()))
            if self.lists and isinstance(value, tuple) and value:
                able += append.get(value[-1], ())
            elif isinstance(value, str):
                ends = [value[len(value) - length :] for length in lengths if length <= len(value)]
                able += [one for end in ends for one in append.get(end, ())]
            return able

        # A write of a value that was read stands in its zone; another leaves a value that no zone is of.
        writes = [one for value, ops in bring.items() if value not in reads for one in ops]
        writes += [one for addition, ops in append.items() if self.lists or addition for one in ops]
        return conflict(reads, makers, self.initial, writes)

    def specialise(self, operations: Sequence[Operation]) -> Model:
        """Values that nobody read are one state."""
        return _Cell(self, operations)


class Register(KeyValue):
    """One value: `read` and `write` (or `get` and `put`). A history of several keys is one register each."""

    kinds = frozenset({*READS, *WRITES})


class CasRegister(KeyValue):
    """A register with `cas`, whose argument is [old, new]; one that found another value has failed."""

    kinds = frozenset({"cas", *READS, *WRITES})


class _Cell(Model):
    """One key of a map, for one history of it.

    A value that no read returned and no compare-and-set expected, nor may be appended to until one did,
    cannot be told from another such: all of them are one state (the two are bisimilar). In most histories
    that leaves few orders of concurrent writes to try. And a value that just one operation could write is
    reached once: so it must not be left before the last read that returned it was invoked.
    """

    def __init__(self, base: KeyValue, operations: Sequence[Operation]) -> None:
        self._base = base
        self._lists = base.lists
        self._codes: dict[Hashable, str] = {}
        self._appends = any(one.kind == "append" for one in operations)
        self.initial: Hashable = self._coded(base.initial)
        self._values = {one.index: self._written(one) for one in operations}
        self._check_text(operations)
        self._read = self._last_reads(operations)
        wanted = {self._values[one.index][0] for one in operations if one.kind == "cas"}
        wanted |= set(self._read)
        self._wanted = frozenset(wanted)
        self._texts = sorted(one for one in wanted if isinstance(one, str)) if self._appends else []
        longest = [one for one, after in pairwise([*self._texts, ""]) if not after.startswith(one)]
        self._all_text = "\0".join(longest)
        self._lineage = self._traced(operations)
        self._once = self._reached_once(operations)

    def _coded(self, thing: Hashable) -> Hashable:
        """A list as text of one character an element, so that its beginnings are found as text's are."""
        if not (self._lists and self._appends) or not isinstance(thing, tuple):
            return thing
        return "".join(self._code(one) for one in thing)

    def _code(self, element: Hashable) -> str:
        """The character of an element; Python's str also holds those that are none (surrogates)."""
        return self._codes.setdefault(element, chr(len(self._codes)))

    def _written(self, one: Operation) -> tuple[Hashable, Hashable]:
        """What an operation expects and writes, as states."""
        if one.kind in READS:
            return self._coded(freeze(one.result)), None
        if one.kind in WRITES:
            return None, self._coded(freeze(one.argument))
        if one.kind == "append":
            return None, self._code(freeze(one.argument)) if self._lists else one.argument
        old, new = one.argument
        return self._coded(freeze(old)), self._coded(freeze(new))

    def _check_text(self, operations: Sequence[Operation]) -> None:
        """Raise BadOperation for a value that cannot be appended to, on a key that is appended to."""
        if not self._appends:
            return
        for one in operations:
            written = self._values[one.index][1] if one.kind != "append" else self.initial
            if written is not None and not isinstance(written, str):
                sort = "list" if self._lists else "text"
                raise BadOperation(
                    one, f"key {value(one.key)} is appended to, but holds or is given what is no {sort}"
                )

    def _last_reads(self, operations: Sequence[Operation]) -> dict[Hashable, int]:
        """When the last read of each value that was read was invoked."""
        last: dict[Hashable, int] = {}
        for one in operations:
            if one.kind in READS and one.outcome is Outcome.OK:
                seen = self._values[one.index][0]
                last[seen] = max(one.invoked_ns, last.get(seen, one.invoked_ns))
        return last

    def _reached_once(self, operations: Sequence[Operation]) -> set[Hashable]:
        """The values read that at most one moment of any order can bring."""
        writes = [one for one in operations if one.kind not in READS and one.kind != "append"]
        puts = Counter(self._values[one.index][1] for one in writes)
        puts[self.initial] += 1
        appends = Counter(str(self._values[one.index][1]) for one in operations if one.kind == "append")
        lengths = {len(one) for one in appends}

        def makers(thing: Hashable) -> int:
            text = thing if isinstance(thing, str) else ""
            ends = (text[len(text) - length :] for length in lengths if length <= len(text))
            return puts[thing] + sum(appends[end] for end in ends)

        return {thing for thing in self._read if makers(thing) <= 1}

    def _traced(self, operations: Sequence[Operation]) -> Lineage | None:
        """What is known of the way to the texts that were read; None where nothing is appended."""
        if not self._appends or any(one.kind == "cas" for one in operations):
            return None
        written = [str(self._values[one.index][1] or "") for one in operations if one.kind not in READS]
        return Lineage(written, str(self.initial or ""), self._texts)

    def step(self, state: Any, operation: Operation) -> Hashable:
        """As the map's, in these states."""
        expected, word = self._values[operation.index]
        if operation.kind in READS:
            return state if state == expected else REFUSED
        if operation.kind == "cas" and state != expected:
            return REFUSED
        new = word
        if operation.kind == "append":
            new = _UNREAD if state is _UNREAD else (state or "") + str(word)
        seen = self._seen(new)
        if self._lineage is not None and not self._traceable(state, operation, word, seen):
            return REFUSED
        if not seen:
            # Of a write that may never have been done and that nobody saw it is enough to try that it was
            # not.
            return state if operation.outcome is Outcome.INFO else _UNREAD
        return new

    def _traceable(self, state: Any, operation: Operation, word: Hashable, seen: bool) -> bool:
        """Whether what was read later can still come about when a word is written in a state."""
        lineage = self._lineage
        if lineage is None or (seen and operation.kind == "append"):
            return True
        if isinstance(state, str) and lineage.must_grow(state):
            return False
        return seen or word not in lineage.needed

    def _seen(self, thing: Any) -> bool:
        """Whether a read or compare-and-set found this value, or one that it is a beginning of."""
        if thing in self._wanted:
            return True
        if not self._texts or not isinstance(thing, str):
            return False
        place = bisect_left(self._texts, thing)
        return place < len(self._texts) and self._texts[place].startswith(thing)

    def alike(self, operation: Operation) -> Hashable:
        """By what it expects and writes; writes of values that nobody saw are alike."""
        expected, new = self._values[operation.index]
        if operation.kind not in READS and operation.kind != "append" and not self._seen(new):
            new = _UNREAD
        kind = "write" if operation.kind in WRITES else "read" if operation.kind in READS else operation.kind
        return (kind, expected, new, operation.outcome)

    def passive(self, operation: Operation) -> bool:
        """A read; a write or append that nobody saw; a compare-and-set of a value to itself."""
        expected, new = self._values[operation.index]
        if operation.kind == "append":
            return str(new) not in self._all_text
        if operation.kind in WRITES:
            return not self._seen(new)
        return operation.kind in READS or expected == new

    def held_until(self, state: Any) -> int | None:
        """The last read's invocation."""
        return self._read[state] if state in self._once else None
