"""A call over several members that fails at one of them is taken back at the others."""

from __future__ import annotations

import pytest
from manager_core.faults import done, done_at_all, fault_commands, refused
from manager_core.harness import Cluster, key_of, running
from syndicate.manager.core import effects as fx
from syndicate.manager.core import events as ev
from syndicate.manager.core.errors import Away, FaultFailed, Refused
from syndicate.manager.core.model import AnswerCode, Degradation, TaskState

SLAVES = ("slave-0", "slave-1", "slave-2")
LASTING = [
    ("disconnect", {}),
    ("reset", {}),
    ("degrade", {"degradation": Degradation(loss_percent=10.0)}),
    ("pause", {}),
    ("disk_full", {}),
]


def at(cluster: Cluster, *names: str) -> tuple[str, ...]:
    """The addresses of members."""
    return tuple(cluster.address(name) for name in names)


def refuse(cluster: Cluster, name: str, times: int = 1, code: AnswerCode = AnswerCode.FAILED) -> None:
    """A member's volunteer cannot do the next commands."""
    left = [None] * times

    def no(command: fx.Command) -> tuple[AnswerCode, str] | None:
        if command.ref.task != name or not left:
            return None
        left.pop()
        return code, "no such set"

    cluster.volunteers["node-a"].refuse = no


def suffers(cluster: Cluster, name: str) -> bool:
    """Whether anything is wrong with a member."""
    held = cluster.holder(name)[1]
    return held.network != fx.SetNetwork() or held.paused or held.disk_full


@pytest.mark.parametrize(("kind", "fields"), LASTING)
def test_what_lasts_is_taken_back_everywhere(kind: str, fields: dict[str, object]) -> None:
    """The error says where it failed and where it was taken back; the ledger says `rollback`."""
    cluster = running(4, 1)
    refuse(cluster, "slave-1")
    call = cluster.fault(kind, at(cluster, *SLAVES), **fields)
    cluster.deliver()
    error = refused(cluster, call)
    assert isinstance(error, FaultFailed)
    assert (
        error.detail
        == f"{kind.upper()} failed at slave-1: no such set; it was taken back at slave-0, slave-2"
    )
    assert not any(suffers(cluster, name) for name in SLAVES)
    assert [line.healed_by for line in cluster.job().faults[:3]] == ["rollback", "", "rollback"]
    assert {line.call_id for line in cluster.job().faults} == {1}


def test_a_partition_is_taken_back_as_a_whole() -> None:
    """At both sides."""
    cluster = running(4, 1)
    refuse(cluster, "slave-1")
    call = cluster.partition(("master", "slave-0"), ("slave-1", "slave-2"))
    cluster.deliver()
    assert "taken back at master, slave-0, slave-2" in refused(cluster, call).detail
    assert not any(suffers(cluster, name) for name in ("master", *SLAVES))


def test_the_callers_are_told_when_it_is_taken_back() -> None:
    """Not before."""
    cluster = running(4, 1)
    refuse(cluster, "slave-0")
    call = cluster.fault("disconnect", at(cluster, *SLAVES))
    for _ in SLAVES:
        assert call not in cluster.replies
        cluster.deliver_one()
    assert call not in cluster.replies
    cluster.deliver()
    assert isinstance(refused(cluster, call), FaultFailed)


def test_what_was_in_force_before_stays() -> None:
    """Only the lines of this call are taken back; one that held already is left as it is."""
    cluster = running(4, 1)
    done_at_all(cluster, cluster.partition(("slave-0",), ("slave-2",)))
    done(cluster, cluster.fault("disconnect", cluster.address("slave-2")))
    refuse(cluster, "slave-1")
    call = cluster.fault("disconnect", at(cluster, *SLAVES))
    cluster.deliver()
    assert refused(cluster, call).detail.endswith("it was taken back at slave-0")
    assert cluster.holder("slave-0")[1].cut == at(cluster, "slave-2")
    assert len(cluster.holder("slave-2")[1].cut) == 3


def test_that_it_could_not_be_taken_back_is_said() -> None:
    """The line stays in force: Heal can be tried."""
    cluster = running(4, 1)
    refuse(cluster, "slave-1")
    call = cluster.fault("disconnect", at(cluster, *SLAVES))
    for _ in SLAVES:
        cluster.deliver_one()
    refuse(cluster, "slave-2")
    cluster.deliver()
    assert refused(cluster, call).detail == (
        "DISCONNECT failed at slave-1: no such set; it was taken back at slave-0; "
        "that it was taken back at slave-2 could not be confirmed: it may hold there"
    )
    assert suffers(cluster, "slave-2")
    done_at_all(cluster, cluster.heal())
    assert not suffers(cluster, "slave-2")


def test_a_volunteer_that_does_not_answer_in_time_leaves_it_unconfirmed() -> None:
    """The callers are told so; it is taken back when the volunteer does answer."""
    cluster = running(4, 1)
    refuse(cluster, "slave-0")
    call = cluster.fault("disconnect", at(cluster, *SLAVES))
    for _ in SLAVES:
        cluster.deliver_one()
    cluster.volunteers["node-a"].mute = {"SetNetwork"}
    cluster.advance(15)
    error = refused(cluster, call)
    assert isinstance(error, FaultFailed)
    assert "at slave-1, slave-2 could not be confirmed" in error.detail
    assert "whether it holds at slave-0 is not known" in error.detail
    cluster.volunteers["node-a"].mute = set()
    cluster.advance(15)
    assert not any(suffers(cluster, name) for name in SLAVES)


def test_a_kill_cannot_be_taken_back() -> None:
    """The text says where it holds."""
    cluster = running(4, 1)
    refuse(cluster, "slave-1")
    call = cluster.fault("kill", at(cluster, *SLAVES))
    cluster.deliver()
    assert refused(cluster, call).detail.startswith("KILL holds at slave-0, slave-2, not at slave-1")
    assert cluster.task("slave-0").state is TaskState.KILLED


def test_one_that_was_only_refused_may_be_asked_for_again() -> None:
    """A member that died meanwhile: the same request, later, freezes all of them."""
    cluster = running(4, 1)
    ips = at(cluster, *SLAVES)
    cluster.fault("kill", ips[1])
    call = cluster.fault("pause", ips, "same")
    cluster.deliver()
    error = refused(cluster, call)
    assert (type(error), error.reason) == (Refused, "TASK_DEAD")
    assert error.detail.endswith("it was taken back at slave-0, slave-2")
    assert not suffers(cluster, "slave-0")
    done(cluster, cluster.fault("revive", ips[1]))
    assert len(done_at_all(cluster, cluster.fault("pause", ips, "same"))) == 3
    assert all(suffers(cluster, name) for name in SLAVES)


@pytest.mark.parametrize("delivered", range(7))
def test_a_manager_that_dies_on_the_way_takes_it_back_all_the_same(delivered: int) -> None:
    """Before, between and after the answers: a repeat is told the same, and nothing holds."""
    cluster = running(4, 1)
    refuse(cluster, "slave-0")
    ips = at(cluster, *SLAVES)
    cluster.fault("disconnect", ips, "same")
    for _ in range(delivered):
        if cluster.inbox:
            cluster.deliver_one()
    cluster.restart()
    cluster.attach(cluster.volunteers["node-a"])
    cluster.deliver()
    call = cluster.fault("disconnect", ips, "same")
    cluster.deliver()
    detail = refused(cluster, call).detail
    assert detail == "DISCONNECT failed at slave-0: no such set; it was taken back at slave-1, slave-2"
    assert not any(suffers(cluster, name) for name in SLAVES)


def test_a_manager_that_dies_before_it_begins_takes_it_back_when_it_is_there_again() -> None:
    """The failure is written down, the others hold, and no repeat ever comes."""
    cluster = running(4, 1)
    refuse(cluster, "slave-1")
    cluster.fault("disconnect", at(cluster, *SLAVES), "same")
    for _ in SLAVES[:2]:
        cluster.deliver_one()
    session, command = cluster.inbox.pop(0)
    answer = cluster.volunteers["node-a"].carry_out(command, cluster.ns)
    step = cluster.machine.handle(ev.AnswerReceived(session, command.command_id, **answer), cluster.now)
    for record in step.saves:
        if getattr(record, "requested_by", "") != "rollback":
            cluster.store[key_of(record)] = record
    cluster.restart()
    cluster.attach(cluster.volunteers["node-a"])
    cluster.deliver()
    assert not any(suffers(cluster, name) for name in SLAVES)
    assert len(fault_commands(cluster)) == 6


def test_a_repeat_after_a_restart_waits_for_what_is_taken_back() -> None:
    """A call that was only refused somewhere left no line that says so: UNAVAILABLE, then it is a new try."""
    cluster = running(4, 1)
    volunteer, ips = cluster.volunteers["node-a"], at(cluster, *SLAVES)
    cluster.fault("kill", ips[1])
    cluster.fault("pause", ips, "same")
    volunteer.mute = {"SetTask"}
    for _ in SLAVES:
        cluster.deliver_one()
    for name in ("slave-0", "slave-2"):
        command = next(c for c in reversed(fault_commands(cluster)) if c.ref.task == name)
        answer = volunteer.answers[command.command_id]
        cluster.do(ev.AnswerReceived(volunteer.session, command.command_id, **answer))
    assert {line.requested_by for line in cluster.job().faults[3:]} == {"rollback"}
    cluster.restart()
    cluster.attach(volunteer)
    error = refused(cluster, cluster.fault("pause", ips, "same"))
    assert (type(error), error.reason) == (Away, "MANAGER_BUSY")
    volunteer.mute = set()
    cluster.advance(16)
    assert not any(suffers(cluster, name) for name in SLAVES)
    done(cluster, cluster.fault("revive", ips[1]))
    assert len(done_at_all(cluster, cluster.fault("pause", ips, "same"))) == 3


def test_a_heal_that_is_repeated_late_tells_of_those_it_healed() -> None:
    """One that was dropped when the call was late, and has nothing in force by now, is not among them."""
    cluster = running(4, 1)
    volunteer, ips = cluster.volunteers["node-a"], at(cluster, *SLAVES)
    done_at_all(cluster, cluster.fault("disconnect", ips))
    volunteer.mute = {"Kill"}
    cluster.fault("kill", ips[0])
    cluster.heal(request_id="same")
    cluster.advance(15)
    volunteer.mute = set()
    cluster.advance(16)
    done(cluster, cluster.fault("reconnect", ips[0]))
    cluster.deliver()
    reply = cluster.replies[cluster.heal(request_id="same")]
    assert reply.addresses == ips[1:]
