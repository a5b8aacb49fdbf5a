"""What an object does when one operation after another is done on it: what `Linearizable` holds a history to.

A model of one's own is a class with `initial` and `step`, derived from `Model`::

    class Stack(Model):
        initial = ()
        kinds = frozenset({"push", "pop"})

        def step(self, state, operation):
            if operation.kind == "push":
                return (*state, operation.argument)
            if operation.outcome is Outcome.OK and (not state or state[-1] != operation.result):
                return REFUSED
            return state[:-1]
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from enum import Enum
from typing import Any, Protocol

from syndicate.client_api.checkers._errors import BadOperation
from syndicate.client_api.checkers._values import freeze
from syndicate.client_api.history._operation import Operation, Outcome


class Refused(Enum):
    """The one value that says: not in this state, or not with this result."""

    REFUSED = "refused"


REFUSED = Refused.REFUSED


class Model(Protocol):
    """A sequential object. `initial` and `step` are all that one must write.

    Attributes:
        initial: the state that it begins with. States are hashable and never changed.
        kinds: the kinds of operations that it knows; None for any.
        reads: kinds that never change the state: where nobody knows their end they are left out.
    """

    initial: Hashable
    kinds: frozenset[str] | None = None
    reads: frozenset[str] = frozenset()

    def step(self, state: Any, operation: Operation) -> Hashable:
        """The state after the operation, or REFUSED where it cannot have happened in this one.

        The outcome is OK, with a result that must fit, or INFO, with one that nobody knows. The answer
        depends on nothing but the state and the operation's kind, key, argument, outcome, result and process.
        """
        ...

    def partition(self, operation: Operation) -> Hashable:
        """Which of several independent objects the operation is on; each is judged for itself."""
        return None

    def alike(self, operation: Operation) -> Hashable:
        """Two operations that are equal in this do the same in every state; by default no two are."""
        return operation.index

    def passive(self, operation: Operation) -> bool:
        """Whether the operation, wherever it can stand, lets no other happen that could not without it."""
        return operation.kind in self.reads

    def validate(self, operation: Operation) -> None:
        """Raise BadOperation for an argument or result that cannot be."""
        return None

    def specialise(self, operations: Sequence[Operation]) -> Model:
        """A model that answers the same for this one partition in fewer states, or itself."""
        return self

    def conflict(self, operations: Sequence[Operation]) -> tuple[Operation, ...]:
        """A few operations of one partition that no order allows, where that is seen without a search.

        The one that ended last is the last; none where nothing is seen.
        """
        return ()

    def held_until(self, state: Any) -> int | None:
        """The time before which no operation may leave a state, since one invoked then needs it.

        For states that are reached only once; None where that is not known.
        """
        return None


def by_value(operation: Operation) -> Hashable:
    """Alike are operations of one kind with equal arguments, outcomes and results."""
    return (operation.kind, freeze(operation.argument), operation.outcome, freeze(operation.result))


class Mutex(Model):
    """A lock: `acquire` and `release`. With `owned`, only the process that holds it may release it."""

    kinds = frozenset({"acquire", "release"})

    def __init__(self, owned: bool = True) -> None:
        self.initial = None
        self._owned = owned

    def partition(self, operation: Operation) -> Hashable:
        """By lock."""
        return freeze(operation.key)

    def alike(self, operation: Operation) -> Hashable:
        """A lock knows who holds it."""
        return (operation.kind, operation.process, operation.outcome)

    def step(self, state: Any, operation: Operation) -> Hashable:
        """The state is (who,) or None."""
        if operation.kind == "acquire":
            return (operation.process,) if state is None else REFUSED
        if state is None or (self._owned and state != (operation.process,)):
            return REFUSED
        return None


class Queue(Model):
    """First in, first out: `enqueue` of an argument, and `dequeue`, which gives None where it was empty."""

    kinds = frozenset({"enqueue", "dequeue"})

    def __init__(self) -> None:
        self.initial = ()

    def partition(self, operation: Operation) -> Hashable:
        """By queue."""
        return freeze(operation.key)

    def alike(self, operation: Operation) -> Hashable:
        """By value."""
        return by_value(operation)

    def step(self, state: Any, operation: Operation) -> Hashable:
        """The state is what stands in the queue, the oldest first."""
        if operation.kind == "enqueue":
            return (*state, freeze(operation.argument))
        if operation.outcome is Outcome.INFO:
            return tuple(state[1:])
        wanted = freeze(operation.result)
        if wanted is None:
            return state if not state else REFUSED
        return tuple(state[1:]) if state and state[0] == wanted else REFUSED

    def passive(self, operation: Operation) -> bool:
        """One that found the queue empty."""
        return operation.kind == "dequeue" and operation.outcome is Outcome.OK and operation.result is None

    def validate(self, operation: Operation) -> None:
        """None is what an empty queue gives."""
        if operation.kind == "enqueue" and operation.argument is None:
            raise BadOperation(operation, "it enqueues nothing (null), which stands for an empty queue")

    def specialise(self, operations: Sequence[Operation]) -> Model:
        """Orders that the dequeues rule out are never tried."""
        return _OrderedQueue(operations)


class _OrderedQueue(Queue):
    """A queue whose elements differ: one may stand only before those that were not dequeued earlier.

    Where the dequeue of b was over before that of a began, b was enqueued first. What was never dequeued
    stands behind all that was, unless an operation whose end nobody knows may have taken it.
    """

    def __init__(self, operations: Sequence[Operation]) -> None:
        super().__init__()
        put = [freeze(one.argument) for one in operations if one.kind == "enqueue"]
        taken = [one for one in operations if one.kind == "dequeue" and one.outcome is Outcome.OK]
        got = [freeze(one.result) for one in taken if one.result is not None]
        unknown = any(one.kind == "dequeue" and one.outcome is Outcome.INFO for one in operations)
        self._unique = len(set(put)) == len(put) and len(set(got)) == len(got)
        self._never = float("-inf") if unknown else float("inf")
        self._begun = {freeze(one.result): one.invoked_ns for one in taken}
        self._over = {freeze(one.result): one.completed_ns for one in taken}

    def step(self, state: Any, operation: Operation) -> Hashable:
        """As a queue's, but for elements that could never come out in the order of the history."""
        if operation.kind == "enqueue" and self._unique:
            over = self._over.get(freeze(operation.argument))
            if over is not None and any(self._begun.get(one, self._never) > over for one in state):
                return REFUSED
        return super().step(state, operation)
