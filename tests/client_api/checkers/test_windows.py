"""Windows of faults: available again after the heal, and passes that say nothing."""

from __future__ import annotations

import pytest
from syndicate.client_api.checkers import Answer, AvailableAgain, FaultWindow, NotVacuous, compose, vacuous
from syndicate.client_api.history._operation import Operation

from tests.client_api.checkers.made import FAIL, INFO, OK, op

S = 1_000_000_000
CUT = FaultWindow("Partition", 10 * S, 20 * S)


def every_second(
    kind: str, *, silent: tuple[int, int] = (0, 0), until: int = 60, first: int = 0
) -> list[Operation]:
    """One operation a second, those invoked in `silent` timed out."""
    return [
        op(first + n, kind, n * S, n * S + S // 2, outcome=INFO if silent[0] <= n < silent[1] else OK)
        for n in range(until)
    ]


def test_success_soon_after_the_heal_is_true() -> None:
    """The slowest recovery is a metric."""
    verdict = AvailableAgain(5, [CUT]).check(every_second("get", silent=(10, 22)))
    assert verdict.answer is Answer.TRUE
    assert verdict.metrics == {"slowest_recovery_s": 2.5}


def test_no_success_within_the_time_is_false() -> None:
    """It says when the first came, and shows what was tried."""
    verdict = AvailableAgain(5, [CUT]).check(every_second("get", silent=(10, 27)))
    assert verdict.answer is Answer.FALSE
    assert verdict.reason == (
        "Partition was healed at 20000.000 ms, no get succeeded within 5 s: the first came 7.500 s after"
    )
    assert verdict.counterexample


def test_each_kind_of_operation_must_come_back() -> None:
    """Reads alone are not enough, unless no other kind is asked for."""
    history = every_second("get") + every_second("put", silent=(10, 60), first=100)
    history = [
        op(one.index, one.kind, one.invoked_ns, one.completed_ns, outcome=one.outcome) for one in history
    ]
    assert AvailableAgain(5, [CUT]).check(history).answer is Answer.FALSE
    assert AvailableAgain(5, [CUT], kinds=["get"]).check(history).answer is Answer.TRUE


def test_a_success_that_was_under_way_at_the_heal_does_not_count() -> None:
    """It may have been served before."""
    history = [
        op(0, "get", 19 * S, 21 * S),
        op(1, "get", 22 * S, 23 * S, outcome=FAIL),
        op(2, "get", 40 * S, 41 * S),
    ]
    assert AvailableAgain(5, [CUT]).check(history).answer is Answer.FALSE


def test_the_next_fault_before_the_time_is_over_leaves_it_unknown() -> None:
    """Windows that overlap are healed together, with the last of them."""
    history = every_second("get", silent=(10, 60))
    soon = FaultWindow("Kill", 22 * S, 50 * S)
    assert AvailableAgain(5, [CUT, soon]).check(history[:40]).answer is Answer.UNKNOWN
    inside = FaultWindow("Kill", 15 * S, 40 * S)
    verdict = AvailableAgain(5, [CUT, inside]).check(every_second("get", silent=(10, 42)))
    assert verdict.answer is Answer.TRUE and verdict.metrics == {"slowest_recovery_s": 2.5}


@pytest.mark.parametrize(
    ("windows", "history"),
    [
        ([], every_second("get")),
        ([("Kill", 10 * S, None)], every_second("get")),
        ([CUT], every_second("get", until=15)),
        ([CUT], every_second("get", silent=(10, 60), until=22)),
        ([CUT], []),
    ],
)
def test_what_was_not_tried_is_unknown(windows: list[FaultWindow], history: list[Operation]) -> None:
    """No heal, a history that ends before the time does, or nothing at all."""
    assert AvailableAgain(5, windows).check(history).answer is Answer.UNKNOWN


def test_a_window_that_ends_before_it_starts_is_refused() -> None:
    """By each that takes windows."""
    wrong = [("Kill", 2, 1)]
    for judge in (AvailableAgain(1, wrong), NotVacuous(wrong)):
        with pytest.raises(ValueError, match=r"window 0 \(Kill\) ends before it starts"):
            judge.check([])


def test_a_pass_is_vacuous_where_a_kind_never_succeeded_in_a_window() -> None:
    """The kind, the fault and its times are told."""
    history = every_second("get", silent=(10, 20))
    assert vacuous(history, [CUT]) == (
        "none of 10 get succeeded during Partition (10000.000 ms – 20000.000 ms)",
    )
    assert vacuous(every_second("get", silent=(10, 19)), [CUT]) == ()


def test_a_kind_that_was_not_tried_makes_it_vacuous() -> None:
    """A client that waited for the fault to pass tested nothing."""
    history = [*every_second("get", until=9), op(50, "get", 30 * S, 31 * S)]
    assert vacuous(history, [CUT]) == ("no get was tried during Partition (10000.000 ms – 20000.000 ms)",)
    assert vacuous(every_second("get"), [CUT], kinds=["get", "put"]) == (
        "no put was tried during Partition (10000.000 ms – 20000.000 ms)",
    )


def test_a_success_must_lie_within_the_window() -> None:
    """One that was invoked before the fault says nothing of it."""
    across = [op(0, "get", 0, S), op(1, "get", 9 * S, 11 * S), op(2, "get", 19 * S, 21 * S)]
    assert vacuous(across, [CUT]) == ("no get was tried during Partition (10000.000 ms – 20000.000 ms)",)


def test_short_windows_do_not_matter_but_one_must_be_long() -> None:
    """A fault that was in force for a moment shows nothing."""
    blink = FaultWindow("Kill", 5 * S, 5 * S + 1000)
    assert vacuous(every_second("get"), [blink]) == ("no fault was in force for 1 s",)
    assert vacuous(every_second("get"), [blink, CUT]) == ()


def test_a_fault_that_was_never_healed_lasts_to_the_end() -> None:
    """Operations after its start count."""
    open_end = FaultWindow("Kill", 10 * S, None)
    assert vacuous(every_second("get"), [open_end]) == ()
    assert vacuous(every_second("get", silent=(10, 60)), [open_end]) != ()


def test_without_a_fault_a_pass_is_refused() -> None:
    """As unknown, with the reason, in a composition as well."""
    verdict = compose({"tested": NotVacuous([])}).check(every_second("get"))
    assert verdict.answer is Answer.UNKNOWN
    assert verdict.reason == "tested: vacuous: no fault took hold"
