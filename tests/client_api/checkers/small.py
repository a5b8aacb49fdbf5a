"""Small histories of every kind, right and wrong ones, for hypothesis."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st
from syndicate.client_api.checkers import REFUSED, CasRegister, KeyValue, Model, Mutex, Queue, Register
from syndicate.client_api.history._operation import Operation, Outcome

Arguments = dict[str, tuple[st.SearchStrategy[Any], st.SearchStrategy[Any]]]

NOTHING = st.none()
FEW = st.integers(0, 2)
MANY = st.integers(0, 9)
WORDS = st.sampled_from(["a", "b", "ab", ""])
ENTRIES = st.sampled_from(["x1y", "x2y", "x3y", "x4y"])
READ_WORDS = st.none() | st.lists(WORDS, max_size=3).map("".join)
READ_ENTRIES = st.just("") | st.lists(ENTRIES, max_size=3, unique=True).map("".join)
LISTS = st.lists(FEW, max_size=3)
UNIQUE_LISTS = st.lists(MANY, max_size=3, unique=True)

# Each model with its kinds: what they are called with, and what they give.
MODELS: dict[str, tuple[Model, Arguments]] = {
    "register": (Register(), {"read": (NOTHING, FEW | NOTHING), "write": (FEW, NOTHING)}),
    "register of different values": (Register(), {"get": (NOTHING, MANY | NOTHING), "put": (MANY, NOTHING)}),
    "compare-and-set register": (
        CasRegister(0),
        {"read": (NOTHING, FEW), "write": (FEW, NOTHING), "cas": (st.tuples(FEW, FEW).map(list), NOTHING)},
    ),
    "text": (KeyValue(), {"get": (NOTHING, READ_WORDS), "put": (WORDS, NOTHING), "append": (WORDS, NOTHING)}),
    "text of entries": (
        KeyValue(""),
        {"get": (NOTHING, READ_ENTRIES), "put": (ENTRIES, NOTHING), "append": (ENTRIES, NOTHING)},
    ),
    "lists": (KeyValue([]), {"get": (NOTHING, LISTS), "put": (LISTS, NOTHING), "append": (FEW, NOTHING)}),
    "lists of different elements": (
        KeyValue([]),
        {"get": (NOTHING, UNIQUE_LISTS), "put": (st.just([]), NOTHING), "append": (MANY, NOTHING)},
    ),
    "owned mutex": (Mutex(), {"acquire": (NOTHING, NOTHING), "release": (NOTHING, NOTHING)}),
    "mutex": (Mutex(owned=False), {"acquire": (NOTHING, NOTHING), "release": (NOTHING, NOTHING)}),
    "queue": (Queue(), {"enqueue": (FEW, NOTHING), "dequeue": (NOTHING, FEW | NOTHING)}),
    "queue of different elements": (
        Queue(),
        {"enqueue": (MANY, NOTHING), "dequeue": (NOTHING, MANY | NOTHING)},
    ),
}


@st.composite
def histories(
    draw: st.DrawFn, model: Model, arguments: Arguments, most: int = 7, unknown: int = 1
) -> list[Operation]:
    """Up to three processes, each with one operation at a time; all ends, and times that often coincide.

    Of five that succeed some `unknown` end nobody knows how. Half of the histories have what a correct object
    would give, but for a result or two; the others what there is.
    """
    operations: list[Operation] = []
    effects: list[tuple[int, int]] = []
    now = [0, 0, 0]
    for index in range(draw(st.integers(0, most))):
        process = draw(st.integers(0, 2))
        kind = draw(st.sampled_from(sorted(arguments)))
        argument, result = arguments[kind]
        invoked = now[process] + draw(st.integers(0, 3))
        completed = invoked + draw(st.integers(0, 6))
        now[process] = completed
        outcome = draw(st.sampled_from([Outcome.OK] * 5 + [Outcome.INFO] * unknown + [Outcome.FAIL]))
        given = draw(result) if outcome is Outcome.OK else None
        late = draw(st.integers(0, 20)) if outcome is Outcome.INFO else 0
        effects.append((draw(st.integers(invoked, completed)) + late, index))
        operations.append(
            Operation(index, process, kind, "x", draw(argument), outcome, given, invoked, completed)
        )
    if operations and draw(st.booleans()):
        kept = draw(st.sets(st.integers(0, 3 * len(operations)), max_size=2))
        return _done(model, operations, sorted(effects), kept)
    return operations


def _done(
    model: Model, operations: list[Operation], effects: list[tuple[int, int]], kept: set[int]
) -> list[Operation]:
    """What the operations give when they take effect in this order, but for those kept as they are."""
    state: Any = model.initial
    for _, index in effects:
        one = operations[index]
        if one.outcome is Outcome.FAIL or index in kept:
            continue
        if one.outcome is Outcome.OK:
            one = replace(one, result=_result(model, state, one))
        after = model.step(state, one)
        operations[index] = replace(one, outcome=Outcome.FAIL, result=None) if after is REFUSED else one
        state = state if after is REFUSED else after
    return operations


def _result(model: Model, state: Any, one: Operation) -> Any:
    if one.kind in model.reads:
        return list(state) if isinstance(state, tuple) else state
    if one.kind == "dequeue":
        return state[0] if state else None
    if one.kind == "pop":
        return state[-1] if state else 0
    return None
