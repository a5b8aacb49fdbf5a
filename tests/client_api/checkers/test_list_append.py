"""List-append: each anomaly by its name, and no false alarm."""

from __future__ import annotations

import random
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from syndicate.client_api.checkers import Answer, BadOperation, ListAppend
from syndicate.client_api.history._operation import Operation, Outcome

from tests.client_api.checkers.made import FAIL, INFO, OK, op

Steps = list[list[Any]]


def txn(index: int, invoked: int, completed: int, steps: Steps, outcome: Outcome = OK) -> Operation:
    """One transaction; reads hold what they gave."""
    asked = [[what, key, None if what == "r" else thing] for what, key, thing in steps]
    return op(
        index, "txn", invoked, completed, asked, steps if outcome is OK else None, key=None, outcome=outcome
    )


def at_once(*transactions: Steps) -> list[Operation]:
    """All open together, so that no order of time holds."""
    return [txn(n, n, 1000 + n, steps) for n, steps in enumerate(transactions)]


def in_turn(*transactions: Steps) -> list[Operation]:
    """One after another."""
    return [txn(n, 10 * n, 10 * n + 5, steps) for n, steps in enumerate(transactions)]


A, R = "append", "r"
ANOMALIES = [
    (
        "G0",
        at_once([[A, "x", 1], [A, "y", 1]], [[A, "x", 2], [A, "y", 2]], [[R, "x", [1, 2]], [R, "y", [2, 1]]]),
    ),
    ("G1a", [txn(0, 0, 1, [[A, "x", 1]], FAIL), txn(1, 2, 3, [[R, "x", [1]]])]),
    ("G1b", at_once([[A, "x", 1], [A, "x", 2]], [[R, "x", [1]]])),
    ("G1c", at_once([[A, "x", 1], [R, "y", [1]]], [[A, "y", 1], [R, "x", [1]]])),
    ("G-single", at_once([[A, "x", 1], [A, "y", 1]], [[R, "x", []], [R, "y", [1]]], [[R, "x", [1]]])),
    ("G2", at_once([[R, "x", []], [A, "y", 1]], [[R, "y", []], [A, "x", 1]], [[R, "x", [1]], [R, "y", [1]]])),
    ("G2", at_once([[R, "x", []], [A, "y", 1]], [[R, "y", []], [A, "x", 1]])),
    ("internal", at_once([[A, "x", 1], [R, "x", []]])),
    ("internal", at_once([[R, "x", []], [R, "x", [2]]], [[A, "x", 2]])),
    ("duplicates", at_once([[A, "x", 1]], [[R, "x", [1, 1]]])),
    ("phantom", at_once([[R, "x", [9]]])),
    (
        "incompatible-order",
        at_once([[A, "x", 1]], [[A, "x", 2]], [[R, "x", [1, 2]]], [[R, "x", [2]]]),
    ),
    ("G-single-realtime", in_turn([[A, "x", 1]], [[R, "x", []]])),
    ("G0-realtime", in_turn([[A, "x", 1]], [[A, "x", 2]], [[R, "x", [2, 1]]])),
]


@pytest.mark.parametrize(("name", "operations"), [pytest.param(*case, id=case[0]) for case in ANOMALIES])
def test_each_anomaly_has_its_name_and_its_transactions(name: str, operations: list[Operation]) -> None:
    """The gravest is told first."""
    verdict = ListAppend().check(operations)
    assert verdict.answer is Answer.FALSE
    assert verdict.findings["anomalies"][0]["name"] == name, verdict.text()
    assert verdict.reason.startswith(f"{name}: ") and verdict.counterexample


def test_a_cycle_is_told_edge_by_edge() -> None:
    """In words, by the indices of the transactions."""
    (operations,) = (ops for name, ops in ANOMALIES if name == "G1c")
    assert ListAppend().check(operations).reason == (
        "G1c: a cycle of transactions: 0 was read by 1, 1 was read by 0"
    )


def test_without_the_order_of_time_a_stale_read_is_allowed() -> None:
    """Serializable it is, strictly serializable not."""
    operations = in_turn([[A, "x", 1]], [[R, "x", []]])
    assert ListAppend(realtime=False).check(operations).answer is Answer.TRUE
    assert ListAppend().check(operations).answer is Answer.FALSE


def test_of_several_that_ended_each_is_before_what_came_later() -> None:
    """Also the one that ended first while another was open."""
    first, beside = txn(0, 0, 10, [[A, "x", 1]]), txn(1, 5, 12, [[A, "y", 1]])
    verdict = ListAppend().check([first, beside, txn(2, 20, 25, [[R, "x", []], [R, "y", [1]]])])
    assert verdict.answer is Answer.FALSE


def test_appends_and_reads_alone_are_transactions_of_one_step() -> None:
    """The key is the operation's."""
    history = [op(0, "append", 0, 1, 1), op(1, "read", 2, 3, result=[1]), op(2, "read", 4, 5, result=[])]
    assert ListAppend().check(history[:2]).answer is Answer.TRUE
    assert ListAppend().check(history).answer is Answer.FALSE


def test_an_unknown_end_happened_if_it_was_read() -> None:
    """Else it may never have."""
    unknown = txn(0, 0, 1, [[A, "x", 1], [A, "y", 1]], INFO)
    assert ListAppend().check([unknown, txn(1, 2, 3, [[R, "x", []]])]).answer is Answer.TRUE
    assert ListAppend().check([unknown, txn(1, 2, 3, [[R, "x", [1]]])]).answer is Answer.TRUE
    half = [unknown, txn(1, 2, 3, [[R, "x", [1]]]), txn(2, 4, 5, [[R, "x", [1]], [R, "y", []]])]
    assert ListAppend().check(half).answer is Answer.FALSE


def test_a_history_without_reads_says_nothing() -> None:
    """Nothing is known of the order of its writes."""
    assert ListAppend().check([]).answer is Answer.UNKNOWN
    assert ListAppend().check(in_turn([[A, "x", 1]])).answer is Answer.UNKNOWN


def serial(seed: int, transactions: int, clients: int, *, snapshot: int = 0) -> list[Operation]:
    """What a store gives that runs one transaction after another; `snapshot` of them read old lists."""
    rng = random.Random(seed)
    free = [0] * clients
    planned = []
    for n in range(transactions):
        client = min(range(clients), key=lambda c: free[c])
        begin = free[client] + rng.randrange(1, 5)
        end = begin + rng.randrange(1, 50)
        free[client] = end + 1
        steps = [[rng.choice([A, R]), rng.randrange(5), 1000 * n + k] for k in range(rng.randrange(1, 4))]
        planned.append((rng.randrange(begin, end + 1), n, client, begin, end, steps))
    held: dict[int, list[int]] = {}
    done = []
    for _, n, client, begin, end, steps in sorted(planned):
        result = []
        old = {key: values[: len(values) // 2] for key, values in held.items()} if n < snapshot else None
        for what, key, thing in steps:
            if what == A:
                held.setdefault(key, []).append(thing)
                result.append([what, key, thing])
            else:
                result.append([what, key, list((old or held).get(key, []))])
        asked = [[what, key, thing if what == A else None] for what, key, thing in steps]
        done.append(Operation(n, client, "txn", None, asked, OK, result, begin, end))
    return done


@pytest.mark.parametrize("seed", range(10))
def test_a_store_that_runs_one_after_another_is_true(seed: int) -> None:
    """500 transactions of 10 clients on 5 lists."""
    verdict = ListAppend().check(serial(seed, 500, 10))
    assert verdict.answer is Answer.TRUE, verdict.text()


@pytest.mark.parametrize("seed", range(10))
def test_reads_of_old_lists_are_false(seed: int) -> None:
    """Late in the run half of what was there is missing."""
    history = serial(seed, 500, 10)
    late = next(
        one
        for one in reversed(history)
        if one.invoked_ns > 500 and [s for s in one.result if s[0] == R and s[2]]
    )
    spoiled = [[w, k, t[: len(t) // 2] if w == R else t] for w, k, t in late.result]
    from dataclasses import replace

    history = [replace(one, result=spoiled) if one is late else one for one in history]
    assert ListAppend().check(history).answer is Answer.FALSE


@st.composite
def small(draw: st.DrawFn) -> list[Operation]:
    """Up to four transactions on two keys, with whatever they may have read."""
    operations, element = [], 0
    for n in range(draw(st.integers(1, 4))):
        steps: Steps = []
        for _ in range(draw(st.integers(1, 2))):
            key = draw(st.sampled_from("xy"))
            if draw(st.booleans()):
                element += 1
                steps.append([A, key, element])
            else:
                steps.append([R, key, draw(st.lists(st.integers(1, 4), max_size=3, unique=True))])
        begin = draw(st.integers(0, 10))
        outcome = draw(st.sampled_from([OK, OK, OK, INFO, FAIL]))
        operations.append(txn(n, begin, begin + draw(st.integers(0, 10)), steps, outcome))
    return operations


@st.composite
def prefixes(draw: st.DrawFn) -> list[Operation]:
    """Up to four transactions whose reads agree on the order of a key's writes, and one that reads them all.

    So whatever is wrong with them is a cycle.
    """
    number = draw(st.integers(2, 4))
    wish_list = st.lists(st.tuples(st.sampled_from([A, R]), st.sampled_from("xy")), min_size=1, max_size=3)
    wishes = [draw(wish_list) for _ in range(number)]
    order = {key: draw(st.permutations(range(number))) for key in "xy"}
    own = {
        (key, n): [10 * n + place for place, wish in enumerate(wishes[n]) if wish == (A, key)]
        for key in "xy"
        for n in range(number)
    }
    operations = []
    for n, wish in enumerate(wishes):
        others = {key: [m for m in order[key] if m != n] for key in "xy"}
        seen = {key: draw(st.integers(0, number - 1)) for key in "xy"}
        steps: Steps = []
        for place, (what, key) in enumerate(wish):
            held = [element for m in others[key][: seen[key]] for element in own[key, m]]
            mine = [element for element in own[key, n] if element < 10 * n + place]
            steps.append([what, key, 10 * n + place if what == A else held + mine])
        begin = draw(st.integers(0, 10))
        operations.append(txn(n, begin, begin + draw(st.integers(0, 20)), steps))
    whole: Steps = [[R, key, [element for m in order[key] for element in own[key, m]]] for key in "xy"]
    return [*operations, txn(number, 0, 40, whole)]


def explained(operations: list[Operation]) -> bool:
    """Whether some order of those that succeeded, and any of those of unknown end, gives what was read."""
    sure = [one for one in operations if one.outcome is OK]
    maybe = [one for one in operations if one.outcome is INFO]
    for mask in range(2 ** len(maybe)):
        chosen = sure + [one for n, one in enumerate(maybe) if mask >> n & 1]
        if any(runs(order) for order in permutations(chosen)):
            return True
    return False


def runs(order: tuple[Operation, ...]) -> bool:
    """Whether this order gives what was read, and is that of time."""
    held: dict[str, list[int]] = {}
    for place, one in enumerate(order):
        if any(later.outcome is OK and later.completed_ns < one.invoked_ns for later in order[place + 1 :]):
            return False
        for what, key, thing in one.result or one.argument:
            if what == A:
                held.setdefault(key, []).append(thing)
            elif one.outcome is OK and held.get(key, []) != thing:
                return False
    return True


def all_was_read(operations: list[Operation]) -> bool:
    """Whether each element that may have been appended was seen: then the order of all writes is known."""
    appended = {
        (key, thing)
        for one in operations
        if one.outcome is not FAIL
        for what, key, thing in one.argument
        if what == A
    }
    seen = {
        (key, thing)
        for one in operations
        if one.outcome is OK
        for what, key, things in one.result
        if what == R
        for thing in things
    }
    return appended <= seen


@settings(max_examples=1500, deadline=None)
@given(operations=small() | prefixes())
def test_what_some_order_explains_is_never_false(operations: list[Operation]) -> None:
    """And what none explains is not called true where all that was appended was read."""
    verdict = ListAppend().check(operations)
    if explained(operations):
        assert verdict.answer is not Answer.FALSE, verdict.text()
    elif all_was_read(operations):
        assert verdict.answer is not Answer.TRUE, verdict.text()


@pytest.mark.parametrize(
    ("argument", "result", "text"),
    [
        (5, None, "its argument 5 is not a list"),
        ([["put", "x", 1]], None, "is neither"),
        ([["r", "x", None]], [["r", "y", []]], "other steps than its argument"),
        ([["r", "x", None]], [["r", "x", 7]], "its read 7 is not a list"),
        ([["append", "x", 1], ["append", "x", 1]], None, "appends 1 to x again"),
    ],
)
def test_a_malformed_transaction_is_named(argument: Any, result: Any, text: str) -> None:
    """With its index and process, and what is wrong with it."""
    outcome = INFO if result is None else OK
    with pytest.raises(BadOperation, match="operation 3 of process 3") as caught:
        ListAppend().check([op(3, "txn", 0, 1, argument, result, key=None, outcome=outcome)])
    assert text in str(caught.value)
