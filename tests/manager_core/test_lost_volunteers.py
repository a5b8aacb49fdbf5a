"""Volunteers that go away, and what becomes of their tasks."""

from __future__ import annotations

import pytest
from manager_core.harness import Cluster, running
from syndicate.manager.core import effects as fx
from syndicate.manager.core.errors import Away
from syndicate.manager.core.model import JobState, NodeState, Reason

# ---- going away -------------------------------------------------------------------------------------------


def test_a_lost_stream_alone_loses_no_task() -> None:
    """The job runs on while the volunteer is away, and the volunteer takes its tasks up again."""
    cluster = running(2)
    volunteer = cluster.volunteers["node-a"]
    cluster.detach(volunteer)
    cluster.advance(39)
    assert cluster.state() is JobState.RUNNING
    cluster.attach(volunteer)
    cluster.advance(60)
    assert (cluster.state(), cluster.job().job.attempt) == (JobState.RUNNING, 1)


@pytest.mark.parametrize("stream", ["ended", "silent"])
def test_a_volunteer_that_is_not_heard_is_given_up_and_its_job_queued_again(stream: str) -> None:
    """After `lost_after_s`, whether its stream has ended or is silent; the attempt goes up."""
    cluster = Cluster()
    lost = cluster.volunteer("node-a", 2)
    cluster.submit(2)
    cluster.deliver()
    session = lost.session
    if stream == "ended":
        cluster.detach(lost)
    cluster.advance(39, heartbeats=False)
    assert cluster.state() is JobState.RUNNING
    cluster.advance(2, heartbeats=False)
    job = cluster.job().job
    assert (job.state, job.attempt) == (JobState.QUEUED, 2)
    assert (stream == "silent") == isinstance(cluster.closed.get(session), Away)
    cluster.volunteer("node-b", 2)
    cluster.deliver()
    assert (cluster.state(), cluster.task("master").volunteer_id) == (JobState.RUNNING, "node-b")


def test_a_job_that_loses_its_machines_too_often_is_lost() -> None:
    """The third time ends it, with the reason."""
    cluster = Cluster(max_attempts=3)
    cluster.volunteer()
    cluster.submit(1)
    for _ in range(3):
        cluster.deliver()
        volunteer = cluster.volunteers["node-a"]
        volunteer.reboot()
        cluster.advance(11, heartbeats=False)
        cluster.attach(volunteer)
    job = cluster.job().job
    assert (job.state, job.reason) == (JobState.LOST, Reason.VOLUNTEER_LOST)
    assert "master: node-a was rebooted" in job.detail


def test_a_reboot_loses_every_task_at_once() -> None:
    """A new boot id: nothing of the old boot lives, whatever the time."""
    cluster = running(2)
    volunteer = cluster.volunteers["node-a"]
    cluster.detach(volunteer)
    volunteer.reboot()
    cluster.attach(volunteer)
    assert cluster.job().job.attempt == 2
    cluster.deliver()
    assert cluster.state() is JobState.RUNNING
    assert cluster.task("master").boot_id == volunteer.boot_id


def test_the_other_members_are_released_when_one_is_lost() -> None:
    """The job is queued again only when the rest of its gang is gone."""
    cluster = Cluster()
    cluster.volunteer("node-a", 1)
    lost = cluster.volunteer("node-b", 1)
    cluster.submit(2)
    cluster.deliver()
    cluster.volunteers["node-a"].mute.add("Release")
    cluster.detach(lost)
    lost.reboot()
    cluster.attach(lost)
    assert cluster.state() is JobState.STOPPING
    cluster.volunteers["node-a"].mute.clear()
    cluster.advance(16)
    assert (cluster.state(), cluster.job().job.attempt) == (JobState.RUNNING, 2)


def test_a_job_is_not_queued_again_while_its_old_attempt_may_still_run() -> None:
    """A member that is away runs on until its lease ends: `stop_timeout_s` does not cut that short."""
    cluster = Cluster(stop_timeout_s=10.0)
    cluster.volunteer("node-a", 1)
    cluster.volunteer("node-b", 1)
    cluster.submit(2)
    cluster.deliver()
    cluster.volunteer("node-c", 2)
    away = next(v for v in cluster.volunteers.values() if v.name != cluster.task("slave-0").volunteer_id)
    cluster.detach(away)
    cluster.exit("slave-0", Reason.INFRASTRUCTURE)
    cluster.advance(39)
    assert cluster.state() is JobState.STOPPING
    cluster.advance(2)
    assert (cluster.state(), cluster.job().job.attempt) == (JobState.RUNNING, 2)


def test_a_task_that_has_told_everything_is_not_missed() -> None:
    """Without clients, a machine that dies after its task has ended costs nothing."""
    cluster = Cluster()
    volunteers = {n: cluster.volunteer(n, 1) for n in ("node-a", "node-b")}
    cluster.submit(2)
    cluster.deliver()
    cluster.exit("master")
    gone = volunteers[cluster.task("master").volunteer_id]
    cluster.detach(gone)
    gone.reboot()
    cluster.attach(gone)
    assert cluster.state() is JobState.RUNNING
    cluster.exit("slave-0")
    assert cluster.state() is JobState.SUCCEEDED


def test_a_client_that_has_finished_is_not_missed() -> None:
    """Its word stands; a slave that is lost beside it costs the attempt."""
    cluster = Cluster()
    volunteers = {n: cluster.volunteer(n, 1) for n in ("node-a", "node-b", "node-c")}
    cluster.submit(1, 2)
    cluster.deliver()
    cluster.finish("client-0")
    gone = volunteers[cluster.task("client-0").volunteer_id]
    cluster.detach(gone)
    gone.reboot()
    cluster.attach(gone)
    assert cluster.state() is JobState.RUNNING
    cluster.finish("client-1")
    cluster.deliver()
    assert cluster.state() is JobState.SUCCEEDED


@pytest.mark.parametrize("reason", [Reason.LEASE_EXPIRED, Reason.INFRASTRUCTURE, Reason.STOPPED])
def test_an_end_that_the_machine_brought_about_is_not_the_students(reason: Reason) -> None:
    """The job is queued again, and the slot is released before it is used."""
    cluster = running(2)
    cluster.exit("slave-0", reason)
    cluster.deliver()
    assert (cluster.state(), cluster.job().job.attempt) == (JobState.RUNNING, 2)
    volunteer = cluster.volunteers["node-a"]
    assert {held.ref.attempt for held in volunteer.held.values()} == {2}


def test_a_volunteer_lost_during_the_reservation_costs_nothing() -> None:
    """The job waits again; no attempt counts as failed."""
    cluster = Cluster(max_attempts=1)
    volunteer = cluster.volunteer(slots=2)
    volunteer.mute.add("Reserve")
    cluster.submit(2)
    cluster.deliver()
    cluster.detach(volunteer)
    volunteer.reboot()
    volunteer.mute.clear()
    cluster.attach(volunteer)
    cluster.deliver()
    assert cluster.state() is JobState.RUNNING


def test_cluster_and_node_views_count_slots() -> None:
    """Slots in use are named with their job and task."""
    cluster = running(2, slots=3)
    view = cluster.machine.cluster()
    assert (view.slots, view.free_slots, view.active_jobs, view.queued_jobs) == (3, 1, 1, 0)
    [node] = cluster.machine.nodes()
    assert node.busy == ((0, 1, "master"), (1, 1, "slave-0"))
    assert (node.state, node.last_heard_at) == (NodeState.READY, cluster.now)


def test_heartbeats_bound_the_clock() -> None:
    """An exchange of 1 ms each way bounds the offset to 1 ms."""
    cluster = Cluster()
    volunteer = cluster.volunteer()
    assert cluster.machine.clock("node-a") is None
    cluster.heartbeat(volunteer, delay_ns=1_000_000)
    bound = cluster.machine.clock("node-a")
    assert bound is not None
    assert (bound.offset_ns, bound.error_ns) == (volunteer.clock_ahead_ns, 1_000_000)
    assert bound.boot_id == volunteer.boot_id


def test_a_heartbeat_saves_nothing() -> None:
    """A thousand volunteers write nothing while all is well."""
    cluster = Cluster()
    cluster.heartbeat(cluster.volunteer())
    assert cluster.steps[-1] == fx.Step()
