"""Faults that last: how they compose, who takes them back, and what a Kill leaves of them."""

from __future__ import annotations

import pytest
from manager_core.faults import done, done_at_all, fault_commands, refused
from manager_core.harness import Cluster, running
from syndicate.manager.core import effects as fx
from syndicate.manager.core import events as ev
from syndicate.manager.core.errors import NotFound, Refused
from syndicate.manager.core.model import AnswerCode, Degradation, FaultKind, PartitionShape, TaskState
from syndicate.manager.core.records import FaultRecord

LOSS, DELAY = Degradation(loss_percent=10.0), Degradation(delay_ms=50.0)
SLAVES = ("slave-0", "slave-1", "slave-2")


def four() -> Cluster:
    """A job of a master, three slaves and a client."""
    return running(4, 1)


def at(cluster: Cluster, *names: str) -> tuple[str, ...]:
    """The addresses of members."""
    return tuple(cluster.address(name) for name in names)


def network(cluster: Cluster, name: str) -> fx.SetNetwork:
    """What the network of a member suffers."""
    return cluster.holder(name)[1].network


def in_force(cluster: Cluster) -> list[FaultRecord]:
    """The lines in force, as they are listed."""
    return list(cluster.ask(lambda n: ev.LinesRequested(n, cluster.caller(), True, 0, 1000)).lines)


def sorted_at(cluster: Cluster, *names: str) -> tuple[str, ...]:
    """Addresses in the order of their texts."""
    return tuple(sorted(at(cluster, *names)))


# ---- partitions -------------------------------------------------------------------------------------------


def test_a_partition_cuts_groups_from_each_other_in_one_step() -> None:
    """A line and a command for each member; a member of no group reaches everybody."""
    cluster = four()
    call = cluster.partition(("master", "slave-0"), ("slave-1",))
    assert [command.ref.task for command in cluster.sent(fx.SetNetwork, cluster.steps[-1])] == [
        "master",
        "slave-0",
        "slave-1",
    ]
    cluster.deliver()
    reply = cluster.replies[call]
    assert reply.addresses == at(cluster, "master", "slave-0", "slave-1")
    assert reply.groups == (at(cluster, "master", "slave-0"), at(cluster, "slave-1"))
    assert network(cluster, "master").cut == at(cluster, "slave-1")
    assert network(cluster, "slave-1").cut == sorted_at(cluster, "master", "slave-0")
    assert network(cluster, "slave-2") == fx.SetNetwork()
    assert {line.call_id for line in cluster.job().faults} == {1}
    assert [line.cut_out for line in cluster.job().faults][-1] == ("master", "slave-0")


def test_a_one_way_partition_loses_what_a_later_group_sends() -> None:
    """At both ends; the other way it passes."""
    cluster = four()
    done_at_all(cluster, cluster.partition(("master",), ("slave-0", "slave-1"), one_way=True))
    assert network(cluster, "master") == fx.SetNetwork(cut_in=sorted_at(cluster, "slave-0", "slave-1"))
    assert network(cluster, "slave-0") == fx.SetNetwork(cut_out=at(cluster, "master"))


def test_a_shape_is_drawn_by_its_seed() -> None:
    """The same seed cuts the same; the answer has the groups, the ledger the shape and the seed."""
    answers = []
    for _ in range(2):
        cluster = four()
        call = cluster.partition(shape=PartitionShape.MAJORITY_RING, seed=7)
        done_at_all(cluster, call)
        answers.append(cluster.replies[call].groups)
        assert {(line.shape, line.seed) for line in cluster.job().faults} == {("majority-ring", 7)}
    assert answers[0] == answers[1]
    assert [len(group) for group in answers[0]] == [3] * 4


def test_two_partitions_hold_each_by_itself() -> None:
    """What one of them cuts stays cut when the other is healed."""
    cluster = four()
    done_at_all(cluster, cluster.partition(("master",), ("slave-0",)))
    done_at_all(cluster, cluster.partition(("master",), ("slave-0", "slave-1")))
    done_at_all(cluster, cluster.heal(3))
    assert network(cluster, "master").cut == at(cluster, "slave-0")
    assert network(cluster, "slave-1").cut == ()


# ---- composing --------------------------------------------------------------------------------------------


def test_reconnect_of_a_partitioned_member_keeps_the_partition() -> None:
    """It takes back every Disconnect and Reset, and nothing else."""
    cluster = four()
    ip = cluster.address("slave-0")
    done_at_all(cluster, cluster.partition(("slave-0",), ("slave-1",)))
    done(cluster, cluster.fault("disconnect", ip))
    done(cluster, cluster.fault("reset", ip))
    assert cluster.is_cut("slave-0")
    done(cluster, cluster.fault("reconnect", ip))
    assert network(cluster, "slave-0") == fx.SetNetwork(cut=at(cluster, "slave-1"))
    assert not cluster.is_cut("slave-0")
    assert [line.healed_by for line in cluster.job().faults[:4]] == ["", "", "client-0", "client-0"]


def test_a_disconnect_beside_a_reset_is_another_fault() -> None:
    """Silence is not what holds already; a second Disconnect is."""
    cluster = four()
    ip = cluster.address("slave-0")
    done(cluster, cluster.fault("reset", ip))
    assert not done(cluster, cluster.fault("disconnect", ip)).already
    assert cluster.replies[cluster.fault("disconnect", ip)].already
    assert (network(cluster, "slave-0").reset, len(network(cluster, "slave-0").cut)) == ((), 3)


def test_degradations_compose_and_are_taken_back_one_by_one() -> None:
    """Of all peers together, and of one peer apart."""
    cluster = four()
    ip, peer = cluster.address("slave-0"), cluster.address("slave-1")
    for worse in (LOSS, DELAY):
        done(cluster, cluster.fault("degrade", ip, degradation=worse))
    done(cluster, cluster.fault("degrade", ip, degradation=LOSS, peers=(peer,), one_way=True))
    both = Degradation(loss_percent=10.0, delay_ms=50.0)
    assert network(cluster, "slave-0").links == (
        fx.LinkState("", both, both),
        fx.LinkState(peer, LOSS, Degradation()),
    )
    done_at_all(cluster, cluster.heal(2))
    assert network(cluster, "slave-0").links[0] == fx.LinkState("", LOSS, LOSS)
    assert cluster.job().faults[0].text == "loss 10 %"


def test_one_command_goes_to_each_member_that_changes() -> None:
    """Whatever is in force there, it carries all of it."""
    cluster = four()
    ips = at(cluster, *SLAVES)
    done_at_all(cluster, cluster.partition(("slave-0",), ("slave-1",)))
    before = len(fault_commands(cluster))
    done_at_all(cluster, cluster.fault("disconnect", ips))
    done_at_all(cluster, cluster.fault("degrade", ips, degradation=LOSS))
    assert len(fault_commands(cluster)) == before + 6
    assert len(network(cluster, "slave-0").cut) == 3
    assert len(network(cluster, "slave-0").links) == 1


# ---- processes and disks ----------------------------------------------------------------------------------


def test_pause_and_resume() -> None:
    """Told by the members' list, too; a second Pause is so already, and so is a second Resume."""
    cluster = four()
    ip, (_, held) = cluster.address("slave-0"), cluster.holder("slave-0")
    done(cluster, cluster.fault("pause", ip))
    members = cluster.ask(lambda n: ev.MembersRequested(n, cluster.caller())).members
    assert (held.paused, [view.paused for view in members]) == (True, [False, True, False, False, False])
    assert cluster.replies[cluster.fault("pause", ip)].already
    done(cluster, cluster.fault("resume", ip))
    assert not held.paused
    assert cluster.replies[cluster.fault("resume", ip)].already


def test_a_kill_ends_a_pause_and_leaves_the_rest() -> None:
    """The next generation runs; the network and the disk are as bad as before."""
    cluster = four()
    ip, (_, held) = cluster.address("slave-0"), cluster.holder("slave-0")
    for kind in ("disconnect", "disk_full", "pause", "kill", "revive"):
        done(cluster, cluster.fault(kind, ip))
    lines = {line.kind: line.healed_by for line in cluster.job().faults}
    assert lines[FaultKind.PAUSE] == "kill"
    assert [line.kind for line in in_force(cluster)] == [FaultKind.DISCONNECT, FaultKind.DISK_FULL]
    assert (held.paused, held.disk_full, len(held.cut)) == (False, True, 3)
    done(cluster, cluster.fault("pause", ip))
    assert (held.paused, held.disk_full) == (True, True)


def test_a_frozen_task_that_ends_otherwise_is_frozen_no_more() -> None:
    """By the kernel, for instance."""
    cluster = four()
    done(cluster, cluster.fault("pause", cluster.address("slave-0")))
    cluster.exit("slave-0")
    assert (in_force(cluster), cluster.job().faults[0].healed_by) == ([], "exit")


def test_an_end_that_is_told_before_the_pause_is_answered_ends_it() -> None:
    """The line was in force for no time."""
    cluster = four()
    cluster.fault("pause", cluster.address("slave-0"))
    [(session, command)] = cluster.inbox
    cluster.inbox.clear()
    cluster.exit("slave-0")
    cluster.do(ev.AnswerReceived(session, command.command_id, AnswerCode.DONE))
    assert (in_force(cluster), cluster.job().faults[0].healed_by) == ([], "exit")


@pytest.mark.parametrize(("kind", "fields"), [("pause", {}), ("signal", {"signal": 3})])
def test_a_dead_task_has_no_process(kind: str, fields: dict[str, int]) -> None:
    """TASK_DEAD; of several none is touched."""
    cluster = four()
    done(cluster, cluster.fault("kill", cluster.address("slave-1")))
    before = len(fault_commands(cluster))
    for ips in (at(cluster, "slave-1"), at(cluster, *SLAVES)):
        error = refused(cluster, cluster.fault(kind, ips, **fields))
        assert (type(error), error.reason) == (Refused, "TASK_DEAD")
    assert len(fault_commands(cluster)) == before


def test_a_signal_goes_to_the_generation_that_lives() -> None:
    """The answer says to how many processes; nothing of it lasts."""
    cluster = four()
    ip, (_, held) = cluster.address("slave-0"), cluster.holder("slave-0")
    for kind in ("kill", "revive"):
        done(cluster, cluster.fault(kind, ip))
    assert done(cluster, cluster.fault("signal", ip, signal=3)).processes == 2
    assert (held.signals, fault_commands(cluster)[-1].ref.generation, in_force(cluster)) == ([3], 2, [])


# ---- healing ----------------------------------------------------------------------------------------------


def everything(cluster: Cluster) -> None:
    """A bit of each kind is in force."""
    done_at_all(cluster, cluster.partition(("slave-0",), ("slave-1",)))
    done(cluster, cluster.fault("disconnect", cluster.address("master")))
    done(cluster, cluster.fault("degrade", cluster.address("slave-0"), degradation=LOSS))
    done(cluster, cluster.fault("pause", cluster.address("slave-0")))
    done(cluster, cluster.fault("disk_full", cluster.address("slave-2")))


def test_heal_takes_everything_back() -> None:
    """At each member one command for each part of its state; the answer names members and lines."""
    cluster = four()
    everything(cluster)
    before = len(fault_commands(cluster))
    call = cluster.heal()
    assert [reply.healed for reply in done_at_all(cluster, call)] == [(3,), (1, 4, 5), (2,), (6,)]
    assert cluster.replies[call].addresses == at(cluster, "master", *SLAVES)
    assert len(fault_commands(cluster)) == before + 5
    for name in ("master", *SLAVES):
        held = cluster.holder(name)[1]
        assert (held.network, held.paused, held.disk_full) == (fx.SetNetwork(), False, False)
    assert {line.healed_by for line in cluster.job().faults[:6]} == {"client-0"}
    assert in_force(cluster) == []


def test_heal_of_nothing_is_done_at_once() -> None:
    """No member, no line."""
    cluster = four()
    assert cluster.replies[cluster.heal()] == fx.FaultsReply(())
    assert fault_commands(cluster) == []


def test_heal_of_a_line_is_about_its_whole_call() -> None:
    """Both sides of a partition; what is healed already is left alone."""
    cluster = four()
    everything(cluster)
    assert [reply.healed for reply in done_at_all(cluster, cluster.heal(2))] == [(1,), (2,)]
    assert cluster.replies[cluster.heal(1)] == fx.FaultsReply(())
    assert len(in_force(cluster)) == 4


def test_heal_of_a_stranger_is_refused() -> None:
    """NO_SUCH_FAULT names it, and nothing else is healed."""
    cluster = four()
    everything(cluster)
    error = refused(cluster, cluster.heal(1, 99))
    assert (type(error), error.reason) == (NotFound, "NO_SUCH_FAULT")
    assert "99" in error.detail
    assert len(in_force(cluster)) == 6


def test_a_repeated_heal_leaves_what_came_after_it() -> None:
    """It gets the first answer; also after a restart of the manager."""
    cluster = four()
    everything(cluster)
    first = done_at_all(cluster, cluster.heal(request_id="same"))
    done(cluster, cluster.fault("disconnect", cluster.address("master")))
    again = cluster.replies[cluster.heal(request_id="same")].members
    assert [reply.healed for reply in again] == [reply.healed for reply in first]
    cluster.restart()
    again = cluster.replies[cluster.heal(request_id="same")].members
    assert [reply.healed for reply in again] == [reply.healed for reply in first]
    assert len(in_force(cluster)) == 1


def test_heal_mends_the_others_where_one_volunteer_is_away() -> None:
    """It says so, and the same request goes on when it is back."""
    cluster = Cluster()
    cluster.volunteer("node-a", 3)
    cluster.volunteer("node-b", 2)
    cluster.submit(4, 1)
    cluster.deliver()
    caller = cluster.caller()
    away = next(v for v in cluster.volunteers.values() if v.name != caller.volunteer_id)
    there = [t.task for t in cluster.job().tasks if t.volunteer_id == away.name]
    here = [t.task for t in cluster.job().tasks if t.volunteer_id == caller.volunteer_id]
    done_at_all(cluster, cluster.fault("disconnect", at(cluster, there[0], here[0]), caller=caller))
    cluster.detach(away)
    call = cluster.heal(request_id="same", caller=caller)
    cluster.deliver()
    assert refused(cluster, call).reason == "VOLUNTEER_AWAY"
    assert not cluster.is_cut(here[0])
    cluster.attach(away)
    done_at_all(cluster, cluster.heal(request_id="same", caller=caller))
    assert not cluster.is_cut(there[0])


@pytest.mark.parametrize("restarted", [False, True])
def test_heal_that_fails_halfway_tells_what_it_healed(restarted: bool) -> None:
    """The network's lines are healed, the task's are not, and the next heal is about those alone."""
    cluster = running(2, 1)
    ip, volunteer = cluster.address("slave-0"), cluster.volunteers["node-a"]
    done(cluster, cluster.fault("disconnect", ip))
    done(cluster, cluster.fault("pause", ip))
    volunteer.refuse = lambda command: (
        (AnswerCode.FAILED, "no freezer") if isinstance(command.action, fx.SetTask) else None
    )
    call = cluster.heal()
    cluster.deliver()
    error = refused(cluster, call)
    cut, frozen, heal = cluster.job().faults
    assert (cut.healed_by, frozen.healed_by) == ("client-0", "")
    assert heal.error == "no freezer; what its network suffered is healed"
    assert heal.error in error.detail
    assert cluster.holder("slave-0")[1].network == fx.SetNetwork()
    volunteer.refuse = lambda command: None
    if restarted:
        cluster.restart()
        cluster.attach(volunteer)
    [reply] = done_at_all(cluster, cluster.heal())
    assert reply.healed == (frozen.fault_id,)
    assert not cluster.holder("slave-0")[1].paused
    assert {line.healed_by for line in cluster.job().faults[:2]} == {"client-0"}


def test_heal_also_settles_what_failed_and_may_hold() -> None:
    """A cut that was answered with a failure, and holds all the same."""
    cluster = four()
    cluster.fault("disconnect", cluster.address("slave-0"))
    session, command = cluster.inbox.pop()
    cluster.volunteers["node-a"].carry_out(command, cluster.ns)
    cluster.do(ev.AnswerReceived(session, command.command_id, AnswerCode.FAILED, detail="too slow"))
    assert network(cluster, "slave-0").cut != ()
    done_at_all(cluster, cluster.heal())
    assert network(cluster, "slave-0") == fx.SetNetwork()


@pytest.mark.parametrize("answered", [0, 1, 2])
def test_a_heal_that_a_restart_interrupts_is_finished(answered: int) -> None:
    """A manager that dies before, between and after its two commands."""
    cluster = four()
    everything(cluster)
    cluster.fault("pause", cluster.address("slave-1"))
    cluster.deliver()
    call = cluster.heal(4, 5, request_id="same")
    for _ in range(answered):
        cluster.deliver_one()
    cluster.restart()
    cluster.attach(cluster.volunteers["node-a"])
    cluster.deliver()
    held = cluster.holder("slave-0")[1]
    assert (held.paused, held.network.links) == (False, ())
    assert call not in cluster.replies or answered == 2
    [reply] = cluster.replies[cluster.heal(4, 5, request_id="same")].members
    assert reply.healed == (4, 5)


def test_the_end_of_the_job_closes_every_line() -> None:
    """By `job end`, with one line for each member that says so."""
    cluster = four()
    everything(cluster)
    cluster.finish()
    cluster.deliver()
    faults = cluster.job().faults
    assert {line.healed_by for line in faults[:6]} == {"job end"}
    assert [line.task for line in faults[6:]] == ["master", *SLAVES]
    assert all(line.applied_at is not None for line in faults)


def test_a_member_that_is_released_has_nothing_in_force() -> None:
    """Nor one whose machine is gone."""
    cluster = Cluster()
    volunteers = {name: cluster.volunteer(name, 1) for name in ("node-a", "node-b", "node-c")}
    cluster.submit(1, 2)
    cluster.deliver()
    caller = cluster.caller()
    done(cluster, cluster.fault("disconnect", cluster.address("client-1"), caller=caller))
    cluster.finish("client-1")
    gone = volunteers[cluster.task("client-1").volunteer_id]
    cluster.detach(gone)
    gone.reboot()
    cluster.attach(gone)
    assert cluster.task("client-1").state is TaskState.LOST
    assert (in_force(cluster), cluster.job().faults[0].healed_by) == ([], "machine lost")


# ---- the list ---------------------------------------------------------------------------------------------


def test_the_ledger_is_listed_in_pages() -> None:
    """In the order of the lines; all, or those in force."""
    cluster = four()
    everything(cluster)
    done_at_all(cluster, cluster.heal(1))

    def listed(in_force: bool, after: int, most: int) -> tuple[list[int], bool]:
        reply = cluster.ask(lambda n: ev.LinesRequested(n, cluster.caller(), in_force, after, most))
        return [line.fault_id for line in reply.lines], reply.more

    assert listed(False, 0, 5) == ([1, 2, 3, 4, 5], True)
    assert listed(False, 5, 3) == ([6, 7, 8], False)
    assert listed(True, 0, 2) == ([3, 4], True)
    assert listed(True, 4, 2) == ([5, 6], False)


def test_the_members_list_names_what_else_is_in_force() -> None:
    """Beside what it says by a word."""
    cluster = four()
    everything(cluster)
    members = cluster.ask(lambda n: ev.MembersRequested(n, cluster.caller())).members
    said = {view.member.task: (view.disconnected, view.paused, view.faults) for view in members}
    assert said == {
        "master": (True, False, ()),
        "slave-0": (False, True, (1, 4)),
        "slave-1": (False, False, (2,)),
        "slave-2": (False, False, (6,)),
        "client-0": (False, False, ()),
    }
