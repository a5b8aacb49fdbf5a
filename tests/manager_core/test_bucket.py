"""The token bucket: never more than burst and rate allow, and told right when to come again."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from syndicate.manager.core.bucket import Bucket

SECOND = 1_000_000_000


def test_a_burst_goes_and_then_the_rate_holds() -> None:
    """Five at once, then one each half second."""
    bucket = Bucket()
    assert [bucket.take(0, 2.0, 5.0) for _ in range(5)] == [0.0] * 5
    assert bucket.take(0, 2.0, 5.0) == pytest.approx(0.5)
    assert bucket.take(SECOND // 2, 2.0, 5.0) == 0.0
    assert bucket.take(SECOND // 2, 2.0, 5.0) > 0


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 3 * SECOND), min_size=1, max_size=60),
    st.floats(0.1, 50.0),
    st.integers(1, 20),
)
def test_no_more_than_burst_and_rate(gaps: list[int], rate: float, burst: int) -> None:
    """In no stretch of time are more taken than the burst and what came back meanwhile."""
    bucket, now, taken = Bucket(), 0, 0
    times: list[tuple[int, int, int]] = []  # each with how many were taken before and by then
    for gap in gaps:
        before, now = taken, now + gap
        while bucket.take(now, rate, burst) == 0.0:
            taken += 1
        times.append((now, before, taken))
    for first, (start, before, _) in enumerate(times):
        for end, _, after in times[first:]:
            assert after - before <= burst + rate * (end - start) / 1e9 + 1e-6


@settings(deadline=None)
@given(st.floats(0.01, 100.0), st.integers(1, 50), st.integers(1, 80))
def test_what_it_says_to_wait_is_enough(rate: float, burst: int, tries: int) -> None:
    """Whoever waits so long gets in, and not earlier."""
    bucket, wait_s = Bucket(), 0.0
    for _ in range(tries):
        wait_s = bucket.take(0, rate, burst)
    if wait_s:
        late = int(wait_s * 1e9) + 1000
        assert bucket.left(late, rate, burst) >= 1 - 1e-6
        assert bucket.take(late, rate, burst) == 0.0


def test_a_new_size_holds_at_once() -> None:
    """What was taken stays taken when the bounds change."""
    bucket = Bucket()
    for _ in range(8):
        assert bucket.take(0, 0.001, 10) == 0.0
    assert bucket.left(0, 0.001, 4) == 0.0
    assert bucket.left(0, 0.001, 20) == pytest.approx(12.0)


def test_a_clock_that_goes_back_gives_nothing() -> None:
    """Only time that passes fills it."""
    bucket = Bucket()
    bucket.take(10 * SECOND, 1.0, 1.0)
    assert bucket.take(SECOND, 1.0, 1.0) > 0


def test_debt_is_waited_for() -> None:
    """A chunk that is larger than what is left is taken, and paid by waiting."""
    bucket = Bucket()
    assert bucket.owe(0, 100.0, 100.0, 100.0) == 0.0
    assert bucket.owe(0, 100.0, 100.0, 50.0) == pytest.approx(0.5)
    assert bucket.owe(SECOND, 100.0, 100.0, 0.0) == 0.0
