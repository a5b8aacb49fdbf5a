"""set-full, total-queue, unique-ids and counter."""

from __future__ import annotations

import random
from typing import Any

import pytest
from syndicate.client_api.checkers import (
    Answer,
    BadOperation,
    Checker,
    Counter,
    SetFull,
    TotalQueue,
    UniqueIds,
)
from syndicate.client_api.history._operation import Operation

from tests.client_api.checkers.made import FAIL, INFO, op


def history(*steps: tuple[Any, ...]) -> list[Operation]:
    """Operations one after another: (kind, argument, result, outcome)."""
    return [
        op(n, kind, 10 * n, 10 * n + 5, *rest[:2], **({"outcome": rest[2]} if len(rest) > 2 else {}))
        for n, (kind, *rest) in enumerate(steps)
    ]


SET = SetFull()
QUEUE = TotalQueue()
CASES: list[tuple[str, Checker, list[Operation], Answer, str]] = [
    ("kept", SET, history(("add", 1), ("add", 2), ("read", None, [2, 1])), Answer.TRUE, "all of 2 elements"),
    ("lost", SET, history(("add", 1), ("add", 2), ("read", None, [2])), Answer.FALSE, "1, acknowledged at"),
    (
        "lost after it was read",
        SET,
        history(("add", 1, None, INFO), ("read", None, [1]), ("read", None, [])),
        Answer.FALSE,
        "1, read before, is lost",
    ),
    (
        "unknown and never seen",
        SET,
        history(("add", 1, None, INFO), ("add", 2), ("read", None, [2])),
        Answer.TRUE,
        "",
    ),
    (
        "gone for a while",
        SET,
        history(("add", 1), ("read", None, []), ("read", None, [1])),
        Answer.FALSE,
        "was not there for a while",
    ),
    (
        "gone for a while, allowed",
        SetFull(linearizable=False),
        history(("add", 1), ("add", 2), ("read", None, [2]), ("read", None, [1, 2])),
        Answer.TRUE,
        "1 were not there for a while",
    ),
    (
        "failed, yet read",
        SET,
        history(("add", 1, None, FAIL), ("read", None, [1])),
        Answer.FALSE,
        "had failed",
    ),
    (
        "never added",
        SET,
        history(("add", 1), ("read", None, [1, 9])),
        Answer.FALSE,
        "9, which nobody had added",
    ),
    ("twice", SET, history(("add", 1), ("read", None, [1, 1])), Answer.FALSE, "2 times"),
    ("no read", SET, history(("add", 1)), Answer.UNKNOWN, "no element was read"),
    ("out", QUEUE, history(("enqueue", 1), ("dequeue", None, 1)), Answer.TRUE, "all of 1"),
    (
        "drained",
        QUEUE,
        history(("enqueue", 1), ("enqueue", 2), ("dequeue", None, None), ("drain", None, [2, 1])),
        Answer.TRUE,
        "all of 2",
    ),
    (
        "never out",
        QUEUE,
        history(("enqueue", 1), ("enqueue", 2), ("dequeue", None, 2)),
        Answer.FALSE,
        "1 the first",
    ),
    ("never in", QUEUE, history(("enqueue", 1), ("dequeue", None, 7)), Answer.FALSE, "was never put in"),
    (
        "taken by nobody knows",
        QUEUE,
        history(("enqueue", 1), ("dequeue", None, None, INFO)),
        Answer.UNKNOWN,
        "may have taken them",
    ),
    (
        "recovered",
        QUEUE,
        history(("enqueue", 1, None, INFO), ("enqueue", 2), ("drain", None, [1, 2])),
        Answer.TRUE,
        "",
    ),
    (
        "twice out",
        QUEUE,
        history(("enqueue", 1), ("dequeue", None, 1), ("dequeue", None, 1)),
        Answer.TRUE,
        "",
    ),
    (
        "twice out, forbidden",
        TotalQueue(exactly_once=True),
        history(("enqueue", 1), ("dequeue", None, 1), ("dequeue", None, 1)),
        Answer.FALSE,
        "2 times",
    ),
    ("nothing in", QUEUE, history(("dequeue", None, None)), Answer.UNKNOWN, "no enqueue succeeded"),
    (
        "different",
        UniqueIds(),
        history(("generate", None, 1), ("generate", None, 2)),
        Answer.TRUE,
        "all of 2",
    ),
    (
        "equal",
        UniqueIds(),
        history(("generate", None, 1), ("generate", None, 1)),
        Answer.FALSE,
        "1 was given twice",
    ),
    ("none", UniqueIds(), history(("generate", None, None, INFO)), Answer.UNKNOWN, "nothing was generated"),
    ("exact", Counter(), history(("add", 2), ("add", -1), ("read", None, 1)), Answer.TRUE, ""),
    ("too low", Counter(), history(("add", 2), ("read", None, 1)), Answer.FALSE, "between 2 and 2"),
    (
        "unknown added",
        Counter(),
        history(("add", 2), ("add", 3, None, INFO), ("read", None, 5)),
        Answer.TRUE,
        "",
    ),
    (
        "unknown taken",
        Counter(),
        history(("add", 2), ("add", -3, None, INFO), ("read", None, -2)),
        Answer.FALSE,
        "between -1 and 2",
    ),
    (
        "failed",
        Counter(),
        history(("add", 2, None, FAIL), ("read", None, 2)),
        Answer.FALSE,
        "between 0 and 0",
    ),
    ("no reads", Counter(), history(("add", 2)), Answer.UNKNOWN, "no read succeeded"),
]


@pytest.mark.parametrize(
    ("checker", "operations", "answer", "reason"),
    [pytest.param(*case[1:], id=f"{type(case[1]).__name__}: {case[0]}") for case in CASES],
)
def test_each_case_has_its_answer_and_reason(
    checker: Checker, operations: list[Operation], answer: Answer, reason: str
) -> None:
    """A false shows the operations."""
    verdict = checker.check(operations)
    assert (verdict.answer, reason in verdict.reason) == (answer, True), verdict.text()
    assert bool(verdict.counterexample) or answer is not Answer.FALSE


def test_a_read_open_while_an_element_is_added_may_lack_it() -> None:
    """Only what was acknowledged before the read was invoked must be in it."""
    add, during = op(0, "add", 0, 10, 1), op(1, "read", 5, 20, result=[])
    after = op(2, "read", 30, 40, result=[1])
    assert SetFull().check([add, during, after]).answer is Answer.TRUE


@pytest.mark.parametrize(("result", "answer"), [(0, Answer.TRUE), (3, Answer.TRUE), (4, Answer.FALSE)])
def test_an_increment_that_is_open_widens_a_counters_bounds(result: int, answer: Answer) -> None:
    """It may count or not."""
    history = [op(0, "add", 0, 10, 3), op(1, "read", 5, 6, result=result)]
    assert Counter().check(history).answer is answer


@pytest.mark.parametrize("seed", range(20))
def test_reads_of_a_correct_counter_are_within_their_bounds(seed: int) -> None:
    """Increments of both signs that take effect at some moment of their intervals, many of them at once."""
    rng = random.Random(seed)
    events, made = [], []
    for n in range(200):
        begin = rng.randrange(10_000)
        end = begin + rng.randrange(1, 500)
        events.append((rng.randrange(begin, end + 1), n, begin, end, rng.choice(["add", "read"])))
    total = 0
    for _, n, begin, end, kind in sorted(events):
        amount = rng.randrange(-5, 6)
        outcome = rng.choice([INFO, None, None, None])
        extra = {"outcome": outcome} if outcome else {}
        if kind == "add":
            total += amount
            made.append(op(n, "add", begin, end, amount, **extra))
        elif not outcome:
            made.append(op(n, "read", begin, end, result=total))
    assert Counter().check(made).answer is Answer.TRUE


@pytest.mark.parametrize(
    ("checker", "operation", "text"),
    [
        (SetFull(), op(3, "read", 0, 1, result=4), "its result 4 is not a list"),
        (TotalQueue(), op(3, "drain", 0, 1, result="ab"), 'its result "ab" is not a list'),
        (Counter(), op(3, "add", 0, 1, "2"), 'its argument "2" is not a whole number'),
        (Counter(), op(3, "read", 0, 1, result=True), "its result true is not a whole number"),
    ],
)
def test_a_malformed_operation_is_named(checker: Checker, operation: Operation, text: str) -> None:
    """With its index and process, and what is wrong with it."""
    with pytest.raises(BadOperation, match=f"operation 3 of process 3: {text}"):
        checker.check([operation])


def test_an_element_added_twice_is_refused() -> None:
    """Nobody could tell one from the other."""
    with pytest.raises(BadOperation, match=r"operation 1 .* adds 7 again"):
        SetFull().check([op(0, "add", 0, 1, 7), op(1, "add", 2, 3, 7)])
