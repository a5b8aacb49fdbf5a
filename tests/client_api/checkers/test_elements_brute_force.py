"""set-full, total-queue, unique-ids and counter: their answers against those of brute force."""

from __future__ import annotations

from collections import Counter as Count
from itertools import product
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from syndicate.client_api.checkers import (
    REFUSED,
    Answer,
    Counter,
    Model,
    SetFull,
    TotalQueue,
    UniqueIds,
)
from syndicate.client_api.history._operation import Operation, Outcome

from tests.client_api.checkers.made import FAIL, INFO, OK, op, ordered

ENDS = st.sampled_from([OK, OK, OK, INFO, FAIL])
FEW = st.integers(0, 2)


def at(draw: st.DrawFn) -> tuple[int, int]:
    """When something began and ended; times often coincide."""
    begin = draw(st.integers(0, 12))
    return begin, begin + draw(st.integers(0, 8))


class Member(Model):
    """Whether one element is in a set."""

    initial = False

    def __init__(self, element: int) -> None:
        self._element = element

    def step(self, state: bool, operation: Operation) -> Any:
        """Who adds it puts it in; a read has it or not."""
        if operation.kind == "add":
            return state or operation.argument == self._element
        return state if state == (self._element in operation.result) else REFUSED


@st.composite
def sets(draw: st.DrawFn) -> list[Operation]:
    """Elements 0 to 2, each added at most once, and up to three reads."""
    made = []
    for element in draw(st.lists(FEW, unique=True, max_size=3)):
        made.append(op(len(made), "add", *at(draw), element, outcome=draw(ENDS)))
    for _ in range(draw(st.integers(0, 3))):
        outcome = draw(ENDS)
        result = draw(st.lists(FEW, max_size=3)) if outcome is OK else None
        made.append(op(len(made), "read", *at(draw), result=result, outcome=outcome))
    return made


def members_are_right(history: list[Operation]) -> bool:
    """Whether each element is in reads as it must be, by trying every order of its add and the reads."""
    told = [one for one in history if one.kind == "add" or one.outcome is OK]
    if any(len(set(one.result)) < len(one.result) for one in told if one.kind == "read"):
        return False
    return all(
        ordered(Member(element), [one for one in told if one.kind == "read" or one.argument == element])
        for element in range(3)
    )


@settings(max_examples=1000, deadline=None)
@given(history=sets())
def test_a_set_is_false_where_no_order_explains_one_of_its_elements(history: list[Operation]) -> None:
    """And only there; what may be gone for a while is false more seldom."""
    verdict = SetFull().check(history)
    assert (verdict.answer is Answer.FALSE) == (not members_are_right(history)), verdict.text()
    if verdict.answer is not Answer.FALSE:
        assert SetFull(linearizable=False).check(history).answer is not Answer.FALSE


@st.composite
def queues(draw: st.DrawFn) -> list[Operation]:
    """Up to eight operations on elements 0 to 2."""
    made = []
    for index in range(draw(st.integers(0, 8))):
        kind = draw(st.sampled_from(["enqueue", "enqueue", "dequeue", "dequeue", "drain"]))
        outcome, argument, result = draw(ENDS), None, None
        if kind == "enqueue":
            argument = draw(FEW)
        elif outcome is OK:
            result = draw(st.none() | FEW) if kind == "dequeue" else draw(st.lists(FEW, max_size=2))
        made.append(op(index, kind, *at(draw), argument, result, outcome=outcome))
    return made


def lost(history: list[Operation], taken: tuple[int | None, ...]) -> Count[int]:
    """What was acknowledged and never came out, where these were taken by who knows whom."""
    enqueued = [one for one in history if one.kind == "enqueue" and one.outcome is OK]
    return Count(one.argument for one in enqueued) - Count(came_out(history)) - Count(taken)  # type: ignore[operator]  # None is none of them


def came_out(history: list[Operation]) -> list[int]:
    """What dequeues and drains are known to have returned."""
    found = [one for one in history if one.kind != "enqueue" and one.outcome is OK]
    single = [one.result for one in found if one.kind == "dequeue" and one.result is not None]
    return [*single, *(element for one in found if one.kind == "drain" for element in one.result)]


def queue_answer(history: list[Operation], exactly_once: bool) -> Answer:
    """By trying whatever operations of unknown end may have taken."""
    may_be_in = Count(one.argument for one in history if one.kind == "enqueue" and one.outcome is not FAIL)
    out = Count(came_out(history))
    if out.keys() - may_be_in.keys() or (exactly_once and out - may_be_in):
        return Answer.FALSE
    unknown = [one for one in history if one.kind != "enqueue" and one.outcome is INFO]
    if any(one.kind == "enqueue" and one.outcome is OK for one in history) and not lost(history, ()):
        return Answer.TRUE
    drained = any(one.kind == "drain" for one in unknown)
    guesses = product((None, 0, 1, 2), repeat=len(unknown))
    return Answer.UNKNOWN if drained or not all(lost(history, one) for one in guesses) else Answer.FALSE


@settings(max_examples=1000, deadline=None)
@given(history=queues(), exactly_once=st.booleans())
def test_a_queue_has_the_answer_of_brute_force(history: list[Operation], exactly_once: bool) -> None:
    """True, false and unknown, with and without the demand that nothing comes out twice."""
    verdict = TotalQueue(exactly_once=exactly_once).check(history)
    assert verdict.answer is queue_answer(history, exactly_once), verdict.text()


@settings(max_examples=300, deadline=None)
@given(
    ids=st.lists(st.tuples(st.integers(0, 9) | st.booleans() | st.sampled_from(["1", "a"]), ENDS), max_size=6)
)
def test_ids_are_false_where_two_are_the_same(ids: list[tuple[Any, Outcome]]) -> None:
    """Of those that succeeded; 1, true and "1" are three."""
    history = [
        op(n, "generate", n, n + 1, result=one if end is OK else None, outcome=end)
        for n, (one, end) in enumerate(ids)
    ]
    given_ = [(type(one), one) for one, end in ids if end is OK]
    twice = any(one in given_[:place] for place, one in enumerate(given_))
    expected = Answer.FALSE if twice else Answer.TRUE if given_ else Answer.UNKNOWN
    assert UniqueIds().check(history).answer is expected


class Sum(Model):
    """A number that is added to."""

    initial = 0

    def step(self, state: int, operation: Operation) -> Any:
        """A read gives what was added."""
        if operation.kind == "add":
            return state + operation.argument
        return state if state == operation.result else REFUSED


@st.composite
def counters(draw: st.DrawFn, amounts: st.SearchStrategy[int]) -> list[Operation]:
    """Up to five increments, some of unknown end, and up to two reads."""
    made = []
    for _ in range(draw(st.integers(0, 5))):
        made.append(op(len(made), "add", *at(draw), draw(amounts), outcome=draw(ENDS)))
    for _ in range(draw(st.integers(0, 2))):
        made.append(op(len(made), "read", *at(draw), result=draw(st.integers(-2, 4))))
    return made


def each_read_is_right(history: list[Operation]) -> bool:
    """Whether some order of the increments explains it, for each read by itself."""
    adds = [one for one in history if one.kind == "add"]
    return all(ordered(Sum(), [*adds, one]) for one in history if one.kind == "read")


@settings(max_examples=500, deadline=None)
@given(history=counters(st.just(1)))
def test_a_counter_is_false_where_no_order_explains_a_read(history: list[Operation]) -> None:
    """And only there, where all increments are the same."""
    assert (Counter().check(history).answer is Answer.FALSE) == (not each_read_is_right(history))


@settings(max_examples=500, deadline=None)
@given(history=counters(st.integers(-3, 3)))
def test_a_counter_is_never_false_where_an_order_explains_each_read(history: list[Operation]) -> None:
    """Increments of any size and sign, of which a bound is all that is held."""
    if each_read_is_right(history):
        assert Counter().check(history).answer is not Answer.FALSE
