"""One fault at several members: checked before any is touched, sent together, answered together."""

from __future__ import annotations

from dataclasses import replace

import pytest
from manager_core.faults import done_at_all, fault_commands, refused
from manager_core.harness import Cluster, running
from syndicate.manager.core import effects as fx
from syndicate.manager.core import events as ev
from syndicate.manager.core import ledger
from syndicate.manager.core.asked import MAX_REMEMBERED
from syndicate.manager.core.errors import (
    Away,
    BadRequest,
    CoreError,
    Ended,
    Exhausted,
    FaultFailed,
    NotFound,
    Refused,
    TooLate,
)
from syndicate.manager.core.model import AnswerCode, FaultKind, TaskState

SLAVES = ("slave-0", "slave-1", "slave-2")


def at(cluster: Cluster, *names: str) -> tuple[str, ...]:
    """The addresses of members."""
    return tuple(cluster.address(name) for name in names)


def four(clients: int = 1) -> Cluster:
    """A job of a master, three slaves and a client runs on one volunteer."""
    return running(4, clients)


def on_two_volunteers() -> Cluster:
    """The same, with the members spread over two."""
    cluster = Cluster()
    cluster.volunteer("node-a", 3)
    cluster.volunteer("node-b", 2)
    cluster.submit(4, 1)
    cluster.deliver()
    return cluster


def states(cluster: Cluster) -> list[TaskState]:
    """Of the three slaves."""
    return [cluster.task(name).state for name in SLAVES]


# ---- what it does -----------------------------------------------------------------------------------------


def test_several_go_out_in_one_step_each_with_its_line() -> None:
    """One step saves a line for each member and sends all commands; none of them waits for others."""
    cluster = four()
    call = cluster.fault("kill", at(cluster, *SLAVES))
    sent = cluster.steps[-1]
    assert [command.ref.task for command in cluster.sent(fx.Kill, sent)] == list(SLAVES)
    assert [line.task for line in cluster.job().faults] == list(SLAVES)
    assert not any(effect.together for effect in sent.effects if isinstance(effect, fx.Send))
    assert len({command.command_id for command in fault_commands(cluster)}) == 3
    replies = done_at_all(cluster, call)
    assert [(reply.fault_id, reply.processes, reply.already) for reply in replies] == [
        (1, 3, False),
        (2, 3, False),
        (3, 3, False),
    ]
    assert states(cluster) == [TaskState.KILLED] * 3


def test_the_answer_waits_for_the_last_member() -> None:
    """Nothing is answered while one of them has not."""
    cluster = four()
    call = cluster.fault("kill", at(cluster, *SLAVES))
    for _ in SLAVES:
        assert call not in cluster.replies
        cluster.deliver_one()
    assert len(done_at_all(cluster, call)) == 3


def test_the_answers_are_in_the_order_of_the_addresses() -> None:
    """Whoever answers first."""
    cluster = four()
    call = cluster.fault("kill", at(cluster, "slave-2", "master", "slave-0"))
    cluster.inbox.reverse()
    replies = done_at_all(cluster, call)
    lines = {line.fault_id: line.task for line in cluster.job().faults}
    assert [lines[reply.fault_id] for reply in replies] == ["slave-2", "master", "slave-0"]


@pytest.mark.parametrize("kind", ["kill", "revive", "disconnect", "reconnect"])
def test_each_kind_takes_several(kind: str) -> None:
    """And says of each member whether it was so already."""
    cluster = four()
    before = {"revive": "kill", "reconnect": "disconnect"}.get(kind)
    if before:
        done_at_all(cluster, cluster.fault(before, at(cluster, *SLAVES)))
    ips = at(cluster, *SLAVES)
    assert [reply.already for reply in done_at_all(cluster, cluster.fault(kind, ips))] == [False] * 3
    assert [reply.already for reply in done_at_all(cluster, cluster.fault(kind, ips))] == [True] * 3


def test_members_that_are_so_already_are_left_alone() -> None:
    """No command and no line for them; the others are done."""
    cluster = four()
    done_at_all(cluster, cluster.fault("kill", at(cluster, "slave-0", "slave-2")))
    replies = done_at_all(cluster, cluster.fault("kill", at(cluster, *SLAVES)))
    assert [(reply.already, reply.fault_id) for reply in replies] == [(True, 0), (False, 3), (True, 0)]
    assert len(fault_commands(cluster)) == 3


def test_one_address_among_several_is_answered_as_alone() -> None:
    """A sequence of one is the same request as the address."""
    cluster = four()
    first = cluster.fault("kill", at(cluster, "slave-0"), "same")
    again = cluster.fault("kill", cluster.address("slave-0"), "same")
    cluster.deliver()
    assert isinstance(cluster.replies[first], fx.FaultReply)
    assert cluster.replies[first] == cluster.replies[again]


def test_each_takes_its_place_behind_what_waits_at_its_member() -> None:
    """A Kill of several and a Revive of several, together, come out as that at each."""
    cluster = four()
    kill = cluster.fault("kill", at(cluster, "slave-0", "slave-1"))
    revive = cluster.fault("revive", at(cluster, "slave-1", "slave-2"))
    assert [command.ref.task for command in fault_commands(cluster)] == ["slave-0", "slave-1"]
    cluster.deliver()
    assert len(done_at_all(cluster, kill)) == 2
    assert [reply.already for reply in done_at_all(cluster, revive)] == [False, True]
    assert states(cluster) == [TaskState.KILLED, TaskState.RUNNING, TaskState.RUNNING]


# ---- checks come first ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "error", "reason"),
    [
        ((), BadRequest, "BAD_FIELD"),
        (("slave-0", "slave-0"), BadRequest, "BAD_FIELD"),
        (("slave-0", "192.0.2.1"), NotFound, "NO_SUCH_MEMBER"),
        (("slave-0", "nonsense"), BadRequest, "NOT_AN_ADDRESS"),
        (("slave-0", *["10.0.0.1"] * 1000), BadRequest, "BAD_FIELD"),
    ],
)
def test_a_wrong_address_among_them_leaves_all_untouched(
    names: tuple[str, ...], error: type[CoreError], reason: str
) -> None:
    """None, twice the same, a stranger, no address, too many: refused, and nothing is sent."""
    cluster = four()
    ips = [cluster.address(name) if name.startswith("slave") else name for name in names]
    got = refused(cluster, cluster.fault("kill", ips))
    assert isinstance(got, error)
    assert got.reason == reason
    assert (fault_commands(cluster), cluster.job().faults) == ([], ())


def test_all_must_find_room() -> None:
    """One more than may wait: none of them does."""
    cluster = four()
    ip = cluster.address("master")
    for _ in range(ledger.MAX_WAITING - 2):
        cluster.fault("disconnect", ip)
    sent = len(fault_commands(cluster))
    error = refused(cluster, cluster.fault("kill", at(cluster, *SLAVES)))
    assert isinstance(error, Exhausted)
    assert len(fault_commands(cluster)) == sent
    cluster.fault("kill", at(cluster, "slave-0", "slave-1"))
    assert len(fault_commands(cluster)) == sent + 2


def test_a_live_one_keeps_all_from_losing_their_disks() -> None:
    """TASK_ALIVE is known before the dead ones are revived."""
    cluster = four()
    done_at_all(cluster, cluster.fault("kill", at(cluster, "slave-0", "slave-1")))
    sent = len(fault_commands(cluster))
    error = refused(cluster, cluster.fault("revive", at(cluster, *SLAVES), with_disk=False))
    assert isinstance(error, Refused)
    assert error.reason == "TASK_ALIVE"
    assert "slave-2 lives" in error.detail
    assert len(fault_commands(cluster)) == sent


def test_a_volunteer_that_is_away_keeps_all_untouched() -> None:
    """VOLUNTEER_AWAY, and the same request works when it is back."""
    cluster = on_two_volunteers()
    names = [task.task for task in cluster.job().tasks if task.task != "client-0"]
    caller = cluster.caller()
    other = next(v for v in cluster.volunteers.values() if v.name != caller.volunteer_id)
    cluster.detach(other)
    error = refused(cluster, cluster.fault("kill", at(cluster, *names), "same", caller=caller))
    assert isinstance(error, Away)
    assert cluster.job().faults == ()
    cluster.attach(other)
    assert len(done_at_all(cluster, cluster.fault("kill", at(cluster, *names), "same", caller=caller))) == 4


# ---- repeats ----------------------------------------------------------------------------------------------


def test_a_repeat_of_several_waits_for_the_same_answer() -> None:
    """One command each, two equal replies; a later repeat gets it at once."""
    cluster = four()
    ips = at(cluster, *SLAVES)
    first, again = cluster.fault("kill", ips, "same"), cluster.fault("kill", ips, "same")
    assert done_at_all(cluster, first) == done_at_all(cluster, again)
    done_at_all(cluster, cluster.fault("revive", ips))
    assert cluster.replies[cluster.fault("kill", ips, "same")] == cluster.replies[first]
    assert len(fault_commands(cluster)) == 6


def test_a_repeat_of_several_after_a_restart_gets_the_same_answer() -> None:
    """Apart from the clock."""
    cluster = four()
    ips = at(cluster, *SLAVES)
    first = done_at_all(cluster, cluster.fault("kill", ips, "same"))
    cluster.restart()
    again = done_at_all(cluster, cluster.fault("kill", ips, "same"))
    assert [replace(reply, clock=None) for reply in again] == [replace(reply, clock=None) for reply in first]


def test_what_is_under_way_at_a_restart_is_finished_and_answered() -> None:
    """Sent again under the same names; the repeat waits for those that are missing."""
    cluster = four()
    ips = at(cluster, *SLAVES)
    cluster.fault("kill", ips, "same")
    cluster.deliver_one()
    ids = {command.command_id for command in fault_commands(cluster)}
    cluster.restart()
    cluster.attach(cluster.volunteers["node-a"])
    call = cluster.fault("kill", ips, "same")
    assert call not in cluster.replies
    assert [reply.fault_id for reply in done_at_all(cluster, call)] == [1, 2, 3]
    assert {command.command_id for command in fault_commands(cluster)} == ids


@pytest.mark.parametrize("when", ["under way", "done", "after a restart"])
@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("kill", ("slave-0",)),
        ("kill", ("slave-0", "slave-1", "slave-2")),
        ("kill", ("slave-0", "slave-2")),
        ("kill", ("slave-1", "slave-0")),
        ("disconnect", ("slave-0", "slave-1")),
    ],
)
def test_a_request_id_of_several_means_these_only(when: str, kind: str, names: tuple[str, ...]) -> None:
    """Fewer, more, others, another order, another fault: BAD_FIELD, and none of them is touched."""
    cluster = four()
    cluster.fault("kill", at(cluster, "slave-0", "slave-1"), "same")
    if when != "under way":
        cluster.deliver()
    if when == "after a restart":
        cluster.restart()
    sent = len(fault_commands(cluster))
    error = refused(cluster, cluster.fault(kind, at(cluster, *names), "same"))
    assert isinstance(error, BadRequest)
    assert (error.reason, error.metadata["field"]) == ("BAD_FIELD", "request_id")
    assert len(fault_commands(cluster)) == sent


def test_what_is_kept_for_repeats_is_bounded_by_members() -> None:
    """The oldest are let go."""
    cluster = four()
    ips = at(cluster, *SLAVES)
    done_at_all(cluster, cluster.fault("kill", ips, "first"))
    for number in range(MAX_REMEMBERED // 3 + 1):
        cluster.fault("kill", ips, f"again-{number}")
    done_at_all(cluster, cluster.fault("revive", ips, "revive"))
    call = cluster.fault("kill", ips, "first")
    assert call not in cluster.replies  # it is a new one: the first is forgotten


def test_what_is_kept_is_bounded_also_behind_one_that_is_not_over() -> None:
    """A fault that its volunteer does not answer is kept, and those that came after it are let go."""
    cluster = four()
    cluster.volunteers["node-a"].mute = {"SetNetwork"}
    held = cluster.fault("disconnect", cluster.address("master"), "held")
    ips = at(cluster, *SLAVES)
    done_at_all(cluster, cluster.fault("kill", ips, "first"))
    for number in range(MAX_REMEMBERED // 3 + 1):
        cluster.fault("kill", ips, f"again-{number}")
    done_at_all(cluster, cluster.fault("revive", ips, "revive"))
    call = cluster.fault("kill", ips, "first")
    assert call not in cluster.replies  # it is a new one: the first is forgotten
    again = cluster.fault("disconnect", cluster.address("master"), "held")
    assert held not in cluster.replies
    assert again not in cluster.replies
    assert len(cluster.sent(fx.SetNetwork)) == 1


# ---- when things go wrong ---------------------------------------------------------------------------------


def refuse_at(cluster: Cluster, name: str, code: AnswerCode = AnswerCode.FAILED) -> None:
    """One member's volunteer cannot do it."""
    cluster.volunteers["node-a"].refuse = lambda command: (
        (code, "no such set") if command.ref.task == name else None
    )


def test_a_cut_that_fails_at_one_is_taken_back_at_the_others() -> None:
    """FAULT_FAILED with where it failed, why, and where it was taken back; a repeat is told the same."""
    cluster = four()
    refuse_at(cluster, "slave-1")
    ips = at(cluster, *SLAVES)
    call = cluster.fault("disconnect", ips, "same")
    cluster.deliver()
    error = refused(cluster, call)
    assert isinstance(error, FaultFailed)
    assert error.reason == "FAULT_FAILED"
    assert error.detail == (
        "DISCONNECT failed at slave-1: no such set; it was taken back at slave-0, slave-2; "
        "whether it holds at slave-1 is not known"
    )
    assert [line.error for line in cluster.job().faults[:3]] == ["", "no such set", ""]
    assert [line.healed_by for line in cluster.job().faults[:3]] == ["rollback", "", "rollback"]
    assert [cluster.is_cut(name) for name in SLAVES] == [False] * 3
    again = refused(cluster, cluster.fault("disconnect", ips, "same"))
    assert (type(again), again.detail) == (FaultFailed, error.detail)
    cluster.restart()
    again = refused(cluster, cluster.fault("disconnect", ips, "same"))
    assert (type(again), again.detail) == (FaultFailed, error.detail)
    assert len(fault_commands(cluster)) == 6


def test_a_late_member_makes_the_call_late_and_a_repeat_gets_the_rest() -> None:
    """TooLate names who has not answered and who holds; what was sent is not sent under another name."""
    cluster = four()
    volunteer, ips = cluster.volunteers["node-a"], at(cluster, *SLAVES)
    call = cluster.fault("kill", ips, "same")
    cluster.deliver_one()
    volunteer.mute.add("Kill")
    cluster.advance(15)
    error = refused(cluster, call)
    assert isinstance(error, TooLate)
    assert error.detail.startswith("slave-1, slave-2 have not answered for ")
    assert "KILL holds at slave-0" in error.detail
    cluster.advance(1)
    again = cluster.fault("kill", ips, "same")
    volunteer.mute.clear()
    cluster.advance(14)
    assert [reply.fault_id for reply in done_at_all(cluster, again)] == [1, 2, 3]
    assert len({command.command_id for command in fault_commands(cluster)}) == 3


def test_what_was_not_sent_when_it_was_late_is_sent_for_the_repeat() -> None:
    """A member where another fault is under way is dropped, and done when asked again."""
    cluster = four()
    volunteer, ips = cluster.volunteers["node-a"], at(cluster, "slave-0", "slave-1")
    volunteer.mute.add("SetNetwork")
    cluster.fault("disconnect", ips[1])
    call = cluster.fault("kill", ips, "same")
    cluster.advance(15)
    assert isinstance(refused(cluster, call), TooLate)
    assert [line.kind for line in cluster.job().faults] == [FaultKind.DISCONNECT, FaultKind.KILL]
    cluster.advance(1)
    again = cluster.fault("kill", ips, "same")
    volunteer.mute.clear()
    cluster.advance(14)
    assert [reply.already for reply in done_at_all(cluster, again)] == [False, False]
    assert [line.task for line in cluster.job().faults if line.kind is FaultKind.KILL] == list(SLAVES[:2])


def test_a_caller_of_several_that_is_gone_gets_no_answer() -> None:
    """CallGone takes back the wish for an answer, not the faults; a repeat gets it."""
    cluster = four()
    ips = at(cluster, *SLAVES)
    call = cluster.fault("kill", ips, "same")
    cluster.deliver_one()
    cluster.do(ev.CallGone(call))
    cluster.deliver()
    assert call not in cluster.replies
    assert states(cluster) == [TaskState.KILLED] * 3
    assert len(done_at_all(cluster, cluster.fault("kill", ips, "same"))) == 3


def test_the_end_of_the_attempt_answers_once() -> None:
    """ATTEMPT_ENDED for the call, and every open line is closed."""
    cluster = four()
    call = cluster.fault("kill", at(cluster, *SLAVES))
    cluster.deliver_one()
    cluster.call(lambda n: ev.CancelJob(n, "c", 1, "alice"))
    assert isinstance(refused(cluster, call), Ended)
    assert [bool(line.error) for line in cluster.job().faults] == [False, True, True]


def test_a_call_may_be_of_members_on_several_volunteers() -> None:
    """Each gets its own; the answer waits for all."""
    cluster = on_two_volunteers()
    names = ("master", *SLAVES)
    call = cluster.fault("kill", at(cluster, *names))
    assert len({session for session, _ in cluster.inbox}) == 2
    assert len(done_at_all(cluster, call)) == 4
