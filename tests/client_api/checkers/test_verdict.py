"""What a verdict says, and to whom: texts, JSON, Finish; compositions; histories that cannot be judged."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from syndicate.client_api import Outcome as Found
from syndicate.client_api.checkers import (
    Answer,
    BadHistory,
    BadOperation,
    Budget,
    CasRegister,
    Checker,
    Counter,
    KeyValue,
    Linearizable,
    ListAppend,
    Mutex,
    NotVacuous,
    OverlappingOperations,
    Queue,
    Register,
    SetFull,
    TotalQueue,
    UniqueIds,
    UnknownKind,
    Verdict,
    compose,
)
from syndicate.client_api.testing import FakeChaos

from tests.client_api.checkers.made import INFO, op

STALE = [
    op(0, "put", 0, 1_000_000, 1),
    op(1, "put", 2_000_000, 3_000_000, 2),
    op(2, "get", 4_000_000, 5_000_000, result=1),
    op(3, "put", 4_500_000, 6_000_000, 3),
]
REGISTER = Linearizable(Register())


def test_a_false_is_told_in_a_few_plain_lines() -> None:
    """The reason, the operations that cannot be, and those that were open meanwhile."""
    assert REGISTER.check(STALE).text() == (
        "false: get x returned 1 (process 2, 4.000 ms) after put x 2 had been acknowledged at 3.000 ms\n"
        "  0.000 ms – 1.000 ms  process 0  put x 1  ok\n"
        "  2.000 ms – 3.000 ms  process 1  put x 2  ok\n"
        "  4.000 ms – 5.000 ms  process 2  get x  -> 1\n"
        "  meanwhile:\n"
        "    4.500 ms – 6.000 ms  process 3  put x 3  ok"
    )


def test_a_verdict_is_json() -> None:
    """With its parts, operations and numbers."""
    verdict = compose({"register": REGISTER, "tested": NotVacuous([])}).check(STALE)
    told = json.loads(json.dumps(verdict.as_dict()))
    assert told["answer"] == "false"
    assert told["parts"]["tested"]["answer"] == "unknown"
    shown = told["parts"]["register"]["counterexample"][2]
    assert (shown["kind"], shown["result"], shown["outcome"]) == ("get", 1, "ok")
    assert told["parts"]["register"]["metrics"]["operations"] == 4


@pytest.mark.parametrize(
    ("answers", "worst"),
    [
        ([], Answer.TRUE),
        ([Answer.TRUE, Answer.TRUE], Answer.TRUE),
        ([Answer.TRUE, Answer.UNKNOWN], Answer.UNKNOWN),
        ([Answer.UNKNOWN, Answer.FALSE, Answer.TRUE], Answer.FALSE),
    ],
)
def test_a_composition_answers_the_worst(answers: list[Answer], worst: Answer) -> None:
    """False before unknown before true, with the reason of the first that is so."""

    class Says:
        def __init__(self, answer: Answer) -> None:
            self.answer = answer

        def check(self, operations: object, budget: Budget | None = None, *, overlap_ns: int = 0) -> Verdict:
            return Verdict(self.answer, f"says {self.answer}")

    checkers: dict[str, Checker] = {f"c{n}": Says(answer) for n, answer in enumerate(answers)}
    verdict = compose(checkers).check([])
    assert verdict.answer is worst
    assert list(verdict.parts) == list(checkers)
    if worst is not Answer.TRUE:
        assert verdict.reason == f"c{answers.index(worst)}: says {worst}"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [(Answer.TRUE, Found.PASS), (Answer.FALSE, Found.FAIL), (Answer.UNKNOWN, Found.UNKNOWN)],
)
def test_finish_takes_a_verdict(answer: Answer, outcome: Found) -> None:
    """Its outcome, its text, and the metrics of its parts by their names."""
    verdict = Verdict(
        answer, "because", metrics={"a": 1}, parts={"p": Verdict(answer, "so", metrics={"b": 2})}
    )
    arguments = verdict.finish_arguments()
    assert arguments == {"outcome": outcome, "text": verdict.text(), "metrics": {"a": 1.0, "p.b": 2.0}}
    chaos = FakeChaos(["10.77.0.11"])
    chaos.finish(**arguments)
    assert chaos.job.calls[-1].rpc == "Finish"


KNOWN: list[tuple[Checker, str]] = [
    (REGISTER, "Register does not know 'putt'; it knows get, put, read, write"),
    (Linearizable(CasRegister()), "CasRegister does not know 'putt'; it knows cas, get, put, read, write"),
    (Linearizable(KeyValue()), "KeyValue does not know 'putt'; it knows append, get, put, read, write"),
    (Linearizable(Mutex()), "Mutex does not know 'putt'; it knows acquire, release"),
    (Linearizable(Queue()), "Queue does not know 'putt'; it knows dequeue, enqueue"),
    (SetFull(), "SetFull does not know 'putt'; it knows add, read"),
    (TotalQueue(), "TotalQueue does not know 'putt'; it knows dequeue, drain, enqueue"),
    (UniqueIds(), "UniqueIds does not know 'putt'; it knows generate"),
    (Counter(), "Counter does not know 'putt'; it knows add, read"),
    (ListAppend(), "ListAppend does not know 'putt'; it knows append, r, read, txn"),
]


@pytest.mark.parametrize(("checker", "text"), KNOWN)
def test_a_kind_that_is_not_known_is_named(checker: Checker, text: str) -> None:
    """With the operation, its process, and the kinds that there are."""
    with pytest.raises(UnknownKind) as caught:
        checker.check([op(17, "putt", 0, 1, 1, process=3)])
    assert str(caught.value) == f"operation 17 of process 3: {text}"
    assert isinstance(caught.value, ValueError) and caught.value.operation.index == 17


@pytest.mark.parametrize("end", [None, 5])
def test_two_open_operations_of_one_process_are_refused(end: int | None) -> None:
    """The second is named, and the first that was open; one that never ends is open for good."""
    first = op(0, "put", 0, end, 1, process=7, outcome=INFO)
    with pytest.raises(OverlappingOperations) as caught:
        REGISTER.check([first, op(1, "get", 3, 9, process=7)])
    assert str(caught.value) == "operation 1 of process 7: it was invoked while operation 0 was open"


def test_operations_of_a_widened_history_may_overlap_by_its_clocks_bound() -> None:
    """And by no more, in a composition as well."""
    history = [op(0, "put", 0, 5, 1, process=7), op(1, "get", 3, 9, result=1, process=7)]
    assert compose({"register": REGISTER}).check(history, overlap_ns=2).answer is Answer.TRUE
    with pytest.raises(OverlappingOperations):
        compose({"register": REGISTER}).check(history, overlap_ns=1)


def test_an_end_at_the_time_of_the_next_invocation_is_no_overlap() -> None:
    """Clocks are not finer than that."""
    history = [op(0, "put", 0, 3, 1, process=7), op(1, "get", 3, 9, result=1, process=7)]
    assert REGISTER.check(history).answer is Answer.TRUE


@pytest.mark.parametrize(
    ("operation", "checker", "text"),
    [
        (op(4, "get", 0, None), REGISTER, "it is ok, but was never completed"),
        (op(4, "get", 5, 3), REGISTER, "it was completed before it was invoked"),
        (op(4, "cas", 0, 1, 5), Linearizable(CasRegister()), "its argument 5 is not [old, new]"),
        (op(4, "append", 0, 1, 5), Linearizable(KeyValue()), "which is no text: say KeyValue(initial=[])"),
        (op(4, "enqueue", 0, 1), Linearizable(Queue()), "it enqueues nothing (null)"),
    ],
)
def test_an_operation_that_cannot_be_is_named(operation: object, checker: Checker, text: str) -> None:
    """Its times, its argument."""
    with pytest.raises(BadOperation) as caught:
        checker.check([operation])  # type: ignore[list-item]
    assert str(caught.value).startswith("operation 4 of process 4: ") and text in str(caught.value)


def test_a_value_that_cannot_be_appended_to_is_named() -> None:
    """A number on a key that is appended to."""
    history = [op(0, "put", 0, 1, 5), op(1, "append", 2, 3, "a")]
    with pytest.raises(BadHistory, match=r'operation 0 .*: key "x" is appended to'):
        Linearizable(KeyValue()).check(history)


def test_long_values_are_cut_in_a_text() -> None:
    """The beginning and the end of them remain; JSON has all."""
    verdict = REGISTER.check([replace(STALE[2], result="a" * 500 + "b" * 500)])
    assert len(verdict.text()) < 400 and "aaa…bbb" in verdict.text()
    assert verdict.as_dict()["counterexample"][0]["result"] == "a" * 500 + "b" * 500
