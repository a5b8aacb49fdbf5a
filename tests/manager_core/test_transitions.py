"""The two tables: every row is used, nothing else is let through."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from manager_core.harness import Cluster, running
from syndicate.manager.core import events as ev
from syndicate.manager.core import world as world_module
from syndicate.manager.core.errors import InvariantError
from syndicate.manager.core.model import AnswerCode, JobState, Outcome, Reason, Result, TaskExit, TaskState
from syndicate.manager.core.transitions import (
    ACTIVE_JOB_STATES,
    FINAL_TASK_STATES,
    JOB_TRANSITIONS,
    TASK_TRANSITIONS,
    TERMINAL_JOB_STATES,
    JobCause,
    TaskCause,
    job_after,
    task_after,
)

J, JC, T, TC = JobState, JobCause, TaskState, TaskCause


@pytest.mark.parametrize("state", JobState)
@pytest.mark.parametrize("cause", JobCause)
def test_a_job_follows_the_table_and_nothing_else(state: JobState, cause: JobCause) -> None:
    """A pair leads where the table says, or raises InvariantError."""
    if (state, cause) in JOB_TRANSITIONS:
        assert job_after(state, cause) is JOB_TRANSITIONS[state, cause]
    else:
        with pytest.raises(InvariantError, match=state.name):
            job_after(state, cause)


@pytest.mark.parametrize("state", TaskState)
@pytest.mark.parametrize("cause", TaskCause)
def test_a_task_follows_the_table_and_nothing_else(state: TaskState, cause: TaskCause) -> None:
    """A pair leads where the table says, or raises InvariantError."""
    if (state, cause) in TASK_TRANSITIONS:
        assert task_after(state, cause) is TASK_TRANSITIONS[state, cause]
    else:
        with pytest.raises(InvariantError, match=cause.name):
            task_after(state, cause)


def test_terminal_states_are_final() -> None:
    """No row leads out of a terminal state, and every other state leads on."""
    assert {state for state, _ in JOB_TRANSITIONS} == set(JobState) - TERMINAL_JOB_STATES
    assert {state for state, _ in TASK_TRANSITIONS} == set(TaskState) - FINAL_TASK_STATES
    assert {J.QUEUED} | ACTIVE_JOB_STATES | TERMINAL_JOB_STATES == set(JobState)


# ---- every row of the job's table comes about -------------------------------------------------------------


def cancelled_in_the_queue() -> Cluster:
    """QUEUED → CANCELLED."""
    cluster = Cluster()
    cluster.volunteer(slots=2)
    cluster.submit(2)
    waiting = cluster.submit(2)
    cluster.call(lambda n: ev.CancelJob(n, "c", waiting, "alice"))
    return cluster


def refused_then_cancelled() -> Cluster:
    """RESERVING → QUEUED → RESERVING → STOPPING → CANCELLED."""
    cluster = Cluster()
    volunteer = cluster.volunteer()
    volunteer.refuse = lambda command: (AnswerCode.BUSY, "")
    cluster.submit(2)
    cluster.deliver_one()
    volunteer.refuse = lambda command: None
    cluster.advance(1, deliver=False)
    cluster.call(lambda n: ev.CancelJob(n, "c", 1, "alice"))
    cluster.deliver()
    return cluster


def succeeded() -> Cluster:
    """RUNNING → STOPPING → SUCCEEDED."""
    cluster = running(1)
    cluster.exit("master")
    return cluster


def failed() -> Cluster:
    """RUNNING → STOPPING → FAILED."""
    cluster = running(1)
    cluster.exit("master", Reason.EXITED_NONZERO)
    return cluster


def unknown() -> Cluster:
    """RUNNING → STOPPING → UNKNOWN."""
    cluster = running(1, 1)
    cluster.finish(result=Result(Outcome.UNKNOWN))
    cluster.deliver()
    return cluster


def timed_out() -> Cluster:
    """RUNNING → STOPPING → TIMED_OUT."""
    cluster = running(1)
    cluster.advance(601)
    return cluster


def lost_after_a_requeue() -> Cluster:
    """PREPARING → STOPPING → QUEUED, and at the last attempt → LOST."""
    cluster = Cluster(max_attempts=2)
    cluster.volunteer().refuse = lambda c: (
        (AnswerCode.FAILED, "no space") if type(c.action).__name__ == "Prepare" else None
    )
    cluster.submit(1)
    cluster.advance(30)
    return cluster


JOB_SCENARIOS: list[tuple[Callable[[], Cluster], JobState]] = [
    (cancelled_in_the_queue, J.CANCELLED),
    (refused_then_cancelled, J.CANCELLED),
    (succeeded, J.SUCCEEDED),
    (failed, J.FAILED),
    (unknown, J.UNKNOWN),
    (timed_out, J.TIMED_OUT),
    (lost_after_a_requeue, J.LOST),
]


def test_every_row_of_the_jobs_table_comes_about(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scenarios together take each row of the job's table, and end as they should."""
    seen: set[tuple[JobState, JobCause]] = set()

    def recording(state: JobState, cause: JobCause) -> JobState:
        seen.add((state, cause))
        return job_after(state, cause)

    monkeypatch.setattr(world_module, "job_after", recording)
    for scenario, end in JOB_SCENARIOS:
        cluster = scenario()
        assert end in {view.job.state for view in cluster.jobs()}, scenario.__doc__
    assert seen == set(JOB_TRANSITIONS)


# ---- every row of the task's table comes about ------------------------------------------------------------


def task_in(state: TaskState) -> Cluster:
    """A cluster where some task of job 1 stands in a state."""
    if state is T.LOST or state is T.RELEASED:
        raise ValueError(state)
    cluster = Cluster()
    first, second = cluster.volunteer("node-a", 2), cluster.volunteer("node-b", 2)
    mute = {
        T.RESERVING: ("Reserve", first, second),
        T.RESERVED: ("Reserve", second),
        T.PREPARING: ("Prepare", first, second),
        T.PREPARED: ("Prepare", second),
        T.STARTING: ("Start", first, second),
    }.get(state, ("",))
    for volunteer in mute[1:]:
        volunteer.mute.add(mute[0])  # type: ignore[union-attr,arg-type]
    cluster.submit(2, 1)
    cluster.deliver()
    if state is T.KILLED:
        cluster.fault("kill", cluster.address("slave-0"))
        cluster.deliver()
    if state is T.EXITED:
        cluster.exit("slave-0")
    assert state in {task.state for task in cluster.job().tasks}
    return cluster


def revived_and_overtaken() -> None:
    """KILLED ↔ EXITED, and both back to RUNNING."""
    cluster = task_in(T.KILLED)
    for _ in range(2):
        cluster.fault("revive", cluster.address("slave-0"))
        cluster.deliver()
        cluster.exit("slave-0")
    # A kill that found nothing, then the end that was under way; an end by signal, then its kill.
    for processes, reason in ((0, Reason.EXITED_ZERO), (2, Reason.SIGNALED)):
        cluster = running(2, 1)
        volunteer, held = cluster.holder("slave-0")
        cluster.fault("kill", held.address)
        (_, command) = cluster.inbox.pop()
        answer = ev.AnswerReceived(
            volunteer.session, command.command_id, AnswerCode.DONE, processes=processes
        )
        if processes:
            cluster.tell_exit(volunteer, held.ref, TaskExit(reason, 137))
            cluster.do(answer)
            assert cluster.task("slave-0").state is T.KILLED
        else:
            cluster.do(answer)
            cluster.tell_exit(volunteer, held.ref, TaskExit(reason))
            assert cluster.task("slave-0").state is T.EXITED


def test_every_row_of_the_tasks_table_comes_about(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks are released from, and lost in, each of their states; the other rows come on the way."""
    seen: set[tuple[TaskState, TaskCause]] = set()

    def recording(state: TaskState, cause: TaskCause) -> TaskState:
        seen.add((state, cause))
        return task_after(state, cause)

    monkeypatch.setattr(world_module, "task_after", recording)
    for state in set(TaskState) - FINAL_TASK_STATES:
        released, lost = task_in(state), task_in(state)
        for cluster in (released, lost):
            if cluster is lost:
                for volunteer in cluster.volunteers.values():
                    volunteer.mute.add("Release")
            cluster.call(lambda n: ev.CancelJob(n, "c", 1, "alice"))
            cluster.deliver()
            cluster.advance(60, heartbeats=cluster is released)
            assert cluster.state() is J.CANCELLED
    revived_and_overtaken()
    assert seen == set(TASK_TRANSITIONS)
