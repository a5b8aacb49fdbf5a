"""Histories made by simulating a correct object, or spoiled ones, and a checker by brute force."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from syndicate.client_api.checkers import REFUSED, Model
from syndicate.client_api.history._operation import Operation, Outcome

OK, FAIL, INFO = Outcome.OK, Outcome.FAIL, Outcome.INFO


def op(
    index: int,
    kind: str,
    invoked: int,
    completed: int | None,
    argument: Any = None,
    result: Any = None,
    *,
    key: Any = "x",
    outcome: Outcome = OK,
    process: int | None = None,
) -> Operation:
    """One operation; each has a process of its own unless one is named."""
    who = index if process is None else process
    return Operation(index, who, kind, key, argument, outcome, result, invoked, completed)


def ordered(model: Model, operations: Sequence[Operation]) -> bool:
    """Whether a history is linearizable, by trying every order: for small ones."""
    parts: dict[Any, list[Operation]] = {}
    for one in operations:
        if one.outcome is not FAIL:
            parts.setdefault(model.partition(one), []).append(one)
    return all(_placed(model, model.initial, part) for part in parts.values())


def _placed(model: Model, state: Any, left: list[Operation]) -> bool:
    if all(one.outcome is INFO for one in left):
        return True
    first = min(one.completed_ns for one in left if one.outcome is OK)
    for one in left:
        if one.invoked_ns <= first:
            after = model.step(state, one)
            if after is not REFUSED and _placed(model, after, [other for other in left if other is not one]):
                return True
    return False


Wish = Callable[[random.Random, int], tuple[str, Any]]


def key_value_wish(rng: random.Random, number: int) -> tuple[str, Any]:
    """As the published histories of key-value stores: gets, appends and puts of different values."""
    kind = rng.choices(("get", "append", "put"), (5, 4, 1))[0]
    return kind, None if kind == "get" else f"x {number} y"


def register_wish(rng: random.Random, number: int) -> tuple[str, Any]:
    """Gets and puts of different values."""
    return ("get", None) if rng.random() < 0.5 else ("put", number)


def simulated(
    seed: int,
    operations: int,
    clients: int,
    keys: int,
    *,
    wish: Wish = key_value_wish,
    initial: Any = "",
    unknown: float = 0.0,
    failed: float = 0.0,
) -> list[Operation]:
    """The history of a correct store: each operation takes effect at a moment drawn from its interval.

    `unknown` is the share that ends with INFO, half of which took effect, some of them after the client gave
    up (its next operation is another process's, as Jepsen has it); `failed` that of FAIL.
    """
    rng = random.Random(seed)
    free = [(rng.randrange(1_000_000), client) for client in range(clients)]
    planned: list[tuple[int, Operation]] = []
    processes = count(clients)
    for number in range(operations):
        free.sort(reverse=True)
        now, client = free.pop()
        kind, argument = wish(rng, number)
        end = now + rng.randrange(1_000_000, 20_000_000)
        effect = rng.randrange(now, end + 1)
        draw = rng.random()
        outcome = INFO if draw < unknown else FAIL if draw < unknown + failed else OK
        if outcome is INFO:
            effect = rng.choice([effect, end + rng.randrange(50_000_000), 2**62])
        key = None if keys == 0 else f"k{rng.randrange(keys)}"
        one = Operation(number, client, kind, key, argument, outcome, None, now, end)
        planned.append((2**62 if outcome is FAIL else effect, one))
        free.append((end + rng.randrange(1, 5_000_000), next(processes) if outcome is INFO else client))
    return _run(planned, initial)


def _run(planned: list[tuple[int, Operation]], initial: Any) -> list[Operation]:
    """Take effect one after another, and read what is there."""
    held: dict[Any, Any] = {}
    done = []
    for effect, one in sorted(planned, key=lambda pair: pair[0]):
        value = held.get(one.key, initial)
        if effect < 2**62 and one.kind == "put":
            held[one.key] = one.argument
        elif effect < 2**62 and one.kind == "append":
            held[one.key] = (value or "") + one.argument
        reads = one.kind == "get" and one.outcome is OK
        done.append(replace(one, result=value) if reads else one)
    return sorted(done, key=lambda one: one.index)


def stale(operations: Sequence[Operation], rng: random.Random) -> list[Operation]:
    """The same with one read that returned what a later read's predecessor had replaced: certainly wrong.

    A get that was invoked after another get of the key had returned something else, and returns what that
    one's predecessor did, though each value was written once.
    """
    reads = [one for one in operations if one.kind == "get" and one.outcome is OK]
    rng.shuffle(reads)
    for late in reads:
        earlier = [one for one in reads if one.key == late.key and (one.completed_ns or 0) < late.invoked_ns]
        earlier.sort(key=lambda one: one.invoked_ns)
        for old in earlier[: len(earlier) // 2]:
            between = [
                one
                for one in earlier
                if one.invoked_ns > (old.completed_ns or 0) and one.result != old.result
            ]
            if between:
                return [replace(one, result=old.result) if one is late else one for one in operations]
    raise ValueError("no read can be made stale: the history is too short")
