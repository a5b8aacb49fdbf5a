"""Which Releases ask for the disk, and which volunteer may hand one over."""

from __future__ import annotations

import pytest
from manager_core.harness import Cluster
from syndicate.manager.core import effects as fx
from syndicate.manager.core import events as ev
from syndicate.manager.core.errors import BadRequest
from syndicate.manager.core.model import JobState, Reason, TaskRef


def cluster_with(machines: int = 1, *, keep_disks: bool = True, **config: object) -> Cluster:
    """A job that runs."""
    cluster = Cluster(**config)  # type: ignore[arg-type]  # fields of a configuration
    cluster.volunteer()
    cluster.submit(machines, keep_disks=keep_disks)
    cluster.deliver()
    assert cluster.state() is JobState.RUNNING
    return cluster


def asked(cluster: Cluster) -> list[bool]:
    """Of each Release that was sent, whether it asks for the disk."""
    return [
        command.action.keep_disk
        for command in cluster.sent(fx.Release)
        if isinstance(command.action, fx.Release)
    ]


def may(cluster: Cluster, session: str | None = None, task: str = "master") -> bool:
    """Whether a volunteer may hand the task's disk over."""
    record = cluster.task(task)
    ref = TaskRef(cluster.config.cluster_id, 1, record.attempt, task, 1)
    return cluster.machine.may_put_disk(session or cluster.volunteers["node-a"].session, ref)


def stopping(cluster: Cluster) -> None:
    """The job's last task ends; its Release is under way."""
    volunteer, held = cluster.holder("master")
    volunteer.mute.add("Release")
    cluster.exit("master")
    assert held.ref.task == "master"
    assert cluster.state() is JobState.STOPPING


@pytest.mark.parametrize("keep_disks", [True, False])
def test_the_end_asks_for_disks_where_the_job_does(keep_disks: bool) -> None:
    """Every task's, once the verdict is final."""
    cluster = cluster_with(2, keep_disks=keep_disks)

    for task in ("master", "slave-0"):
        cluster.exit(task)

    assert asked(cluster) == [keep_disks] * 2
    assert cluster.state() is JobState.SUCCEEDED


def test_a_cancel_and_a_time_limit_keep_them_too() -> None:
    """What a job was doing when it was ended is what one wants to see."""
    cancelled, late = cluster_with(), cluster_with()
    cancelled.call(lambda call: ev.CancelJob(call, "cancel-1", 1, by="alice"))
    cancelled.deliver()
    late.advance(700.0)

    assert asked(cancelled) == asked(late) == [True]
    assert late.state() is JobState.TIMED_OUT


def test_a_job_that_is_queued_again_keeps_nothing_of_the_attempt() -> None:
    """Only the last attempt's disks are of use, and slots are wanted."""
    cluster = cluster_with(2)

    cluster.exit("slave-0", Reason.INFRASTRUCTURE)

    assert True not in asked(cluster)


def test_a_reservation_that_is_refused_keeps_none() -> None:
    """Nothing was on those slots."""
    cluster = Cluster()
    cluster.volunteer(slots=2).mute.add("Reserve")
    cluster.submit(2, keep_disks=True)
    cluster.deliver()

    cluster.advance(30.0)

    assert cluster.sent(fx.Release)
    assert True not in asked(cluster)


def test_a_restarted_manager_asks_again() -> None:
    """The Releases of before have other names now; the volunteer joins them."""
    cluster = cluster_with()
    stopping(cluster)
    cluster.restart()
    volunteer = cluster.volunteers["node-a"]
    volunteer.mute.clear()
    cluster.attach(volunteer)

    cluster.deliver()

    assert asked(cluster)[-1] is True


def test_who_gives_the_slot_back_may_hand_it_over_and_nobody_else() -> None:
    """While that goes on: not before, not after, and not of a job that keeps none."""
    cluster = cluster_with()
    before = may(cluster)
    stopping(cluster)
    other = cluster.volunteer("node-b")
    during, by_another = may(cluster), may(cluster, other.session)
    plain = cluster_with(keep_disks=False)
    stopping(plain)

    assert (before, during, by_another, may(plain)) == (False, True, False, False)
    assert not may(cluster, "session-404")


def test_after_the_release_was_answered_nothing_more_is_taken() -> None:
    """The slot may be another task's by then."""
    cluster = cluster_with()

    cluster.exit("master")

    assert not may(cluster)


def test_a_job_has_a_bound_on_disks_that_are_kept() -> None:
    """They are all packed at the same moment."""
    cluster = Cluster()
    cluster.volunteer(slots=80)

    fits = cluster.try_submit(64, keep_disks=True)
    refused = cluster.try_submit(65, keep_disks=True)

    assert isinstance(fits, fx.SubmitReply)
    assert isinstance(refused, BadRequest)
    assert refused.metadata["field"] == "keep_disks"
