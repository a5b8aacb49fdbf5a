"""A fault of a nemesis that did not take hold on the fake is told, and is none of its faults."""

from __future__ import annotations

import pytest
from syndicate.client_api import CannotDoIt, Nemesis, TaskState
from syndicate.client_api.nemesis import Event
from syndicate.client_api.testing import FakeChaos, FakeJob

from tests.client_api.nemesis_jobs import FIVE, all_is_well, at, calls, of


@pytest.fixture
def job() -> FakeJob:
    return FakeJob(FIVE)


def test_a_start_that_was_never_done_is_no_fault(job: FakeJob) -> None:
    """Where the same request is refused afterwards, nothing holds and nothing is left to heal."""
    job.fail_next("Pause", "NO_ANSWER")
    job.fail_next("Pause", "FAULT_FAILED", "no freezer")
    monkey = Nemesis.replaying(FakeChaos(job=job), of(Event(0, 50, "pause", ("slave-0",))))
    assert monkey.run() == ()
    assert [refused.why for refused in monkey.refused()] == ["no freezer"]
    assert calls(job, "Heal") == []


def test_what_failed_and_was_taken_back_is_no_fault(job: FakeJob) -> None:
    """Nothing holds, and no window says that it did."""
    job.fail_at("Disconnect", FIVE[2])
    cut = Event(0, 50, "disconnect", ("slave-0", "slave-1"))
    monkey = Nemesis.replaying(FakeChaos(job=job), of(cut))
    assert monkey.run() == ()
    assert [refused.number for refused in monkey.refused()] == [0]


def test_what_does_not_take_hold_is_told(job: FakeJob) -> None:
    """A task that ended by itself cannot be frozen: the others go on."""
    job.exit(FIVE[1])
    events = [Event(0, 20, "pause", ("slave-0",)), Event(0, 20, "pause", ("slave-1",))]
    monkey = Nemesis.replaying(FakeChaos(job=job), of(*events))
    [window] = monkey.run()
    [refused] = monkey.refused()
    assert window.targets == ("slave-1",)
    assert (refused.targets, refused.number) == (("slave-0",), 0)
    assert "not alive" in refused.why
    assert monkey.metrics()["nemesis_refused"] == 1


def test_who_was_dead_already_is_left_so(job: FakeJob) -> None:
    """A kill that found nobody is no fault of the nemesis, and revives nobody."""
    job.exit(FIVE[1])
    monkey = Nemesis.replaying(FakeChaos(job=job), of(Event(0, 20, "kill", ("slave-0",))))
    assert monkey.run() == ()
    assert [refused.why for refused in monkey.refused()] == ["it was so already"]
    assert at(job, "slave-0").state is TaskState.EXITED


def test_who_ended_before_its_signal_is_left_so(job: FakeJob) -> None:
    """A signal that nobody was there to get is no fault of the nemesis, and revives nobody."""
    job.exit(FIVE[1])
    events = of(Event(0, 20, "signal", ("slave-0",), {"signal": 3}))
    monkey = Nemesis.replaying(FakeChaos(job=job), events)
    assert monkey.run() == ()
    assert [refused.targets for refused in monkey.refused()] == [("slave-0",)]
    assert at(job, "slave-0").state is TaskState.EXITED


def test_what_a_machine_cannot_do_ends_it(job: FakeJob) -> None:
    """Loudly, and healed: no run passes that was never disturbed."""
    job.cannot("pause", "no freezer")
    events = [Event(0, 250, "kill", ("slave-0",)), Event(10, 20, "pause", ("slave-1",))]
    with pytest.raises(CannotDoIt, match="no freezer"):
        Nemesis.replaying(FakeChaos(job=job), of(*events)).run()
    assert all_is_well(job)
