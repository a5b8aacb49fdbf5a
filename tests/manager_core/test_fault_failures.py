"""Faults that fail, come late, or cross with the ends of tasks."""

from __future__ import annotations

import pytest
from manager_core.faults import done, done_at_all, fault_commands, refused
from manager_core.harness import Cluster, running
from syndicate.manager.core import events as ev
from syndicate.manager.core.errors import (
    Away,
    Ended,
    FaultFailed,
    TooLate,
)
from syndicate.manager.core.model import AnswerCode, FaultKind, JobState, Reason, TaskExit, TaskState

# ---- when things go wrong ---------------------------------------------------------------------------------


def test_a_volunteer_that_is_away_is_said_at_once_and_nothing_is_kept() -> None:
    """VOLUNTEER_AWAY; the same request works when the volunteer is back."""
    cluster = running(2, 1)
    volunteer, ip = cluster.volunteers["node-a"], cluster.address("slave-0")
    cluster.detach(volunteer)
    error = refused(cluster, cluster.fault("kill", ip, "same"))
    assert isinstance(error, Away)
    assert error.reason == "VOLUNTEER_AWAY"
    assert cluster.job().faults == ()
    cluster.attach(volunteer)
    assert done(cluster, cluster.fault("kill", ip, "same")).processes == 3


def test_a_late_answer_is_too_late_for_the_caller_and_still_recorded() -> None:
    """After `command_timeout_s` the caller hears TooLate; a repeat joins, and gets the answer later."""
    cluster = running(2, 1)
    volunteer, ip = cluster.volunteers["node-a"], cluster.address("slave-0")
    volunteer.mute.add("Kill")
    first = cluster.fault("kill", ip, "same")
    behind = cluster.fault("revive", ip)
    cluster.advance(15)
    assert isinstance(refused(cluster, first), TooLate)
    assert isinstance(refused(cluster, behind), TooLate)
    [line] = cluster.job().faults
    assert (line.kind, line.applied_at) == (FaultKind.KILL, None)
    cluster.advance(1)
    again = cluster.fault("kill", ip, "same")
    volunteer.mute.clear()
    cluster.advance(14)
    assert done(cluster, again).processes == 3
    assert cluster.job().faults[0].applied_at is not None
    assert len({command.command_id for command in fault_commands(cluster)}) == 1


def test_an_unanswered_fault_is_sent_again_after_a_reconnect() -> None:
    """Under the same id; the volunteer's first answer counts."""
    cluster = running(2, 1)
    volunteer = cluster.volunteers["node-a"]
    volunteer.mute.add("Kill")
    call = cluster.fault("kill", cluster.address("slave-0"))
    cluster.deliver()
    cluster.detach(volunteer)
    volunteer.mute.clear()
    cluster.attach(volunteer)
    assert done(cluster, call).processes == 3


def test_a_fault_that_the_volunteer_cannot_apply_is_recorded_as_failed() -> None:
    """FAULT_FAILED with its words; a repeat gets the same, the task is as it was."""
    cluster = running(2, 1)
    ip = cluster.address("slave-0")
    cluster.volunteers["node-a"].refuse = lambda command: (AnswerCode.FAILED, "no such set")
    call = cluster.fault("disconnect", ip, "same")
    cluster.deliver()
    error = refused(cluster, call)
    assert isinstance(error, FaultFailed)
    assert (error.reason, error.detail) == ("FAULT_FAILED", "no such set")
    assert cluster.job().faults[0].error == "no such set"
    assert refused(cluster, cluster.fault("disconnect", ip, "same")) is error
    assert not cluster.is_cut("slave-0")


def failed_but_applied(cluster: Cluster, kind: str, ip: str) -> int:
    """A fault that the volunteer does, and answers with a failure; the call."""
    call = cluster.fault(kind, ip)
    session, command = cluster.inbox.pop()
    cluster.volunteers["node-a"].carry_out(command, cluster.ns)
    cluster.do(ev.AnswerReceived(session, command.command_id, AnswerCode.FAILED, detail="too slow"))
    return call


@pytest.mark.parametrize("restarted", [False, True])
def test_a_cut_that_failed_and_holds_all_the_same_can_be_taken_back(restarted: bool) -> None:
    """Reconnect is not "already so" before a volunteer has said so; also after a restart of the manager."""
    cluster = running(2, 1)
    _, held = cluster.holder("slave-0")
    failed_but_applied(cluster, "disconnect", held.address)
    assert held.cut != ()
    if restarted:
        cluster.restart()
        cluster.attach(cluster.volunteers["node-a"])

    reply = done(cluster, cluster.fault("reconnect", held.address))

    assert (held.cut, reply.already) == ((), False)
    assert cluster.replies[cluster.fault("reconnect", held.address)].already


@pytest.mark.parametrize("restarted", [False, True])
def test_a_cut_that_failed_and_holds_all_the_same_can_be_healed_by_its_call(restarted: bool) -> None:
    """The error names the call; a heal of it settles that member, once, and leaves what others did."""
    cluster = running(3, 1)
    volunteer, (_, held) = cluster.volunteers["node-a"], cluster.holder("slave-0")
    done(cluster, cluster.fault("pause", held.address))
    done(cluster, cluster.fault("disconnect", cluster.address("slave-1")))
    error = refused(cluster, failed_but_applied(cluster, "disconnect", held.address))
    assert held.cut != ()
    if restarted:
        cluster.restart()
        cluster.attach(volunteer)

    [reply] = done_at_all(cluster, cluster.heal(int(error.metadata["call_id"])))

    assert not reply.already
    assert (held.cut, held.paused, cluster.holder("slave-1")[1].cut == ()) == ((), True, False)
    assert done_at_all(cluster, cluster.heal(int(error.metadata["call_id"]))) == ()


@pytest.mark.parametrize("restarted", [False, True])
def test_a_revival_that_failed_and_runs_all_the_same_can_be_killed(restarted: bool) -> None:
    """Kill goes to the generation that was tried last."""
    cluster = running(2, 1)
    _, held = cluster.holder("slave-0")
    done(cluster, cluster.fault("kill", held.address))
    failed_but_applied(cluster, "revive", held.address)
    if restarted:
        cluster.restart()
        cluster.attach(cluster.volunteers["node-a"])

    reply = done(cluster, cluster.fault("kill", held.address))

    assert (reply.already, reply.processes, reply.generation) == (False, 3, 2)
    assert held.state is TaskState.KILLED
    assert cluster.replies[cluster.fault("kill", held.address)].already


def test_a_revival_that_failed_does_not_use_its_generation_again() -> None:
    """The next revival is generation 3."""
    cluster = running(2, 1)
    volunteer, ip = cluster.volunteers["node-a"], cluster.address("slave-0")
    done(cluster, cluster.fault("kill", ip))
    volunteer.refuse = lambda command: (AnswerCode.FAILED, "no")
    cluster.fault("revive", ip)
    cluster.deliver()
    assert cluster.task("slave-0").state is TaskState.KILLED
    volunteer.refuse = lambda command: None
    assert done(cluster, cluster.fault("revive", ip)).generation == 3


def test_callers_hear_when_the_attempt_ends_meanwhile() -> None:
    """ATTEMPT_ENDED to everybody who waits, and the open line is closed."""
    cluster = running(2, 2)
    ip = cluster.address("slave-0")
    calls = [cluster.fault("kill", ip), cluster.fault("revive", ip)]
    cluster.call(lambda n: ev.CancelJob(n, "c", 1, "alice"))
    assert all(isinstance(refused(cluster, call), Ended) for call in calls)
    assert cluster.job().faults[0].error != ""
    cluster.deliver()
    assert cluster.state() is JobState.CANCELLED


def test_a_task_that_the_volunteer_does_not_know_costs_the_attempt() -> None:
    """UNKNOWN_TASK: the machine has lost it."""
    cluster = running(2, 1)
    volunteer, held = cluster.holder("slave-0")
    slot = next(n for n, h in volunteer.held.items() if h is held)
    del volunteer.held[slot]
    cluster.fault("kill", held.address)
    cluster.deliver()
    assert (cluster.state(), cluster.job().job.attempt) == (JobState.RUNNING, 2)


def test_a_fault_on_a_member_whose_machine_is_gone_has_failed() -> None:
    """A finished client is lost, the job goes on: what is under way there fails, a Kill is already so."""
    cluster = Cluster()
    volunteers = {name: cluster.volunteer(name, 1) for name in ("node-a", "node-b", "node-c")}
    cluster.submit(1, 2)
    cluster.deliver()
    cluster.finish("client-1")
    gone, ip, caller = (
        volunteers[cluster.task("client-1").volunteer_id],
        cluster.address("client-1"),
        cluster.caller(),
    )
    call = cluster.fault("disconnect", ip, caller=caller)
    cluster.detach(gone)
    gone.reboot()
    cluster.attach(gone)
    assert isinstance(refused(cluster, call), FaultFailed)
    assert cluster.job().faults[0].error == f"{gone.name} was rebooted"
    assert cluster.replies[cluster.fault("kill", ip, caller=caller)].already
    assert isinstance(refused(cluster, cluster.fault("revive", ip, caller=caller)), FaultFailed)
    assert cluster.state() is JobState.RUNNING


# ---- kills and exits in either order ----------------------------------------------------------------------


def killed_answer(cluster: Cluster, processes: int) -> None:
    """The Kill that is under way is answered."""
    session, command = cluster.inbox.pop()
    cluster.do(ev.AnswerReceived(session, command.command_id, AnswerCode.DONE, processes=processes))


@pytest.mark.parametrize("event_first", [True, False])
@pytest.mark.parametrize(
    ("reason", "processes", "state"),
    [
        (Reason.KILLED_BY_FAULT, 3, TaskState.KILLED),
        (Reason.SIGNALED, 3, TaskState.KILLED),
        (Reason.EXITED_ZERO, 0, TaskState.EXITED),
        (Reason.EXITED_NONZERO, 0, TaskState.EXITED),
        (Reason.SIGNALED, 0, TaskState.EXITED),
    ],
)
def test_a_kill_and_an_exit_come_to_the_same_in_either_order(
    event_first: bool, reason: Reason, processes: int, state: TaskState
) -> None:
    """What the kill found decides whether the task was killed or had ended by itself."""
    cluster = running(2, 1)
    volunteer, held = cluster.holder("slave-0")
    call = cluster.fault("kill", held.address)
    if event_first:
        cluster.tell_exit(volunteer, held.ref, TaskExit(reason))
        killed_answer(cluster, processes)
    else:
        killed_answer(cluster, processes)
        cluster.tell_exit(volunteer, held.ref, TaskExit(reason))
    assert cluster.task("slave-0").state is state
    assert cluster.replies[call].already is (processes == 0)
    [run] = [run for run in cluster.job().runs if run.task == "slave-0"]
    assert run.exit == cluster.task("slave-0").exit


def test_an_exit_of_the_generation_before_changes_nothing() -> None:
    """Told again after a revival, an old end is acknowledged and forgotten."""
    cluster = running(2, 1)
    volunteer, held = cluster.holder("slave-0")
    old = held.ref
    done(cluster, cluster.fault("kill", held.address))
    done(cluster, cluster.fault("revive", held.address))
    cluster.tell_exit(volunteer, old, TaskExit(Reason.KILLED_BY_FAULT))
    assert cluster.task("slave-0").state is TaskState.RUNNING


def test_a_revived_task_may_end_before_its_revival_is_answered() -> None:
    """The end proves the revival; its answer still completes the ledger's line."""
    cluster = running(2, 1)
    volunteer, held = cluster.holder("slave-0")
    done(cluster, cluster.fault("kill", held.address))
    call = cluster.fault("revive", held.address)
    [(_, command)] = cluster.inbox
    cluster.tell_exit(volunteer, command.ref, TaskExit(Reason.EXITED_ZERO))
    assert (cluster.task("slave-0").state, cluster.task("slave-0").generation) == (TaskState.EXITED, 2)
    assert done(cluster, call).generation == 2
    assert cluster.task("slave-0").state is TaskState.EXITED
