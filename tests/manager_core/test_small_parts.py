"""Timers, prefixes and words."""

from __future__ import annotations

import pytest
from syndicate.manager.core import prefixes
from syndicate.manager.core.errors import BadRequest, Exhausted
from syndicate.manager.core.model import Annotation, Reason, TaskExit
from syndicate.manager.core.timers import Timers
from syndicate.manager.core.words import count, duration, ending, first_line


def test_timers_come_in_the_order_of_their_times() -> None:
    """A key comes once, at the time that was set last."""
    timers = Timers()
    timers.set(("job", 1), 30)
    timers.set(("job", 2), 20)
    timers.set(("job", 1), 10)
    timers.set(("job", 3), 15)
    timers.cancel(("job", 3))
    assert timers.next() == 10
    assert timers.pop_due(20) == [("job", 1), ("job", 2)]
    assert timers.next() is None


def test_timers_that_are_set_again_and_again_take_no_more_room() -> None:
    """Old entries are swept."""
    timers = Timers()
    for due in range(10_000):
        timers.set(("node", "a"), due)
    assert len(timers._heap) < 2000
    assert timers.pop_due(20_000) == [("node", "a")]


def test_prefixes_are_given_in_order_and_never_twice() -> None:
    """The first part that overlaps none taken, whatever the size of those."""
    assert prefixes.choose("10.77.0.0/16", []) == "10.77.0.0/26"
    assert prefixes.choose("10.77.0.0/16", ["10.77.0.0/26", "10.77.0.64/27"]) == "10.77.0.128/26"
    assert prefixes.choose("10.77.0.0/16", ["10.77.0.64/26"]) == "10.77.0.0/26"
    assert prefixes.choose("10.77.0.0/16", ["10.77.0.0/17", "10.1.0.0/16"]) == "10.77.128.0/26"


def test_a_prefix_has_several_addresses_for_each_slot() -> None:
    """A /26 at least, more for many slots, and never more than the pool."""
    lengths = [
        prefixes.choose("10.77.0.0/16", [], slots).rpartition("/")[2] for slots in (1, 15, 16, 100, 1000)
    ]
    assert lengths == ["26", "26", "25", "23", "20"]
    assert prefixes.choose("10.1.0.0/28", [], 10) == "10.1.0.0/28"


def test_a_pool_can_be_used_up() -> None:
    """With every part taken the error says what to do."""
    with pytest.raises(Exhausted, match="larger pool"):
        prefixes.choose("10.77.0.0/24", ["10.77.0.0/24"])


def test_a_malformed_prefix_is_a_bad_request() -> None:
    """Host bits, or no address at all."""
    for prefix in ("10.77.0.1/24", "fe80::/64", "x"):
        with pytest.raises(BadRequest):
            prefixes.normal(prefix)


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (900_000, "0.9 ms"),
        (19_400_000, "19 ms"),
        (3_100_000_000, "3.1 s"),
        (250_000_000_000, "4 min 10 s"),
        (600_000_000_000, "10 min"),
        (7_500_000_000_000, "2 h 5 min"),
    ],
)
def test_durations_read_as_people_write_them(ns: int, text: str) -> None:
    """Two units at most."""
    assert duration(ns) == text


def test_ends_are_told_by_their_own_line_first() -> None:
    """The volunteer's line wins; else status and recipe."""
    assert ending(TaskExit(Reason.NO_TARGET, 2, detail="no target")) == "no target"
    assert ending(TaskExit(Reason.EXITED_NONZERO, 2, 7)) == "make exited with status 2 (the recipe's was 7)"
    assert ending(TaskExit(Reason.SIGNALED, 137)) == "make was ended by signal 9"
    assert [count(1, "slot"), count(1200, "slot"), count(4, "process")] == [
        "1 slot",
        "1,200 slots",
        "4 processes",
    ]
    assert first_line("  one\ntwo") == "one"
    assert len(first_line("x" * 500)) == 200


def test_ending_tells_the_bounds_that_a_task_met() -> None:
    """A bound that was met is told behind how the task ended: it is often why."""
    end = TaskExit(Reason.EXITED_NONZERO, 2, annotations=(Annotation.DISK_FULL, Annotation.LOG_LIMIT))

    text = "make exited with status 2 (its disk was full, the middle of its output was dropped)"
    assert ending(end) == text
