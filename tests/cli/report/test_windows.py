"""The times in which faults were in force."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from syndicate.cli.report.run import Op
from syndicate.cli.report.windows import Place, Window, overlaps, places, united, windows

from tests.cli.report.samples import fault, run

SPANS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)).map(lambda t: (t[0], t[0] + t[1])))


def window(start: float, end: float, error: float = 0.0) -> Window:
    """One that was healed."""
    return Window(1, "cut slave-0", "cut", start, end, error, error, True, "client-0")


def op(begin: float, end: float | None) -> Op:
    """A get."""
    return Op(begin, end, "get", "ok" if end is not None else "info", "p", "get")


def test_each_lasting_fault_has_a_window_by_its_beginning() -> None:
    """Cuts, kills, pauses and the like are windows, signals and revivals are none."""
    told = [(one.number, one.name, one.start_s, one.end_s) for one in windows(run())]
    assert told == [
        (1, "cut slave-1", 3.02, 8.2),
        (2, "killed slave-0", 5.1, 7.0),
        (3, "paused slave-2", 9.0, 10.5),
        (4, "partition majority-ring slave-1", 11.0, 13.2),
        (5, "loss 10 % to slave-1 slave-0", 13.5, 14.6),
    ]


def test_one_call_over_several_slots_is_one_window() -> None:
    """It begins with the first that held and ends with the last that was healed."""
    faults = (
        fault(1, "pause", "slave-0", 2.0, 4.0),
        fault(2, "pause", "slave-1", 2.001, 4.5, call_id=1),
    )
    (found,) = windows(replace(run(), faults=faults))
    assert (found.name, found.start_s, found.end_s) == ("paused slave-0, slave-1", 2.0, 4.5)


def test_what_was_never_healed_lasts_until_the_end() -> None:
    """A kill without a revival is in force until the run's end, and told as not healed."""
    (found,) = windows(replace(run(), faults=(fault(1, "kill", "slave-0", 5.0),)))
    assert (found.healed, found.end_s) == (False, 15.4)


def test_a_fault_that_never_held_has_no_window() -> None:
    """What failed to be applied shades nothing."""
    assert windows(replace(run(), faults=(fault(1, "kill", "slave-0", None, failure="no"),))) == ()


def test_a_reconnection_ends_a_cut_that_tells_no_end_itself() -> None:
    """The ledger of a manager that does not tell when a cut was taken back."""
    faults = (fault(1, "disconnect", "slave-1", 3.0), fault(2, "reconnect", "slave-1", 6.0))
    (found,) = windows(replace(run(), faults=faults))
    assert (found.healed, found.end_s) == (True, 6.0)


def test_an_operation_in_doubt_is_at_an_edge() -> None:
    """What the clocks cannot tell is neither in a fault nor outside."""
    ops = [op(0.0, 0.5), op(0.0, 0.95), op(0.96, 1.5), op(2.05, 2.2), op(2.2, 2.4)]
    told = places(ops, [window(1.0, 2.0, error=0.1)])
    assert told == [Place.OUTSIDE, Place.EDGE, Place.INSIDE, Place.EDGE, Place.OUTSIDE]


@settings(deadline=None)
@given(SPANS, st.lists(st.tuples(st.integers(0, 70), st.none() | st.integers(0, 9))))
def test_places_agree_with_asking_each_window(
    spans: list[tuple[int, int]], ops: list[tuple[int, int | None]]
) -> None:
    """However windows overlap, an operation is in a fault if it was open in any."""
    found = [window(start, end) for start, end in spans]
    asked = [op(begin, None if took is None else begin + took) for begin, took in sorted(ops, key=str)]
    asked.sort(key=lambda one: one.begin_s)
    told = [place is Place.INSIDE for place in places(asked, found)]
    assert told == [any(overlaps(one, *span) for span in spans) for one in asked]


@settings(deadline=None)
@given(SPANS)
def test_united_spans_cover_the_same_and_stand_apart(spans: list[tuple[int, int]]) -> None:
    """Every moment of a span is in the union, and its parts do not touch."""
    told = united(spans)
    assert all(any(start <= a and b <= end for start, end in told) for a, b in spans)
    assert all(left[1] < right[0] for left, right in pairwise(told))
