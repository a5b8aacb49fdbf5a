"""Chaos: who may call, what each fault does, in which order, and what becomes of late answers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from manager_core.faults import done, fault_commands, refused
from manager_core.harness import Cluster, running
from syndicate.manager.core import effects as fx
from syndicate.manager.core import events as ev
from syndicate.manager.core import ledger
from syndicate.manager.core.errors import (
    Away,
    BadRequest,
    CoreError,
    Exhausted,
    NotAllowed,
    NotFound,
    Refused,
)
from syndicate.manager.core.model import AnswerCode, FaultKind, Reason, TaskState

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
    assert (set(held.cut), cluster.is_cut("slave-0")) == (cut, True)
    assert cluster.replies[cluster.fault("disconnect", ip)].already
    done(cluster, cluster.fault("reconnect", ip))
    assert (held.cut, cluster.is_cut("slave-0")) == ((), False)
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
    assert cluster.is_cut("slave-0")
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


def test_a_full_ledger_still_mends(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was done is taken back, when nothing more may be done."""
    cluster = running(2, 1)
    ip = cluster.address("slave-0")
    done(cluster, cluster.fault("disconnect", ip))
    monkeypatch.setattr(ledger, "MAX_LINES", 1)

    assert isinstance(refused(cluster, cluster.fault("kill", ip)), Exhausted)
    assert not done(cluster, cluster.fault("reconnect", ip)).already


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
