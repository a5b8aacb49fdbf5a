"""What comes by two streams is printed in the order of its times."""

from __future__ import annotations

from dataclasses import dataclass

from syndicate.cli.render.follow import FollowView
from syndicate.cli.render.log_lines import LineCutter
from syndicate.cli.render.ordering import MOST_HELD, Ordering
from syndicate.v1 import common_pb2 as common

from tests.cli.fake_scheduler import ended_job, fault, log, running_job


@dataclass
class Clock:
    """A clock that a test turns."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_fault_that_is_told_after_its_effect_is_printed_before_it() -> None:
    """The manager tells of a kill a moment after the output that it led to: the times decide."""
    clock = Clock()
    order = Ordering(clock, hold_s=0.25)
    view = FollowView(order=order)
    view.see(running_job())
    cutter = LineCutter()
    for line in cutter.feed(log("slave-1", 0, b"the leader is gone\n", 5.31)):
        assert view.hear(line) == []
    clock.now += 0.1
    job = running_job()
    job.faults.append(fault(1, common.FAULT_KIND_KILL, "slave-0", 5.10, processes=4))
    assert view.see(job) == []
    assert order.due() == []
    clock.now += 0.15
    killed, gone = order.due()
    assert killed.startswith("  5.10 s   killed    slave-0")
    assert gone == "  5.31 s   slave-1   | the leader is gone"


def test_each_source_keeps_its_own_order() -> None:
    """A clock that is corrected backwards does not turn the lines of one task around."""
    order = Ordering(Clock())
    order.put(2.0, "master", ["first"])
    order.put(1.9, "master", ["second"])
    order.put(1.95, "slave-0", ["before both"])
    assert order.rest() == ["before both", "first", "second"]


def test_what_is_not_due_waits() -> None:
    """Each entry waits for its own time, and nothing is due where nothing is held."""
    clock = Clock()
    order = Ordering(clock, hold_s=0.25)
    assert (order.wait_s(), order.due()) == (None, [])
    order.put(1.0, "master", ["one"])
    clock.now += 0.2
    order.put(2.0, "master", ["two"])
    assert round(order.wait_s() or 0, 3) == 0.05
    clock.now += 0.05
    assert order.due() == ["one"]
    assert round(order.wait_s() or 0, 3) == 0.2


def test_a_flood_is_not_held() -> None:
    """More than is kept in mind comes out at once."""
    order = Ordering(Clock())
    for number in range(MOST_HELD):
        order.put(float(number), "master", [str(number)])
    assert order.due() == []
    order.put(0.5, "slave-0", ["x"])
    assert len(order.due()) == MOST_HELD + 1
    assert order.wait_s() is None


def test_nothing_is_lost_at_the_end() -> None:
    """What is still held stands before the last line."""
    order = Ordering(Clock())
    view = FollowView(order=order)
    view.see(ended_job())
    lines = view.end()
    assert any("killed    slave-0" in line for line in lines[:-1])
    assert lines[-1].startswith("job 12     SUCCEEDED")
