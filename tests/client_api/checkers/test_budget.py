"""Bounds of a check: time, memory, and what is said where they end."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import count

import pytest
from syndicate.client_api.checkers import Answer, Budget, Linearizable, ListAppend, Model, Queue, compose

from tests.client_api.checkers.exploding import BUILT, Log, every_order, queue_of_equals
from tests.client_api.checkers.made import op, simulated
from tests.support.cluster import ROOT

MIB = 2**20


def judged(name: str, seconds: float, megabytes: int, how: str = "plain") -> dict[str, float | str]:
    """What came of a history in a process with 512 MB of address space."""
    command = [
        sys.executable,
        "-m",
        "tests.client_api.checkers.exploding",
        name,
        str(seconds),
        str(megabytes),
        how,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    told: dict[str, float | str] = json.loads(done.stdout)
    return told


def ticking() -> Callable[[], float]:
    """A clock that goes by a second a look: no machine is too slow for a time on it."""
    ticks = count()
    return lambda: float(next(ticks))


@pytest.mark.parametrize("name", BUILT)
def test_an_exploding_history_is_unknown_in_time_and_little_memory(name: str) -> None:
    """Within the budget and 10 %, though the budget's memory is more than the process may have."""
    told = judged(name, 2.0, 4096)
    assert told["answer"] == "unknown", told
    assert float(told["seconds"]) <= 2.2, told


@pytest.mark.parametrize("name", BUILT)
def test_memory_is_counted_honestly(name: str) -> None:
    """What was allocated at the peak is no more than the budget, and not a small part of it."""
    told = judged(name, 50.0, 24, "measured")
    assert told["answer"] == "unknown" and "24 MiB" in str(told["reason"])
    assert 0.4 * 24 * MIB <= float(told["peak"]) <= 1.1 * 24 * MIB, told


def test_time_is_that_of_the_clock_that_was_given() -> None:
    """A clock that goes by a second a look ends a search of ten seconds after some looks."""
    clock = ticking()
    model, history = queue_of_equals()
    verdict = Linearizable(model).check(history, Budget(10, clock=clock))
    assert verdict.answer is Answer.UNKNOWN
    assert verdict.reason == "not decided within 10 s"
    assert clock() < 40


def test_time_is_by_default_that_of_the_machine() -> None:
    """A search that comes to no end is given up once so much of it is over."""
    model, hard = queue_of_equals()
    begun = time.monotonic()
    verdict = Linearizable(model).check(hard, Budget(0.2))
    assert verdict.reason == "not decided within 0.2 s"
    assert time.monotonic() - begun >= 0.2


def test_a_hard_key_does_not_keep_another_from_being_judged() -> None:
    """The violation of the second queue is found though the first one's search never ends."""
    model, hard = queue_of_equals()
    bad = [op(1000, "enqueue", 0, 1, "a", key="bad"), op(1001, "dequeue", 2, 3, result="b", key="bad")]
    verdict = Linearizable(model).check([*hard, *bad], Budget(60))
    assert verdict.answer is Answer.FALSE
    assert verdict.findings["key"] == "bad"
    assert verdict.metrics["seconds"] < 20


def test_an_undecided_key_is_named() -> None:
    """And that the others were decided."""
    model, hard = queue_of_equals()
    good = [op(1000, "enqueue", 0, 1, "a", key="good")]
    verdict = Linearizable(model).check([*hard, *good], Budget(30, clock=ticking()))
    assert verdict.answer is Answer.UNKNOWN
    assert verdict.reason == "not decided within 30 s (1 of 2 keys: None)"


def test_where_memory_ends_the_largest_search_is_given_up() -> None:
    """The others are decided."""
    model, hard = queue_of_equals()
    bad = [op(1000, "enqueue", 0, 1, "a", key="bad"), op(1001, "dequeue", 2, 3, result="b", key="bad")]
    verdict = Linearizable(model).check([*hard, *bad], Budget(60, 2 * MIB))
    assert verdict.answer is Answer.FALSE and verdict.findings["key"] == "bad"


def test_no_memory_left_is_an_answer() -> None:
    """A MemoryError does not come out of a check."""

    class Greedy(Log):
        def step(self, state, operation):  # type: ignore[no-untyped-def]
            raise MemoryError

    verdict = Linearizable(Greedy()).check(every_order()[1])
    assert verdict.answer is Answer.UNKNOWN
    assert verdict.reason == "not decided: the process has no memory left"


def test_other_checkers_have_a_budget_too() -> None:
    """Transactions without end are unknown when the time is over."""
    history = [op(n, "append", n, n + 1, n, process=0) for n in range(100)]
    history.append(op(100, "read", 200, 201, result=list(range(100)), process=0))
    verdict = ListAppend().check(history, Budget(5, clock=ticking()))
    assert verdict.answer is Answer.UNKNOWN and verdict.reason == "not decided within 5 s"


def test_composed_checkers_share_the_time() -> None:
    """The second has what the first left."""
    model, hard = queue_of_equals()
    budget = Budget(41, clock=ticking())
    verdict = compose({"one": Linearizable(model), "two": Linearizable(Queue())}).check(hard, budget)
    assert verdict.parts["one"].reason == "not decided within 20 s"
    assert verdict.parts["two"].answer is Answer.UNKNOWN


@pytest.mark.parametrize(("seconds", "size"), [(0, 1), (1, 0), (-1, 1), (float("nan"), 1)])
def test_a_budget_of_nothing_is_refused(seconds: float, size: int) -> None:
    """It must be positive."""
    with pytest.raises(ValueError, match="must be positive"):
        Budget(seconds, size)


def test_less_memory_is_taken_where_the_address_space_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most half of what is left of it."""
    monkeypatch.setattr("resource.getrlimit", lambda _: (512 * MIB, 512 * MIB))
    assert Budget(1, 4096 * MIB).begin().limit < 256 * MIB


def test_a_check_leaves_its_own_memory_count_at_nothing() -> None:
    """A finished search gives back what it took."""
    from syndicate.client_api.checkers import KeyValue
    from syndicate.client_api.checkers._search import Search

    meter = Budget().begin()
    search = Search(KeyValue(""), simulated(1, 200, 5, 1), meter)
    search.run(meter.end)
    assert meter.used > 0
    search.close()
    assert meter.used == 0


def test_the_model_protocol_has_defaults_for_all_but_two() -> None:
    """A model is its initial state and its step."""
    assert Log().partition(op(0, "do", 0, 1)) is None
    assert Model.held_until(Log(), ()) is None
