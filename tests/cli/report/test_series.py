"""What the figures are made of."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from syndicate.cli.report.logs import Thinned
from syndicate.cli.report.run import LogMark, Op
from syndicate.cli.report.series import bands, most_at_once, points, rates, slice_s, thinned, window_rows
from syndicate.cli.report.windows import Window

from tests.cli.report.samples import operations


@settings(deadline=None)
@given(st.floats(0.001, 1e6), st.integers(10, 300))
def test_slices_are_round_and_few(length_s: float, most: int) -> None:
    """A run of any length is cut into at most so many slices, of 1, 2 or 5 times a power of ten."""
    told = slice_s(length_s, most)
    assert length_s <= told * most
    assert f"{told:.0e}"[0] in "125"


def test_rates_count_every_end() -> None:
    """All successes that ended within the run are in the rates."""
    ops = operations(1000)
    told = rates(ops, "ok", 15.4, 0.2)
    ended = [op for op in ops if op.outcome == "ok" and op.end_s is not None and op.end_s < 15.4]
    assert len(told) == 77
    assert sum(one.per_s * 0.2 for one in told) == pytest.approx(len(ended))


def test_a_band_holds_the_quantiles_of_its_slice() -> None:
    """Median, 0.95 and slowest of what began in it; a slice without operations has no band."""
    ops = [Op(place / 100, place / 100 + place, "get", "ok", "p", "get") for place in range(1, 101)]
    first, second = bands(ops, 200.0, 1.0)
    assert (first.at_s, first.median_s, first.high_s, first.most_s, first.count) == pytest.approx(
        (0.5, 50, 95, 99, 99)
    )
    assert (second.at_s, second.count) == (1.5, 1)


def test_what_was_never_answered_stands_at_the_time_until_the_end() -> None:
    """It has no latency; that it was still open is what can be drawn."""
    (point,) = points([Op(2.0, None, "get", "info", "p", "get")], 10.0)
    assert point.latency_s == 8.0


@settings(deadline=None)
@given(st.integers(0, 5000), st.integers(1, 300))
def test_thinned_points_are_as_many_as_there_is_room_for(count: int, most: int) -> None:
    """None is there twice, and their order stays."""
    every = points([Op(place, place + 1, "get", "ok", "p", "get") for place in range(count)], 1e6)
    told = thinned(every, most)
    begins = [point.op.begin_s for point in told]
    assert len(told) == min(count, most)
    assert begins == sorted(set(begins))


@settings(deadline=None)
@given(st.integers(0, 5000), st.integers(2, 100))
def test_thinned_lines_cover_the_whole_run_and_are_counted(count: int, most: int) -> None:
    """Every n-th line is kept, from the first one on, and the others are told."""
    thinned_lines = Thinned(most)
    for place in range(count):
        thinned_lines.take(LogMark(place, "master", str(place)))
    kept = [int(mark.text) for mark in thinned_lines.kept]
    steps = {right - left for left, right in pairwise(kept)}
    assert len(kept) <= most
    assert len(kept) + thinned_lines.left_out == count
    assert len(steps) <= 1
    assert count < 2 or kept[-1] >= count - 2 * max(steps, default=count)


def test_windows_that_follow_each_other_are_never_open_at_once() -> None:
    """Shades are laid over each other as deep as faults are in force together."""
    spans = [(0, 2), (2, 4), (3, 5)]
    found = [Window(1, "cut", "cut", start, end, 0, 0, True, "") for start, end in spans]
    assert [most_at_once(found[:count]) for count in (0, 1, 2, 3)] == [0, 1, 1, 2]


def test_a_window_that_takes_no_time_is_open() -> None:
    """A fault that held as the job ended, or that was healed at the moment at which it held."""
    found = [Window(1, "cut", "cut", 3, 3, 0, 0, True, "")]
    assert most_at_once(found) == 1


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 30)), max_size=60))
def test_windows_of_one_row_do_not_overlap(spans: list[tuple[int, int]]) -> None:
    """However many faults there were, each is to be seen."""
    found = [Window(1, "cut", "cut", start, start + took, 0, 0, True, "") for start, took in sorted(spans)]
    rows = window_rows(found, most=3)
    ends: dict[int, float] = {}
    for window, row in zip(found, rows, strict=True):
        assert ends.get(row, 0.0) <= window.start_s
        ends[row] = window.end_s
