"""Quantiles in and out of faults, and recoveries."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st
from syndicate.cli.report.numbers import quantile, recoveries, rows
from syndicate.cli.report.run import Op
from syndicate.cli.report.windows import Window, overlaps

from tests.cli.report.samples import operations

WINDOW = Window(1, "cut slave-0", "cut", 3.0, 5.0, 0.0, 0.1, True, "client-0")


def get(begin: float, end: float | None, outcome: str = "ok") -> Op:
    """A get."""
    return Op(begin, end, "get", outcome, "p", "get")


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_a_quantile_is_a_value_with_its_share_below(values: list[float], share: float) -> None:
    """Nearest rank: at least the share of all values are at most as large."""
    values.sort()
    told = quantile(values, share)
    assert told in values
    assert sum(value <= told for value in values) >= math.ceil(share * len(values))


def test_latencies_are_those_of_successes() -> None:
    """A time-out is no latency: failures and unknown ends are counted only."""
    (told,) = rows([get(0, 1), get(0, 3), get(0, 99, "fail"), get(0, None, "info")], [])
    assert (told.ok, told.fail, told.info, told.latencies_s) == (2, 1, 1, (1, 3, 3, 3))


def test_nothing_that_succeeded_has_no_quantiles() -> None:
    """No number is made of nothing."""
    (told,) = rows([get(0, 1, "fail")], [])
    assert told.latencies_s == ()


def test_each_operation_is_counted_in_one_part_of_the_run() -> None:
    """In faults, outside and at edges make all of it."""
    told = rows(operations(500), [WINDOW])
    for kind in ("put", "get", "cas"):
        counts = {one.where: one.ok + one.fail + one.info for one in told if one.kind == kind}
        assert counts.pop("all of it") == sum(counts.values())


def test_recovery_is_from_the_heal_to_the_first_success_that_ended_after_it() -> None:
    """A success within the error of the heal does not count: it may have been before."""
    ops = [get(1, 2), get(3.5, 3.6, "fail"), get(4.9, 5.05), get(5.2, 5.5), get(6, 6.1)]
    (told,) = recoveries(ops, [WINDOW])
    assert told.inside == (1, 1, 0)
    assert told.after_s == 0.5


def test_without_a_success_after_the_heal_there_is_no_recovery() -> None:
    """Nor is there one of a fault that was never healed."""
    (told,) = recoveries([get(1, 2), get(6, 7, "fail")], [WINDOW])
    assert told.after_s is None


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 90), st.integers(0, 40), st.sampled_from(["ok", "fail", "info"]))))
def test_what_is_told_of_a_fault_agrees_with_looking_at_every_operation(
    given_ops: list[tuple[int, int, str]],
) -> None:
    """Leaving out those that are too early or too late leaves out none that counts."""
    ops = [get(begin / 10, (begin + took) / 10, outcome) for begin, took, outcome in sorted(given_ops)]
    inside = [op.outcome for op in ops if overlaps(op, WINDOW.start_s, WINDOW.end_s)]
    after = [op.end_s for op in ops if op.outcome == "ok" and op.end_s is not None and op.end_s >= 5.1]
    for told in recoveries(ops, [WINDOW]):
        assert told.inside == tuple(inside.count(word) for word in ("ok", "fail", "info"))
        assert told.after_s == (min(after) - 5.0 if after else None)
