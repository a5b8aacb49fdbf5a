"""What a volunteer says that it holds, against what the manager knows."""

from __future__ import annotations

from dataclasses import replace

from manager_core.harness import Cluster, Volunteer, running
from syndicate.manager.core import effects as fx
from syndicate.manager.core.model import JobState, Reason, TaskExit, TaskState

# ---- reconciling ------------------------------------------------------------------------------------------


def test_unanswered_commands_are_sent_again_in_order_through_the_new_stream() -> None:
    """Once each, under their old ids."""
    cluster = Cluster()
    volunteer = cluster.volunteer()
    cluster.submit(2)
    before = [command for _, command in cluster.inbox]
    cluster.detach(volunteer)
    cluster.attach(volunteer)
    assert [command for _, command in cluster.inbox] == before
    cluster.deliver()
    assert cluster.state() is JobState.RUNNING


def test_tasks_that_nobody_wants_are_released_and_their_slots_wait_for_that() -> None:
    """Of unknown jobs, of other attempts, of jobs that have ended."""
    cluster = running(1, slots=1)
    volunteer = cluster.volunteers["node-a"]
    cluster.detach(volunteer)
    cluster.advance(41)
    assert cluster.job().job.attempt == 2
    cluster.attach(volunteer)
    assert cluster.state() is JobState.QUEUED
    [(_, release)] = cluster.inbox
    assert (type(release.action), release.ref.attempt) == (fx.Release, 1)
    cluster.deliver()
    assert cluster.state() is JobState.RUNNING


def test_tasks_of_other_clusters_are_left_alone() -> None:
    """A pool may serve several managers; a slot that another one has answers BUSY by itself."""
    cluster = Cluster()
    volunteer = Volunteer("node-a", 2, boot_id="b")
    cluster.volunteers["node-a"] = volunteer
    other = running(1, cluster_id="other").volunteers["node-a"].held[0]
    volunteer.held[0] = other
    cluster.attach(volunteer)
    cluster.submit(1)
    cluster.deliver()
    cluster.advance(1)
    assert volunteer.held[0] is other
    assert cluster.sent(fx.Release) == []
    assert cluster.state() is JobState.RUNNING and cluster.task("master").slot == 1


def test_a_task_that_the_volunteer_does_not_hold_any_more_is_lost() -> None:
    """Same boot, yet nothing there: the infrastructure has failed."""
    cluster = running(2)
    volunteer = cluster.volunteers["node-a"]
    cluster.detach(volunteer)
    del volunteer.held[1]
    cluster.attach(volunteer)
    cluster.deliver()
    assert (cluster.state(), cluster.job().job.attempt) == (JobState.RUNNING, 2)
    assert "task.lost" in cluster.events()


def test_an_end_that_was_told_to_nobody_is_taken_from_the_hello() -> None:
    """A held task that has exited counts as if its event had come; the event after it changes nothing."""
    cluster = running(1)
    volunteer = cluster.volunteers["node-a"]
    cluster.detach(volunteer)
    held = volunteer.held[0]
    held.state, held.exit = TaskState.EXITED, TaskExit(Reason.EXITED_ZERO)
    cluster.attach(volunteer)
    assert cluster.job().job.verdict is JobState.SUCCEEDED
    cluster.tell_exit(volunteer, held.ref, held.exit)
    cluster.deliver()
    assert cluster.state() is JobState.SUCCEEDED


def test_logs_are_taken_from_whoever_holds_the_task() -> None:
    """In this attempt, also after its end; from nobody else, and not of another attempt."""
    cluster = running(1, slots=1)
    cluster.volunteer("node-b", 1)
    holder, other = cluster.volunteers["node-a"].session, cluster.volunteers["node-b"].session
    ref = cluster.volunteers["node-a"].held[0].ref
    assert cluster.machine.may_log(holder, ref)
    assert not cluster.machine.may_log(other, ref)
    cluster.exit("master")
    assert cluster.machine.may_log(holder, ref)
    assert not cluster.machine.may_log(holder, replace(ref, attempt=2))
    assert not cluster.machine.may_log("no such session", ref)
