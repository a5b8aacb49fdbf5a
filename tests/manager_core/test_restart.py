"""A manager that dies and starts again: every job comes to a true end, and nothing happens twice."""

from __future__ import annotations

from dataclasses import replace

import pytest
from manager_core.harness import SOURCE, Cluster, running
from syndicate.manager.core import effects as fx
from syndicate.manager.core import events as ev
from syndicate.manager.core.errors import InvariantError, TooLate
from syndicate.manager.core.machine import Machine
from syndicate.manager.core.model import JobState, Reason, Stamp, TaskState
from syndicate.manager.core.records import StoryRecord, TaskRecord


def back(cluster: Cluster) -> None:
    """Every volunteer attaches again, and all is delivered."""
    for volunteer in cluster.volunteers.values():
        cluster.attach(volunteer)
    cluster.deliver()


def test_a_restored_machine_wants_to_be_woken_at_once() -> None:
    """What recovery changes comes with the first step."""
    cluster = running(2)
    cluster.restart()
    assert cluster.machine.next_wake() == cluster.ns


def test_a_running_job_goes_on() -> None:
    """Volunteers come back with their tasks; nothing is started again, the story says what happened."""
    cluster = running(2, 1)
    before = list(cluster.volunteers["node-a"].starts)
    cluster.restart()
    cluster.do(ev.Tick())
    assert cluster.state() is JobState.RUNNING
    back(cluster)
    assert cluster.volunteers["node-a"].starts == before
    assert "manager.restarted" in cluster.events()
    cluster.finish()
    cluster.deliver()
    assert cluster.state() is JobState.SUCCEEDED


def test_a_running_job_whose_machine_does_not_come_back_is_queued_again() -> None:
    """After `lost_after_s` from the restart."""
    cluster = running(2)
    cluster.restart()
    cluster.advance(39)
    assert cluster.state() is JobState.RUNNING
    cluster.advance(2)
    assert (cluster.state(), cluster.job().job.attempt) == (JobState.QUEUED, 2)


@pytest.mark.parametrize("kind", ["Reserve", "Prepare", "Start"])
def test_a_job_that_was_not_running_yet_is_taken_back_and_starts_again(kind: str) -> None:
    """RESERVING and PREPARING: what is there of the old attempt is released, the next one starts."""
    cluster = Cluster()
    volunteer = cluster.volunteer(slots=2)
    volunteer.mute.add(kind)
    cluster.submit(2)
    cluster.deliver()
    volunteer.mute.clear()
    cluster.restart()
    back(cluster)
    assert (cluster.state(), cluster.job().job.attempt) == (JobState.RUNNING, 2)
    assert {held.ref.attempt for held in volunteer.held.values()} == {2}
    assert len(set(volunteer.starts)) == len(volunteer.starts)


def test_a_reservation_that_overtook_a_commit_that_never_came_is_released() -> None:
    """The volunteer holds a lock for a job that only waits: it is told to let go, then asked anew."""
    cluster = Cluster()
    volunteer = cluster.volunteer(slots=1)
    cluster.submit(1)
    [(_, reserve)] = cluster.inbox
    volunteer.carry_out(reserve, cluster.ns)
    cluster.store["job", 1] = replace(cluster.job().job, state=JobState.QUEUED)
    cluster.restart()
    back(cluster)
    assert cluster.state() is JobState.RUNNING
    assert [type(c.action).__name__ for c in volunteer.received][:2] == ["Release", "Reserve"]


def test_a_job_that_was_stopping_comes_to_its_verdict() -> None:
    """Its releases are sent again."""
    cluster = running(2)
    cluster.volunteers["node-a"].mute.add("Release")
    cluster.exit("master")
    cluster.exit("slave-0", Reason.NO_TARGET, detail="no rule")
    assert cluster.state() is JobState.STOPPING
    cluster.volunteers["node-a"].mute.clear()
    cluster.restart()
    back(cluster)
    job = cluster.job().job
    assert (job.state, job.reason, job.detail) == (JobState.FAILED, Reason.NO_TARGET, "slave-0: no rule")


def test_a_job_that_stops_ends_although_its_machine_never_returns() -> None:
    """`stop_timeout_s` counts from the restart."""
    cluster = running(1)
    cluster.call(lambda n: ev.CancelJob(n, "c", 1, "alice"))
    cluster.restart()
    cluster.advance(31)
    assert cluster.state() is JobState.CANCELLED
    assert cluster.task("master").state is TaskState.LOST


def test_jobs_that_wait_keep_their_order() -> None:
    """Also owners' turns: who has slots in use goes last."""
    cluster = running(2, slots=2)
    bob, alice = cluster.submit(2, owner="bob"), cluster.submit(2, owner="alice")
    places = {job: cluster.job(job).queue_place for job in (bob, alice)}
    cluster.restart()
    cluster.do(ev.Tick())
    assert {job: cluster.job(job).queue_place for job in (bob, alice)} == places


def test_numbers_of_jobs_go_on() -> None:
    """No id is given twice."""
    cluster = running(1)
    cluster.restart()
    back(cluster)
    assert cluster.submit(1, source=SOURCE) == 2


def test_command_ids_are_not_given_twice_over_a_restart() -> None:
    """Each epoch has its own."""
    cluster = running(2)
    before = {c.command_id for c in cluster.volunteers["node-a"].received}
    cluster.restart()
    back(cluster)
    cluster.exit("master")
    cluster.exit("slave-0")
    after = [c.command_id for c in cluster.volunteers["node-a"].received if c.epoch == 2]
    assert after
    assert before.isdisjoint(after)


def test_a_fault_without_an_answer_is_sent_again_under_its_old_name() -> None:
    """The volunteer did it already: its first answer counts, nothing is killed twice."""
    cluster = running(2, 1)
    volunteer, ip = cluster.volunteers["node-a"], cluster.address("slave-0")
    volunteer.mute.add("Kill")
    cluster.fault("kill", ip, "same")
    cluster.deliver()
    applied = cluster.now
    volunteer.mute.clear()
    cluster.restart()
    cluster.ns += 1_000_000_000
    cluster.attach(volunteer)
    again = cluster.fault("kill", ip, "same")
    cluster.deliver()
    reply = cluster.replies[again]
    assert (reply.fault_id, reply.processes) == (1, 3)
    assert reply.applied_at == volunteer.stamp(applied.monotonic_ns)
    [line] = cluster.job().faults
    assert line.applied_at_manager is not None
    assert cluster.task("slave-0").state is TaskState.KILLED


def test_a_revival_is_not_done_twice_over_a_restart() -> None:
    """Intent saved, command done, answer lost: generation 2 is started once."""
    cluster = running(2, 1)
    volunteer, ip = cluster.volunteers["node-a"], cluster.address("slave-0")
    cluster.fault("kill", ip)
    cluster.deliver()
    volunteer.mute.add("Revive")
    call = cluster.fault("revive", ip, "r")
    cluster.deliver()
    volunteer.mute.clear()
    cluster.restart()
    back(cluster)
    assert call not in cluster.replies
    assert [start for start in volunteer.starts if start[2:] == ("slave-0", 2)] == [(1, 1, "slave-0", 2)]
    assert (cluster.task("slave-0").state, cluster.task("slave-0").generation) == (TaskState.RUNNING, 2)


def test_a_fault_that_nobody_asks_for_again_is_answered_all_the_same() -> None:
    """While the volunteer is away a joined call waits; after its deadline it is TooLate."""
    cluster = running(2, 1)
    volunteer, ip = cluster.volunteers["node-a"], cluster.address("slave-0")
    volunteer.mute.add("Kill")
    cluster.fault("kill", ip, "same")
    cluster.deliver()
    cluster.restart()
    call = cluster.fault("kill", ip, "same")
    cluster.advance(15)
    assert isinstance(cluster.replies[call], TooLate)


def test_failures_before_the_restart_count() -> None:
    """`max_attempts` bounds them over the life of the job."""
    cluster = running(1, max_attempts=2)
    cluster.exit("master", Reason.LEASE_EXPIRED)
    assert cluster.job().job.attempt == 2
    cluster.restart()
    back(cluster)
    cluster.exit("master", Reason.LEASE_EXPIRED)
    assert cluster.state() is JobState.LOST


def test_the_managers_own_reboot_gives_a_running_job_its_limit_anew() -> None:
    """Stamps of another boot say nothing of how long it ran."""
    cluster = running(1, default_time_limit_s=100.0)
    cluster.ns = 5_000_000_000
    cluster.restart(boot_id="second-boot")
    back(cluster)
    cluster.advance(99)
    assert cluster.state() is JobState.RUNNING
    cluster.advance(2)
    assert cluster.state() is JobState.TIMED_OUT


def test_the_limit_goes_on_counting_over_a_restart() -> None:
    """On the same boot the clock is the same."""
    cluster = running(1, default_time_limit_s=100.0)
    cluster.advance(60)
    cluster.restart()
    back(cluster)
    cluster.advance(41)
    assert cluster.state() is JobState.TIMED_OUT


def test_the_picture_is_the_same_after_a_restart() -> None:
    """An ended job looks as before: tasks, runs, faults, story."""
    cluster = running(2, 1)
    cluster.fault("kill", cluster.address("slave-0"))
    cluster.deliver()
    cluster.finish()
    cluster.deliver()
    before = cluster.job()
    cluster.restart()
    cluster.do(ev.Tick())
    assert cluster.job() == before


def test_records_may_come_in_any_order() -> None:
    """The store need not know what depends on what."""
    cluster = running(2, 1)
    cluster.fault("disconnect", cluster.address("slave-0"))
    rows = list(cluster.store.values())
    pictures = []
    for order in (rows, rows[::-1]):
        machine = Machine.restore(cluster.config, order, cluster.now)
        machine.handle(ev.Tick(), cluster.now)
        machine.validate()
        pictures.append(machine.job(1))
    assert pictures[0] == pictures[1]


def test_records_that_contradict_each_other_are_a_crash() -> None:
    """A task on a volunteer that the store does not have."""
    cluster = running(1)
    rows = [row for key, row in cluster.store.items() if key[0] != "node"]
    with pytest.raises(InvariantError, match="node-a"):
        Machine.restore(cluster.config, rows, cluster.now)


def test_rows_of_old_attempts_do_no_harm() -> None:
    """Only the current attempt's tasks are taken up; the story is of all."""
    cluster = running(1)
    cluster.exit("master", Reason.LEASE_EXPIRED)
    assert {r.attempt for r in cluster.store.values() if isinstance(r, TaskRecord)} == {1, 2}
    before = cluster.job()
    cluster.restart()
    cluster.do(ev.Tick())
    after = cluster.job()
    assert after.tasks == before.tasks
    assert {line.attempt for line in after.story} == {1, 2}
    story = [row for row in cluster.store.values() if isinstance(row, StoryRecord)]
    assert len({row.sequence for row in story}) == len(story)


def test_the_same_events_make_the_same_steps() -> None:
    """No clock, no chance: two machines that hear the same do the same."""
    first = running(3, 1)
    first.fault("kill", first.address("slave-0"))
    first.deliver()
    second = running(3, 1)
    second.fault("kill", second.address("slave-0"))
    second.deliver()
    assert first.steps == second.steps
    assert isinstance(first.now, Stamp)
    assert first.sent(fx.Kill) == second.sent(fx.Kill)
