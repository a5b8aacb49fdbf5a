"""Linearizable: its answers against those of brute force, and what it says of a false."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from syndicate.client_api.checkers import (
    REFUSED,
    Answer,
    Budget,
    KeyValue,
    Linearizable,
    Model,
    Queue,
    Register,
)
from syndicate.client_api.history._operation import Operation

from tests.client_api.checkers.made import (
    FAIL,
    INFO,
    OK,
    key_value_wish,
    op,
    ordered,
    register_wish,
    simulated,
    stale,
)
from tests.client_api.checkers.small import MODELS, histories


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_the_answer_is_that_of_brute_force(name: str, data: st.DataObject) -> None:
    """For small histories of every model, with ends unknown, failures and times that coincide."""
    model, arguments = MODELS[name]
    history = data.draw(histories(model, arguments))
    verdict = Linearizable(model).check(history)
    assert (verdict.answer is Answer.TRUE) == ordered(model, history)
    assert verdict.answer is not Answer.UNKNOWN


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_with_most_ends_unknown_it_is_still_that_of_brute_force(name: str, data: st.DataObject) -> None:
    """What was used up of operations that may never have happened is counted right."""
    model, arguments = MODELS[name]
    history = data.draw(histories(model, arguments, most=8, unknown=8))
    assert (Linearizable(model).check(history).answer is Answer.TRUE) == ordered(model, history)


def proof(operations: list[Operation], shown: tuple[Operation, ...], model: Model) -> list[Operation]:
    """The history with all but the counterexample relaxed: reads left out, other ends unknown."""
    named = {one.index for one in shown}
    relaxed = []
    for one in operations:
        if one.index in named or one.outcome is not OK:
            relaxed.append(one)
        elif one.kind not in model.reads:
            relaxed.append(replace(one, outcome=INFO, result=None))
    return relaxed


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_the_counterexample_is_wrong_by_itself(name: str, data: st.DataObject) -> None:
    """With the ends of all other operations unknown and their reads gone, there is still no order."""
    model, arguments = MODELS[name]
    history = data.draw(histories(model, arguments))
    verdict = Linearizable(model).check(history)
    if verdict.answer is Answer.FALSE:
        assert verdict.counterexample
        assert not ordered(model, proof(history, verdict.counterexample, model))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("keys", "unknown"), [(10, 0.0), (10, 0.05), (1, 0.0), (1, 0.05)])
def test_a_correct_store_is_true(seed: int, keys: int, unknown: float) -> None:
    """Fifty clients, 1,700 gets, puts and appends; also where one in twenty ends is unknown."""
    history = simulated(seed, 1700, 50, keys, unknown=unknown, failed=0.02)
    verdict = Linearizable(KeyValue("")).check(history)
    assert verdict.answer is Answer.TRUE, verdict.text()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("keys", "unknown"), [(5, 0.0), (5, 0.05), (1, 0.0), (1, 0.05)])
@pytest.mark.parametrize("wish", [key_value_wish, register_wish])
def test_one_stale_read_among_2000_is_false(seed: int, keys: int, unknown: float, wish) -> None:  # type: ignore[no-untyped-def]
    """And it is among the operations shown, or what contradicts it is."""
    good = simulated(seed, 2000, 50, keys, wish=wish, unknown=unknown)
    bad = stale(good, random.Random(seed))
    (spoiled,) = (one for one, before in zip(bad, good, strict=True) if one != before)
    model = KeyValue("")
    verdict = Linearizable(model).check(bad)
    assert verdict.answer is Answer.FALSE
    assert 1 <= len(verdict.counterexample) <= 12
    assert all(one.key == spoiled.key for one in verdict.counterexample)
    relaxed = proof(bad, verdict.counterexample, model)
    assert Linearizable(model).check(relaxed).answer is Answer.FALSE


def test_a_stale_read_is_told_as_a_student_would_say_it() -> None:
    """The read, what it returned, and the write that was acknowledged before."""
    history = [
        op(0, "put", 0, 1_000_000, 1),
        op(1, "put", 2_000_000, 3_000_000, 2),
        op(2, "get", 4_000_000, 5_000_000, result=1),
        op(3, "put", 4_500_000, 6_000_000, 3),
    ]
    verdict = Linearizable(Register()).check(history)
    assert verdict.answer is Answer.FALSE
    assert verdict.reason == (
        "get x returned 1 (process 2, 4.000 ms) after put x 2 had been acknowledged at 3.000 ms"
    )
    assert [one.index for one in verdict.counterexample] == [0, 1, 2]
    assert [one.index for one in verdict.around] == [3]
    assert verdict.findings["order"] == [0, 1]


def test_a_value_that_nobody_wrote_is_told_so() -> None:
    """The counterexample is that read alone."""
    verdict = Linearizable(KeyValue()).check([op(0, "put", 0, 1, 1), op(1, "get", 2, 3, result=7)])
    assert verdict.reason.endswith("which nothing invoked before its end can have left")
    assert [one.index for one in verdict.counterexample] == [1]


def test_a_lost_append_is_shown_with_the_read_that_lacks_it() -> None:
    """The append was acknowledged before the read was invoked."""
    history = [
        op(0, "append", 0, 1, "a"),
        op(1, "append", 2, 3, "b"),
        op(2, "get", 4, 5, result="a"),
        op(3, "append", 6, 7, "c"),
    ]
    verdict = Linearizable(KeyValue()).check(history)
    assert verdict.answer is Answer.FALSE
    assert {1, 2} <= {one.index for one in verdict.counterexample}
    assert 'append x "b" had been acknowledged' in verdict.reason


def test_a_process_that_stood_still_explains_a_few_operations_all_the_same() -> None:
    """By this clock the time to explain is over at once: so few are searched before it is looked at."""
    history = [
        op(0, "append", 0, None, "first", outcome=INFO),
        op(1, "append", 2, 3, "second"),
        op(2, "get", 4, 5, result=["first"]),
    ]
    seconds = itertools.count()
    verdict = Linearizable(KeyValue([])).check(history, Budget(60.0, clock=lambda: float(next(seconds))))
    assert verdict.answer is Answer.FALSE
    assert verdict.reason.startswith('get x returned ["first"] ')
    assert verdict.reason.endswith('after append x "second" had been acknowledged at 0.000 ms')


def test_an_unknown_end_may_take_effect_long_after() -> None:
    """A write that timed out is read later, after another; and it may never be seen at all."""
    timed_out = op(0, "put", 0, 1, 1, outcome=INFO)
    after = [op(1, "put", 2, 3, 2), op(2, "get", 4, 5, result=2)]
    late = op(3, "get", 6, 7, result=1)
    assert Linearizable(Register()).check([timed_out, *after]).answer is Answer.TRUE
    assert Linearizable(Register()).check([timed_out, *after, late]).answer is Answer.TRUE
    back = op(4, "get", 8, 9, result=2)
    assert Linearizable(Register()).check([timed_out, *after, late, back]).answer is Answer.FALSE


def test_a_failed_operation_never_took_effect() -> None:
    """What it would have written cannot be read."""
    failed = op(0, "put", 0, 1, 1, outcome=FAIL)
    assert Linearizable(Register()).check([failed]).answer is Answer.TRUE
    assert Linearizable(Register()).check([failed, op(1, "get", 2, 3, result=1)]).answer is Answer.FALSE


def test_an_empty_history_is_true() -> None:
    """There is nothing to explain."""
    verdict = Linearizable(KeyValue()).check([])
    assert verdict.answer is Answer.TRUE and verdict.text()


def test_a_history_of_one_process_is_judged_in_its_order() -> None:
    """Good as it is; with one read changed it is false."""
    history = simulated(1, 300, 1, 3)
    assert Linearizable(KeyValue("")).check(history).answer is Answer.TRUE
    place = max(at for at, one in enumerate(history) if one.kind == "get")
    history[place] = replace(history[place], result="other")
    assert Linearizable(KeyValue("")).check(history).answer is Answer.FALSE


@pytest.mark.parametrize("kind", ["put", "append"])
def test_two_hundred_operations_at_once_on_one_key(kind: str) -> None:
    """All open together; then the value is read."""
    many = [op(n, kind, n, 1000 + n, f"<{n}>") for n in range(199)]
    last = (
        "<77>" if kind == "put" else "".join(f"<{n}>" for n in sorted(range(199), key=lambda n: n * 7 % 199))
    )
    history = [*many, op(199, "get", 2000, 2001, result=last)]
    assert Linearizable(KeyValue("")).check(history).answer is Answer.TRUE
    history[199] = replace(history[199], result="<x>")
    assert Linearizable(KeyValue("")).check(history).answer is Answer.FALSE


def test_keys_are_judged_each_for_itself() -> None:
    """Equal values on two keys have nothing to do with each other."""
    history = [
        op(0, "put", 0, 1, 1, key="a"),
        op(1, "get", 2, 3, result=None, key="b"),
        op(2, "get", 2, 3, result=1, key="a"),
    ]
    verdict = Linearizable(Register()).check(history)
    assert verdict.answer is Answer.TRUE and verdict.metrics["partitions"] == 2


def test_json_values_are_told_apart() -> None:
    """True is not 1; a list may be a value, and a key."""
    history = [op(0, "put", 0, 1, True), op(1, "get", 2, 3, result=1)]
    assert Linearizable(Register()).check(history).answer is Answer.FALSE
    history = [
        op(0, "put", 0, 1, [1, {"a": None}], key=["k"]),
        op(1, "get", 2, 3, result=[1, {"a": None}], key=["k"]),
    ]
    assert Linearizable(Register()).check(history).answer is Answer.TRUE


def test_a_word_that_begins_another_is_not_taken_for_it() -> None:
    """The list of 0 is no beginning of one that was put as a whole, so it may be left for that."""
    history = [
        op(0, "append", 0, 0, 0),
        op(1, "get", 0, 0, result=[]),
        op(2, "put", 0, 0, [0, 2]),
        op(3, "get", 1, 1, result=[0, 2]),
    ]
    assert Linearizable(KeyValue([])).check(history).answer is Answer.TRUE


def test_a_word_that_is_written_twice_may_be_reached_twice() -> None:
    """The first one is overwritten, the second one is what was appended to."""
    words = [("put", "x1y"), ("put", "x2y"), ("put", "x1y"), ("append", "x3y")]
    history = [op(n, kind, 2 * n, 2 * n + 1, word) for n, (kind, word) in enumerate(words)]
    history.append(op(4, "get", 8, 9, result="x1yx3y"))
    assert Linearizable(KeyValue("")).check(history).answer is Answer.TRUE


def test_what_nobody_took_may_have_been_taken_by_a_dequeue_that_timed_out() -> None:
    """Without one, nothing comes out past it."""
    history = [
        op(0, "enqueue", 0, 1, "a"),
        op(1, "enqueue", 2, 3, "b"),
        op(2, "dequeue", 4, 5, outcome=INFO),
        op(3, "dequeue", 6, 7, result="b"),
    ]
    assert Linearizable(Queue()).check(history).answer is Answer.TRUE
    del history[2]
    assert Linearizable(Queue()).check(history).answer is Answer.FALSE


def test_dequeues_that_touch_in_time_may_be_in_either_order() -> None:
    """One ends at the very time at which the other is invoked."""
    history = [
        op(0, "enqueue", 0, 1, "a"),
        op(1, "enqueue", 2, 3, "b"),
        op(2, "dequeue", 4, 10, result="b"),
        op(3, "dequeue", 10, 12, result="a"),
    ]
    assert Linearizable(Queue()).check(history).answer is Answer.TRUE


class Jumps(Model):
    """A number; an operation's argument says from where to where it goes."""

    initial = 0

    def step(self, state, operation):  # type: ignore[no-untyped-def]
        """From other numbers it is refused."""
        return dict(operation.argument).get(state, REFUSED)


def test_what_used_up_fewer_unknown_ends_is_searched_though_more_were_tried_first() -> None:
    """The jump whose end nobody knows helps the first operation, but is the only one that helps the last."""
    history = [
        op(0, "go", 0, 9, [[0, 3], [4, 8]], outcome=INFO),
        op(1, "go", 0, 1, [[3, 4]]),
        op(2, "go", 0, 2, [[0, 1], [4, 4]]),
        op(3, "go", 0, 3, [[1, 3], [4, 4]]),
        op(4, "go", 4, 5, [[8, 8]]),
    ]
    assert ordered(Jumps(), history)
    assert Linearizable(Jumps()).check(history).answer is Answer.TRUE


class Stack(Model):
    """Last in, first out: a model of one's own, as the documentation has it."""

    initial = ()
    kinds = frozenset({"push", "pop"})

    def step(self, state, operation):  # type: ignore[no-untyped-def]
        """The top is the last."""
        if operation.kind == "push":
            return (*state, operation.argument)
        if operation.outcome is OK and (not state or state[-1] != operation.result):
            return REFUSED
        return state[:-1]


def test_a_model_of_ones_own_needs_an_initial_state_and_a_step() -> None:
    """Last in comes out first; the other way round is refused."""
    history = [op(0, "push", 0, 1, 1), op(1, "push", 2, 3, 2), op(2, "pop", 4, 5, result=2)]
    assert Linearizable(Stack()).check(history).answer is Answer.TRUE
    history[2] = replace(history[2], result=1)
    verdict = Linearizable(Stack()).check(history)
    assert verdict.answer is Answer.FALSE
    assert verdict.counterexample[-1].index == 2


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_model_without_any_help_is_judged_the_same(data: st.DataObject) -> None:
    """None of the optional parts is needed for a right answer."""
    few = st.integers(0, 2)
    history = data.draw(histories(Stack(), {"push": (few, st.none()), "pop": (st.none(), few)}))
    assert (Linearizable(Stack()).check(history).answer is Answer.TRUE) == ordered(Stack(), history)
