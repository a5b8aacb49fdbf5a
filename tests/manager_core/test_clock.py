"""Clock bounds: right, tight, and wider with age."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from syndicate.manager.core import clock
from syndicate.manager.core.model import Stamp

SECOND = 1_000_000_000


def there(ns: int, boot: str = "there") -> Stamp:
    """A stamp of the other machine."""
    return Stamp(boot, ns, ns)


def here(ns: int) -> Stamp:
    """A stamp of the manager."""
    return Stamp("here", ns, 5 * SECOND + ns)


def exchange(ns: int, offset: int, out: int, wait: int, back: int) -> tuple[Stamp, Stamp, Stamp, Stamp]:
    """Four stamps of one exchange that begins at the manager's `ns`."""
    return (
        there(ns + offset),
        here(ns + out),
        here(ns + out + wait),
        there(ns + out + wait + back + offset),
    )


@settings(deadline=None)
@given(
    offset=st.integers(-(10**18), 10**18),
    out=st.integers(0, 10**9),
    back=st.integers(0, 10**9),
    wait=st.integers(0, 10**7),
)
def test_the_true_offset_lies_within_the_bound(offset: int, out: int, back: int, wait: int) -> None:
    """However the delay is split between the two ways, offset ± error holds the truth."""
    measured = clock.measure(exchange(0, offset, out, wait, back), "here")
    assert measured is not None
    bound = clock.bound(measured, measured.at_ns)
    assert abs(bound.offset_ns - offset) <= bound.error_ns
    assert bound.error_ns <= (out + back + 1) // 2 + 1


def test_the_error_grows_with_age() -> None:
    """A bound that is 10 s old is 2 ms wider on each side, at 200 ppm."""
    measured = clock.measure(exchange(0, 100, 50, 0, 50), "here")
    assert measured is not None
    young, old = clock.bound(measured, measured.at_ns), clock.bound(measured, measured.at_ns + 10 * SECOND)
    assert old.error_ns - young.error_ns == 2_000_000


def test_a_tight_bound_outlives_a_loose_one() -> None:
    """After a quick exchange a slow one adds nothing; much later the slow one rules."""
    quick = clock.measure(exchange(0, 0, 1000, 0, 1000), "here")
    slow = clock.measure(exchange(SECOND, 0, 50_000_000, 0, 50_000_000), "here")
    later = clock.measure(exchange(4000 * SECOND, 0, 50_000_000, 0, 50_000_000), "here")
    assert quick is not None
    assert slow is not None
    assert later is not None
    soon = clock.merge(quick, slow)
    assert clock.bound(soon, soon.at_ns).error_ns < 300_000
    late = clock.merge(quick, later)
    assert clock.bound(late, late.at_ns).error_ns == 50_000_000


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), min_size=1, max_size=20))
def test_merged_bounds_still_hold_the_truth_under_drift(delays: list[tuple[int, int]]) -> None:
    """A clock that runs 150 ppm fast stays within the merged bounds of any exchanges."""
    merged, now = None, 0
    for out, back in delays:
        now += 5 * SECOND
        at = [now, now + out, now + out, now + out + back]
        drifted = [ns + ns * 150 // 1_000_000 for ns in at]
        measured = clock.measure((there(drifted[0]), here(at[1]), here(at[2]), there(drifted[3])), "here")
        assert measured is not None
        merged = clock.merge(merged, measured)
        truth = at[2] * 150 // 1_000_000
        bound = clock.bound(merged, at[2])
        assert abs(bound.offset_ns - truth) <= bound.error_ns + 200_000


def test_a_reboot_or_a_contradiction_starts_afresh() -> None:
    """An interval of another boot, or one that cannot be true beside the new one, is dropped."""
    old = clock.Interval("there", 0, 10, 0)
    rebooted, jumped = clock.Interval("other", 500, 510, 5), clock.Interval("there", 5000, 5010, 5)
    assert clock.merge(old, rebooted) is rebooted
    assert clock.merge(old, jumped) is jumped


def test_stamps_of_different_boots_say_nothing() -> None:
    """An exchange across a reboot of either side, or one that goes back in time, is no measurement."""
    sent, received, acked, got = exchange(0, 0, 5, 0, 5)
    assert clock.measure((there(0, "before"), received, acked, got), "here") is None
    assert clock.measure((sent, received, acked, got), "restarted") is None
    assert clock.measure((there(100), here(0), here(0), there(50)), "here") is None


def test_a_stamp_is_converted_within_causality() -> None:
    """The bound of the clock is cut by when the command was sent and when the answer came."""
    loose = clock.Interval("there", 900, 1100, 0)
    at, error = clock.on_manager_clock(there(2000), loose, here(1010), not_before_ns=990)
    assert (at.monotonic_ns, error) == (1000, 10)
    assert at.utc_ns == 5 * SECOND + 1000
    exact = clock.Interval("there", 1000, 1000, 0)
    assert clock.on_manager_clock(there(2000), exact, here(1500), 0)[0].monotonic_ns == 1000


def test_without_a_bound_causality_is_all_there_is() -> None:
    """An unknown clock, or an impossible stamp, leaves the time between command and answer."""
    expected = (Stamp("here", 150, 5 * SECOND + 150), 50)
    assert clock.on_manager_clock(there(7), None, here(200), 100) == expected
    wrong = clock.Interval("there", 0, 0, 0)
    assert clock.on_manager_clock(there(10**12), wrong, here(200), 100) == expected
    assert clock.on_manager_clock(None, None, here(200)) == (here(200), 0)


def test_an_offset_that_does_not_fit_is_no_measurement() -> None:
    """Each number of a bound is told in 64 bits."""
    early, late = -(2**63) + 1, 2**63 - 1
    assert clock.measure((there(early), here(0), here(0), there(early)), "here") is None
    assert clock.measure((there(late), here(0), here(0), there(late)), "here") is None
    assert clock.measure((there(early), here(0), here(0), there(late)), "here") is None
