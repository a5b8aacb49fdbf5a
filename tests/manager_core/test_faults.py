"""Chaos: who may call, what each fault does, in which order, and what becomes of late answers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from manager_core.harness import Cluster, running
from syndicate.manager.core import effects as fx
from syndicate.manager.core import events as ev
from syndicate.manager.core import ledger
from syndicate.manager.core.errors import (
    Away,
    BadRequest,
    CoreError,
    Ended,
    Exhausted,
    FaultFailed,
    NotAllowed,
    NotFound,
    Refused,
    TooLate,
)
from syndicate.manager.core.model import AnswerCode, FaultKind, JobState, Reason, TaskExit, TaskState

FAULTS = (fx.Kill, fx.Revive, fx.SetNetwork)


def done(cluster: Cluster, call: int) -> fx.FaultReply:
    """The answer to a fault that holds, once everything under way is delivered."""
    cluster.deliver()
    reply = cluster.replies[call]
    assert isinstance(reply, fx.FaultReply), repr(reply)
    return reply


def refused(cluster: Cluster, call: int) -> CoreError:
    """The error of a fault that was answered."""
    reply = cluster.replies[call]
    assert isinstance(reply, CoreError)
    return reply


def fault_commands(cluster: Cluster) -> list[fx.Command]:
    """The commands of faults that were sent, in order."""
    sends = [e.command for step in cluster.steps for e in step.effects if isinstance(e, fx.Send)]
    return [command for command in sends if isinstance(command.action, FAULTS)]


# ---- who may call, about whom -----------------------------------------------------------------------------


def test_only_a_client_that_the_volunteer_holds_may_call() -> None:
    """Not a slave, not through another volunteer, not of another attempt, cluster or job."""
    cluster = running(2, 1)
    caller, ip = cluster.caller(), cluster.address("slave-0")
    wrong = [
        cluster.caller("slave-0"),
        replace(caller, volunteer_id="node-x"),
        *[
            replace(caller, ref=replace(caller.ref, **change))
            for change in ({"attempt": 2}, {"job_id": 9}, {"cluster_id": "other"}, {"task": "client-7"})
        ],
    ]
    for one in wrong:
        error = refused(cluster, cluster.fault("kill", ip, caller=one))
        assert isinstance(error, NotAllowed)
        assert error.reason == "NOT_A_CLIENT"


@pytest.mark.parametrize(
    ("ip", "error", "reason"),
    [
        ("slave-0", BadRequest, "NOT_AN_ADDRESS"),
        ("", BadRequest, "NOT_AN_ADDRESS"),
        ("fe80::1", BadRequest, "NOT_AN_ADDRESS"),
        ("10.77.0", BadRequest, "NOT_AN_ADDRESS"),
        ("192.0.2.1", NotFound, "NO_SUCH_MEMBER"),
    ],
)
def test_an_address_is_an_ipv4_address_of_the_job(ip: str, error: type[CoreError], reason: str) -> None:
    """Malformed and foreign addresses are told apart."""
    cluster = running(2, 1)
    got = refused(cluster, cluster.fault("disconnect", ip))
    assert isinstance(got, error)
    assert got.reason == reason


def test_a_member_of_another_job_is_no_member() -> None:
    """NO_SUCH_MEMBER also for an address that is in use next door."""
    cluster = running(2, 1)
    other = cluster.submit(2)
    cluster.deliver()
    error = refused(cluster, cluster.fault("kill", cluster.address("master", other)))
    assert error.reason == "NO_SUCH_MEMBER"


def test_a_job_that_stops_takes_no_fault() -> None:
    """JOB_NOT_RUNNING, while it stops and after."""
    cluster = running(2, 1)
    ip = cluster.address("slave-0")
    cluster.call(lambda n: ev.CancelJob(n, "c", 1, "alice"))
    assert refused(cluster, cluster.fault("kill", ip)).reason == "JOB_NOT_RUNNING"
    cluster.deliver()
    assert refused(cluster, cluster.fault("kill", ip)).reason == "JOB_NOT_RUNNING"


def test_a_client_that_has_finished_may_only_look() -> None:
    """CLIENT_FINISHED for faults; the members are still listed."""
    cluster = running(2, 2)
    cluster.finish("client-0")
    assert refused(cluster, cluster.fault("kill", cluster.address("slave-0"))).reason == "CLIENT_FINISHED"
    members = cluster.ask(lambda n: ev.MembersRequested(n, cluster.caller()))
    assert [m.member.task for m in members.members] == ["master", "slave-0", "client-0", "client-1"]


def test_a_client_may_call_before_the_others_are_started() -> None:
    """Its call proves that it runs, even before its Start is answered."""
    cluster = Cluster()
    cluster.volunteer().mute.add("Start")
    cluster.submit(1, 2)
    for name in ("master", ""):
        cluster.deliver()
        starts = [c for c in cluster.sent(fx.Start) if c.ref.task == name]
        for start in starts:
            session = cluster.volunteers["node-a"].session
            cluster.do(ev.AnswerReceived(session, start.command_id, AnswerCode.DONE))
    assert cluster.task("client-0").state is TaskState.STARTING
    call = cluster.fault("disconnect", cluster.address("master"))
    assert not done(cluster, call).already
    prepared = Cluster()
    prepared.volunteer().mute.add("Prepare")
    prepared.submit(1, 1)
    prepared.deliver()
    call = prepared.fault("kill", prepared.address("master"))
    assert refused(prepared, call).reason == "JOB_NOT_RUNNING"


# ---- what each does ---------------------------------------------------------------------------------------


def test_kill_answers_when_no_process_is_left() -> None:
    """The reply has the volunteer's stamp and the number of processes; the task is KILLED."""
    cluster = running(2, 1)
    volunteer = cluster.volunteers["node-a"]
    cluster.heartbeat(volunteer)
    cluster.ns += 1000
    call = cluster.fault("kill", cluster.address("slave-0"))
    assert call not in cluster.replies
    reply = done(cluster, call)
    assert (reply.already, reply.processes, reply.applied_at) == (False, 3, volunteer.stamp(cluster.ns))
    assert reply.clock is not None
    task = cluster.task("slave-0")
    assert task.exit is not None
    assert (task.state, task.exit.reason) == (TaskState.KILLED, Reason.KILLED_BY_FAULT)


def test_the_intent_is_saved_before_anything_is_sent() -> None:
    """The step that sends the command saves the line, without applied-at; the answer completes it."""
    cluster = running(2, 1)
    call = cluster.fault("kill", cluster.address("slave-0"))
    [intent] = [r for r in cluster.steps[-1].saves if r in cluster.job().faults]
    assert intent.applied_at is None  # type: ignore[union-attr]
    assert len(fault_commands(cluster)) == 1
    reply = done(cluster, call)
    [line] = cluster.job().faults
    assert (line.fault_id, line.kind, line.task) == (reply.fault_id, FaultKind.KILL, "slave-0")
    assert (line.requested_by, line.processes, line.error) == ("client-0", 3, "")
    assert line.applied_at == reply.applied_at
    assert line.applied_at_manager is not None
    assert line.requested_at.monotonic_ns <= line.applied_at_manager.monotonic_ns <= cluster.ns


def test_kill_of_a_dead_task_is_already_so() -> None:
    """No command, no line in the ledger, no stamp: since when it holds is not known."""
    cluster = running(2, 1)
    cluster.exit("slave-0")
    reply = cluster.replies[cluster.fault("kill", cluster.address("slave-0"))]
    assert (reply.already, reply.fault_id, reply.applied_at) == (True, 0, None)
    assert fault_commands(cluster) == []
    assert cluster.job().faults == ()


@pytest.mark.parametrize("end", ["killed", "exited"])
def test_revive_starts_the_next_generation(end: str) -> None:
    """A dead task runs again as generation 2, with its disk unless told otherwise."""
    cluster = running(2, 1)
    ip = cluster.address("slave-0")
    if end == "killed":
        done(cluster, cluster.fault("kill", ip))
    else:
        cluster.exit("slave-0", Reason.EXITED_NONZERO)
    reply = done(cluster, cluster.fault("revive", ip, with_disk=False))
    assert (reply.generation, reply.already) == (2, False)
    task = cluster.task("slave-0")
    assert (task.state, task.generation, task.exit) == (TaskState.RUNNING, 2, None)
    command = fault_commands(cluster)[-1]
    assert (command.ref.generation, command.action) == (2, fx.Revive(False))
    assert [run.generation for run in cluster.job().runs if run.task == "slave-0"] == [1, 2]


def test_revive_of_a_live_task_is_already_so_with_disk_and_refused_without() -> None:
    """TASK_ALIVE."""
    cluster = running(2, 1)
    ip = cluster.address("slave-0")
    assert cluster.replies[cluster.fault("revive", ip)].already
    error = refused(cluster, cluster.fault("revive", ip, with_disk=False))
    assert isinstance(error, Refused)
    assert error.reason == "TASK_ALIVE"


def test_disconnect_cuts_from_all_masters_and_slaves() -> None:
    """All but its own address; clients are not cut from. Reconnect clears the set."""
    cluster = running(3, 1)
    ip = cluster.address("slave-0")
    done(cluster, cluster.fault("disconnect", ip))
    cut = {cluster.address("master"), cluster.address("slave-1")}
    _, held = cluster.holder("slave-0")
    assert (set(held.cut), cluster.task("slave-0").disconnected) == (cut, True)
    assert cluster.replies[cluster.fault("disconnect", ip)].already
    done(cluster, cluster.fault("reconnect", ip))
    assert (held.cut, cluster.task("slave-0").disconnected) == ((), False)
    assert cluster.replies[cluster.fault("reconnect", ip)].already


def test_a_client_is_cut_from_masters_and_slaves() -> None:
    """Disconnect of a client's address."""
    cluster = running(2, 2)
    done(cluster, cluster.fault("disconnect", cluster.address("client-1")))
    _, held = cluster.holder("client-1")
    assert set(held.cut) == {cluster.address("master"), cluster.address("slave-0")}


def test_a_cut_outlasts_kill_and_revive() -> None:
    """The task is still disconnected in its next generation, and healing goes to that generation."""
    cluster = running(2, 1)
    ip = cluster.address("slave-0")
    for kind in ("disconnect", "kill", "revive"):
        done(cluster, cluster.fault(kind, ip))
    assert cluster.task("slave-0").disconnected
    done(cluster, cluster.fault("reconnect", ip))
    assert fault_commands(cluster)[-1].ref.generation == 2


def test_the_end_of_the_job_heals_and_says_so() -> None:
    """A cut that is in force when the job ends is taken back by `job end`."""
    cluster = running(2, 1)
    done(cluster, cluster.fault("disconnect", cluster.address("slave-0")))
    cluster.finish()
    cluster.deliver()
    last = cluster.job().faults[-1]
    assert (last.kind, last.task, last.requested_by) == (FaultKind.RECONNECT, "slave-0", "job end")
    assert last.applied_at is not None


# ---- order ------------------------------------------------------------------------------------------------


def test_faults_on_one_target_are_done_in_the_order_of_their_calls() -> None:
    """Kill and Revive issued together: the second command goes out when the first is answered."""
    cluster = running(2, 1)
    ip = cluster.address("slave-0")
    kill, revive = cluster.fault("kill", ip), cluster.fault("revive", ip)
    assert [type(command.action) for command in fault_commands(cluster)] == [fx.Kill]
    assert (done(cluster, kill).already, done(cluster, revive).generation) == (False, 2)
    assert [line.kind for line in cluster.job().faults] == [FaultKind.KILL, FaultKind.REVIVE]


def test_faults_on_different_targets_do_not_wait_for_each_other() -> None:
    """Both commands are out before either is answered."""
    cluster = running(3, 1)
    for name in ("slave-0", "slave-1"):
        cluster.fault("kill", cluster.address(name))
    assert len(fault_commands(cluster)) == 2


def test_the_number_of_waiting_faults_is_bounded() -> None:
    """TOO_MANY_FAULTS past the bound."""
    cluster = running(2, 1)
    ip = cluster.address("slave-0")
    for _ in range(ledger.MAX_WAITING):
        cluster.fault("disconnect", ip)
    error = refused(cluster, cluster.fault("disconnect", ip))
    assert isinstance(error, Exhausted)
    cluster.deliver()
    assert len(cluster.job().faults) == 1


# ---- repeats ----------------------------------------------------------------------------------------------


def test_a_repeat_while_it_is_under_way_waits_for_the_same_answer() -> None:
    """One command, two replies."""
    cluster = running(2, 1)
    ip = cluster.address("slave-0")
    first, again = cluster.fault("kill", ip, "same"), cluster.fault("kill", ip, "same")
    assert done(cluster, first) == done(cluster, again)
    assert len(fault_commands(cluster)) == 1


@pytest.mark.parametrize("delivered", [False, True])
def test_a_request_id_that_comes_again_for_something_else_is_refused(delivered: bool) -> None:
    """BAD_FIELD for another fault, another member, another disk; under way or done, also after a restart."""
    cluster = running(3, 1)
    ip, other = cluster.address("slave-0"), cluster.address("slave-1")
    if delivered:
        cluster.fault("kill", ip)
        cluster.deliver()
        cluster.fault("revive", ip, "same")
        cluster.deliver()
        cluster.restart()
    else:
        cluster.fault("kill", ip)
        cluster.fault("revive", ip, "same")
    for kind, address, fields in (
        ("kill", ip, {}),
        ("revive", other, {}),
        ("revive", ip, {"with_disk": False}),
    ):
        error = refused(cluster, cluster.fault(kind, address, "same", **fields))
        assert isinstance(error, BadRequest)
        assert (error.reason, error.metadata["field"]) == ("BAD_FIELD", "request_id")


def test_a_volunteer_that_gives_no_stamp_leaves_it_open_when_it_held() -> None:
    """The answer has no stamp; the ledger has the manager's."""
    cluster = running(2, 1)
    call = cluster.fault("kill", cluster.address("slave-0"))
    [(session, command)] = cluster.inbox
    cluster.inbox.clear()
    cluster.do(ev.AnswerReceived(session, command.command_id, AnswerCode.DONE, processes=1))
    assert cluster.replies[call].applied_at is None
    assert cluster.job().faults[0].applied_at == cluster.now


def test_a_task_is_not_said_to_live_by_who_cannot_know() -> None:
    """Revive of a task that ran when its volunteer went away: VOLUNTEER_AWAY."""
    cluster = running(2, 1)
    ip, caller = cluster.address("slave-0"), cluster.caller()
    cluster.detach(cluster.volunteers["node-a"])
    error = refused(cluster, cluster.fault("revive", ip, caller=caller))
    assert isinstance(error, Away)
    assert error.reason == "VOLUNTEER_AWAY"


def test_the_intent_of_a_manager_before_a_reboot_bounds_when_it_held() -> None:
    """Its clock is gone; the calendar tells how long ago it may have been."""
    cluster = running(2, 1)
    cluster.fault("kill", cluster.address("slave-0"))
    asked = cluster.ns
    cluster.ns += 8 * 10**9
    cluster.restart(boot_id="manager-boot-2")
    cluster.ns += 2 * 10**9
    cluster.attach(cluster.volunteers["node-a"])
    cluster.deliver()
    [line] = cluster.job().faults
    assert line.applied_at_manager is not None
    low = line.applied_at_manager.monotonic_ns - line.applied_error_ns
    assert (low <= asked, line.applied_error_ns) == (True, 5 * 10**9)


def test_a_repeat_of_what_is_done_gets_the_same_answer() -> None:
    """Also after a restart of the manager, apart from the clock, and even when the job stops meanwhile."""
    cluster = running(2, 1)
    ip = cluster.address("slave-0")
    first = done(cluster, cluster.fault("kill", ip, "same"))
    done(cluster, cluster.fault("revive", ip))
    assert cluster.replies[cluster.fault("kill", ip, "same")] == first
    cluster.restart()
    again = cluster.replies[cluster.fault("kill", ip, "same")]
    assert replace(again, clock=first.clock) == first
    assert cluster.task("slave-0").state is TaskState.RUNNING


def test_a_caller_that_is_gone_gets_no_answer_and_the_fault_is_done() -> None:
    """CallGone takes back the wish for an answer, not the fault."""
    cluster = running(2, 1)
    call = cluster.fault("kill", cluster.address("slave-0"))
    cluster.do(ev.CallGone(call))
    cluster.deliver()
    assert call not in cluster.replies
    assert cluster.task("slave-0").state is TaskState.KILLED


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
    assert not cluster.task("slave-0").disconnected


def failed_but_applied(cluster: Cluster, kind: str, ip: str) -> None:
    """A fault that the volunteer does, and answers with a failure."""
    cluster.fault(kind, ip)
    session, command = cluster.inbox.pop()
    cluster.volunteers["node-a"].carry_out(command, cluster.ns)
    cluster.do(ev.AnswerReceived(session, command.command_id, AnswerCode.FAILED, detail="too slow"))


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
