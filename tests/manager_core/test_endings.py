"""How jobs end: by their exits, by their clients, by the clock; and how slots come back."""

from __future__ import annotations

import math

import pytest
from manager_core.harness import Cluster, running
from syndicate.manager.core import effects as fx
from syndicate.manager.core import events as ev
from syndicate.manager.core import stopping
from syndicate.manager.core.errors import BadRequest, Refused
from syndicate.manager.core.model import AnswerCode, JobState, Outcome, Reason, Result, TaskState


def end_of(cluster: Cluster) -> tuple[JobState, Reason]:
    """State and reason of job 1."""
    cluster.deliver()
    return cluster.job().job.state, cluster.job().job.reason


# ---- without clients --------------------------------------------------------------------------------------


def test_all_exits_zero_is_success() -> None:
    """The job goes on until the last master or slave has ended."""
    cluster = running(2)
    cluster.exit("master")
    assert cluster.state() is JobState.RUNNING
    cluster.exit("slave-0")
    assert end_of(cluster) == (JobState.SUCCEEDED, Reason.EXITED_ZERO)


def test_one_other_exit_is_failure_and_says_whose() -> None:
    """Detail: task, status, recipe."""
    cluster = running(2)
    cluster.exit("slave-0", Reason.EXITED_NONZERO, recipe_status=7)
    cluster.exit("master")
    assert end_of(cluster) == (JobState.FAILED, Reason.EXITED_NONZERO)
    assert cluster.job().job.detail == "slave-0: make exited with status 2 (the recipe's was 7)"


def test_what_a_student_can_mend_is_said_first() -> None:
    """NO_TARGET of a slave explains more than the master's exit status."""
    cluster = running(2)
    cluster.exit("master", Reason.EXITED_NONZERO)
    cluster.exit("slave-0", Reason.NO_TARGET, detail="no rule to make target `slave`")
    assert end_of(cluster) == (JobState.FAILED, Reason.NO_TARGET)
    assert cluster.job().job.detail == "slave-0: no rule to make target `slave`"


def test_memory_of_a_master_is_the_jobs_own_failure() -> None:
    """OUT_OF_MEMORY is no fault of the machine: the job fails, is not requeued, and says so first."""
    cluster = running(2)
    cluster.exit("slave-0", Reason.EXITED_NONZERO)
    cluster.exit("master", Reason.OUT_OF_MEMORY, detail="used more memory than it may")
    assert end_of(cluster) == (JobState.FAILED, Reason.OUT_OF_MEMORY)
    assert cluster.job().job.detail == "master: used more memory than it may"


def test_make_that_ran_nothing_is_failure_although_it_exits_zero() -> None:
    """NOTHING_RUN with the remedy."""
    cluster = running(1)
    cluster.exit("master", Reason.NOTHING_RUN, detail="make said “'master' is up to date” and ran nothing")
    assert end_of(cluster) == (JobState.FAILED, Reason.NOTHING_RUN)


# ---- with clients -----------------------------------------------------------------------------------------


def test_the_last_finish_ends_the_job() -> None:
    """Two clients: the first Finish leaves one, the second stops everything."""
    cluster = running(2, 2)
    assert cluster.finish("client-0").clients_left == 1
    assert cluster.state() is JobState.RUNNING
    assert cluster.finish("client-1").clients_left == 0
    assert cluster.state() is JobState.STOPPING
    assert end_of(cluster) == (JobState.SUCCEEDED, Reason.CLIENT_PASSED)


def test_the_worst_client_decides() -> None:
    """fail > unknown > pass; score and text are the worst client's, metrics are merged, its own first."""
    cluster = running(1, 3)
    cluster.finish("client-0", Result(Outcome.PASS, 1.0, (("operations", 9.0), ("elections", 2.0)), "fine"))
    cluster.finish("client-1", Result(Outcome.FAIL, 0.25, (("operations", 5.0),), "lost 3 writes\nmore"))
    cluster.finish("client-2", Result(Outcome.UNKNOWN))
    assert end_of(cluster) == (JobState.FAILED, Reason.CLIENT_FAILED)
    job = cluster.job().job
    assert job.detail == "client-1: lost 3 writes"
    assert job.result == Result(
        Outcome.FAIL, 0.25, (("operations", 5.0), ("elections", 2.0)), "lost 3 writes\nmore"
    )


def test_of_equal_clients_the_lower_score_counts() -> None:
    """Two passes: the job's score is the worse one."""
    cluster = running(1, 2)
    cluster.finish("client-0", Result(Outcome.PASS, 0.9))
    cluster.finish("client-1", Result(Outcome.PASS, 0.7))
    cluster.deliver()
    result = cluster.job().job.result
    assert result is not None
    assert result.score == 0.7


def test_a_client_that_ends_without_finish_is_unknown() -> None:
    """The detail says how it ended."""
    cluster = running(2, 1)
    cluster.exit("client-0", Reason.EXITED_NONZERO)
    assert end_of(cluster) == (JobState.UNKNOWN, Reason.CLIENT_UNKNOWN)
    assert cluster.job().job.detail == "client-0 ended without calling Finish: make exited with status 2"


def test_a_client_without_its_target_says_so() -> None:
    """UNKNOWN with NO_TARGET: the instructor's Makefile is to be mended."""
    cluster = running(1, 1)
    cluster.exit("client-0", Reason.NO_TARGET, detail="no rule to make target `client`")
    assert end_of(cluster) == (JobState.UNKNOWN, Reason.NO_TARGET)


def test_a_client_that_is_killed_ends_the_wait_for_it() -> None:
    """Its own Kill too: there is nobody to answer, and the job is unknown."""
    cluster = running(1, 1)
    cluster.fault("kill", cluster.address("client-0"))
    assert end_of(cluster) == (JobState.UNKNOWN, Reason.CLIENT_UNKNOWN)
    assert "killed by client-0" in cluster.job().job.detail


def test_exits_of_machines_never_decide_where_there_are_clients() -> None:
    """Master and slave fail, the client goes on, and its pass counts."""
    cluster = running(2, 1)
    cluster.exit("master", Reason.EXITED_NONZERO)
    cluster.exit("slave-0", Reason.SIGNALED)
    assert cluster.state() is JobState.RUNNING
    cluster.finish()
    assert end_of(cluster) == (JobState.SUCCEEDED, Reason.CLIENT_PASSED)


def test_a_finish_counts_although_the_client_exits_badly_after_it() -> None:
    """What a client said stands."""
    cluster = running(1, 2)
    cluster.finish("client-0")
    cluster.exit("client-0", Reason.EXITED_NONZERO)
    cluster.finish("client-1")
    assert end_of(cluster) == (JobState.SUCCEEDED, Reason.CLIENT_PASSED)


def test_a_client_may_finish_before_the_others_are_started() -> None:
    """The job runs first, then it ends."""
    cluster = Cluster()
    volunteer = cluster.volunteer()
    cluster.submit(1, 2)
    while len(cluster.sent(fx.Start)) < 3:
        cluster.deliver_one()
    assert cluster.state() is JobState.PREPARING
    assert cluster.finish("client-1").clients_left == 1
    assert cluster.state() is JobState.PREPARING
    cluster.deliver()
    assert cluster.state() is JobState.RUNNING
    cluster.finish("client-0")
    assert end_of(cluster) == (JobState.SUCCEEDED, Reason.CLIENT_PASSED)
    assert volunteer.held == {}


# ---- Finish -----------------------------------------------------------------------------------------------


def test_a_repeated_finish_gets_the_first_answer() -> None:
    """Also after the job has ended, and after a restart."""
    cluster = running(1, 1)
    first = cluster.finish(request_id="f")
    cluster.deliver()
    assert cluster.finish(request_id="f") == first
    cluster.restart()
    assert cluster.finish(request_id="f").finished_at == first.finished_at


def test_a_second_finish_is_refused() -> None:
    """CLIENT_FINISHED, and the first result stands."""
    cluster = running(1, 2)
    cluster.finish(request_id="f")
    error = cluster.finish(result=Result(Outcome.FAIL), request_id="g")
    assert isinstance(error, Refused)
    assert error.reason == "CLIENT_FINISHED"
    assert cluster.task("client-0").result == Result(Outcome.PASS)


def test_a_finish_that_comes_while_the_job_stops_is_refused() -> None:
    """JOB_NOT_RUNNING: the verdict is known already."""
    cluster = running(1, 1)
    cluster.call(lambda n: ev.CancelJob(n, "c", 1, "alice"))
    error = cluster.finish()
    assert isinstance(error, Refused)
    assert error.reason == "JOB_NOT_RUNNING"


# ---- the clock, and the slots -----------------------------------------------------------------------------


def test_a_job_is_timed_out_when_its_limit_has_passed() -> None:
    """Counted from when all run, not from when it was queued."""
    cluster = running(1, slots=1)
    waiting = cluster.submit(1, time_limit_s=60)
    cluster.advance(500)
    cluster.exit("master")
    cluster.advance(59)
    assert cluster.state(waiting) is JobState.RUNNING
    cluster.advance(2)
    job = cluster.job(waiting).job
    assert (job.state, job.reason) == (JobState.TIMED_OUT, Reason.TIME_LIMIT)
    assert job.detail == "ran longer than its time limit of 1 min"


def test_a_job_ends_when_every_slot_has_been_given_back() -> None:
    """STOPPING until the last Release is answered; then the slots are free."""
    cluster = running(2, slots=2)
    volunteer = cluster.volunteers["node-a"]
    volunteer.mute.add("Release")
    cluster.exit("master")
    cluster.exit("slave-0")
    assert cluster.state() is JobState.STOPPING
    assert cluster.machine.cluster().free_slots == 0
    volunteer.mute.clear()
    cluster.advance(16)
    assert cluster.state() is JobState.SUCCEEDED
    assert {task.state for task in cluster.job().tasks} == {TaskState.RELEASED}
    assert cluster.machine.cluster().free_slots == 2


def test_a_release_that_fails_is_tried_again_under_another_id() -> None:
    """The same id would only get the first answer again."""
    cluster = running(1, slots=1)
    volunteer = cluster.volunteers["node-a"]
    volunteer.refuse = lambda c: (
        (AnswerCode.FAILED, "busy mount") if isinstance(c.action, fx.Release) else None
    )
    cluster.exit("master")
    cluster.advance(16)
    volunteer.refuse = lambda command: None
    cluster.advance(16)
    assert cluster.state() is JobState.SUCCEEDED
    assert len({c.command_id for c in volunteer.received if isinstance(c.action, fx.Release)}) >= 2


def test_a_job_does_not_wait_for_ever_for_a_volunteer_that_is_away() -> None:
    """After `stop_timeout_s` it ends, its task LOST; the slot is locked until the volunteer lets go."""
    cluster = running(1, slots=1, stop_timeout_s=10.0)
    volunteer = cluster.volunteers["node-a"]
    cluster.detach(volunteer)
    cluster.call(lambda n: ev.CancelJob(n, "c", 1, "alice"))
    cluster.advance(9)
    assert cluster.state() is JobState.STOPPING
    cluster.advance(2)
    assert cluster.state() is JobState.CANCELLED
    assert cluster.task("master").state is TaskState.LOST
    cluster.attach(volunteer)
    assert cluster.machine.cluster().free_slots == 0
    cluster.deliver()
    assert cluster.machine.cluster().free_slots == 1
    assert volunteer.held == {}


def test_a_volunteer_that_lives_and_never_releases_keeps_its_slot_and_not_the_job() -> None:
    """Four times `stop_timeout_s`, then the job ends; the slot is used by nobody."""
    cluster = running(1, slots=2, stop_timeout_s=10.0)
    cluster.volunteers["node-a"].mute.add("Release")
    cluster.exit("master")
    cluster.advance(39)
    assert cluster.state() is JobState.STOPPING
    cluster.advance(2)
    assert cluster.state() is JobState.SUCCEEDED
    assert cluster.machine.cluster().free_slots == 1


def test_a_cancellation_overrules_a_requeue() -> None:
    """A job that stops to be queued again is CANCELLED instead; any other verdict stands."""
    cluster = running(2, slots=2)
    volunteer = cluster.volunteers["node-a"]
    volunteer.mute.add("Release")
    cluster.exit("master", Reason.INFRASTRUCTURE)
    assert cluster.job().job.verdict is JobState.QUEUED
    cluster.call(lambda n: ev.CancelJob(n, "c", 1, "alice"))
    volunteer.mute.clear()
    cluster.advance(20)
    assert cluster.state() is JobState.CANCELLED


@pytest.mark.parametrize(
    "result",
    [
        Result(Outcome.PASS, score=math.nan),
        Result(Outcome.PASS, metrics=(("ops", math.nan),)),
        Result(Outcome.PASS, metrics=tuple((f"{n:03}" + "\N{GRINNING FACE}" * 97, 1.0) for n in range(200))),
    ],
)
def test_a_result_that_cannot_be_kept_or_compared_is_refused(result: Result) -> None:
    """BAD_FIELD, and the client may say it better."""
    cluster = running(1, 1)
    error = cluster.finish(result=result)
    assert isinstance(error, BadRequest)
    assert error.metadata["field"].startswith("result.")
    assert isinstance(cluster.finish(request_id="better"), fx.FinishReply)


def test_a_jobs_metrics_are_bounded() -> None:
    """Of many clients with many metrics the first thousand are the job's."""
    cluster = running(1, 3)
    for n in range(3):
        metrics = tuple((f"client-{n}-{m}", 1.0) for m in range(600))
        cluster.finish(f"client-{n}", Result(Outcome.PASS, metrics=metrics))
    cluster.deliver()
    result = cluster.job().job.result
    assert result is not None and len(result.metrics) == 1000


# ---- what is kept -----------------------------------------------------------------------------------------


def test_what_ended_jobs_weigh_in_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the newest everything is at hand, of those before them only what a late call may ask for."""
    monkeypatch.setattr(stopping, "WHOLE_BYTES", 40 * stopping.LINE_BYTES)
    cluster = running(2, 1)
    for _ in range(20):
        cluster.fault("disconnect", cluster.address("slave-0"))
        cluster.deliver()
        cluster.fault("reconnect", cluster.address("slave-0"))
        cluster.deliver()
    first = cluster.finish(result=Result(Outcome.FAIL, text="split brain"))
    caller = cluster.caller()
    cluster.deliver()
    assert cluster.machine.job(1) is None
    assert "not in memory" in cluster.machine.story(1)
    assert len(cluster.job().faults) == 40
    again = cluster.ask(lambda n: ev.FinishRequested(n, "done", caller, Result(Outcome.PASS)))
    assert again == first

    second = cluster.submit(1)
    cluster.deliver()
    cluster.exit("master", job_id=second)
    view = cluster.machine.job(second)
    assert view is not None and [line.event for line in view.story][-1] == "job.ended"


def test_after_a_restart_the_store_tells_of_jobs_that_ended() -> None:
    """What they were is not read back into memory, but a repeat of their last call is known."""
    cluster = running(1, 1)
    first = cluster.finish()
    caller = cluster.caller()
    cluster.deliver()
    assert cluster.machine.job(1) is not None
    cluster.restart()
    assert cluster.machine.job(1) is None
    again = cluster.ask(lambda n: ev.FinishRequested(n, "done", caller, Result(Outcome.PASS)))
    assert again == first
