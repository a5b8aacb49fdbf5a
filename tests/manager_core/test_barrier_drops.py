"""Barriers that somebody would have dropped: the order, its repeats, and what it came to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from manager_core.barrier_news import an_open_one
from manager_core.harness import Cluster, running
from syndicate.manager.core import effects as fx
from syndicate.manager.core import events as ev
from syndicate.manager.core.access import Caller, Origin
from syndicate.manager.core.barriers import MOST_DROPS
from syndicate.manager.core.errors import Ended, NotFound, TooLate
from syndicate.manager.core.model import NO_SYNC, AnswerCode, BarrierNews, TokenScope, UserRole
from syndicate.manager.core.records import AuditRecord


def dropped(cluster: Cluster, barrier: str = "start", request_id: str = "r1") -> Any:
    """The reply to somebody who would have it dropped."""
    call = ask_to_drop(cluster, barrier, request_id)
    cluster.deliver()
    return cluster.replies[call]


def ask_to_drop(cluster: Cluster, barrier: str = "start", request_id: str = "r1") -> int:
    """Somebody would have it dropped; the call."""
    return cluster.call(lambda call: ev.DropBarriers(call, request_id, 1, barrier))


def test_a_drop_goes_to_the_member_that_serves() -> None:
    """Once, however often it is asked for under one name; an empty one is all barriers."""
    cluster = running(2)
    volunteer, _ = cluster.holder("master")

    for barrier, request_id in (("start", "r1"), ("start", "r1"), ("", "r2")):
        assert isinstance(dropped(cluster, barrier, request_id), fx.DropReply)

    assert volunteer.dropped == ["start", ""]
    cluster.advance(10)
    assert volunteer.dropped == ["start", ""]


def test_a_drop_is_answered_when_the_server_has_done_it() -> None:
    """Not when the order goes out; a repeat meanwhile waits with it, one under another name does not."""
    cluster = running(2)

    calls = [ask_to_drop(cluster) for _ in range(2)]
    other = ask_to_drop(cluster, "other")
    before = [call in cluster.replies for call in calls]
    cluster.deliver()

    assert before == [False, False]
    assert [cluster.replies[call] for call in calls] == [fx.DropReply(1)] * 2
    assert cluster.replies[other].reason == "BAD_FIELD"
    assert cluster.holder("master")[0].dropped == ["start"]


@pytest.mark.parametrize("number", [1, 3, None])
def test_how_many_were_dropped_is_told(number: int | None) -> None:
    """As the server says; an older volunteer does not, and is believed."""
    cluster = running(2)
    cluster.holder("master")[0].droppable = number

    assert dropped(cluster) == fx.DropReply(number)
    assert dropped(cluster, "", "r2") == fx.DropReply(number)


def test_a_barrier_that_is_not_there_is_not_found() -> None:
    """Those that are open are named, as far as they are known; a repeat is told the same."""
    cluster = running(2)
    volunteer, _ = cluster.holder("master")
    volunteer.droppable = 0

    none = dropped(cluster, "strat")
    names = ["start", "strat", *[f"b{number}" for number in range(7)]]
    found = tuple(replace(an_open_one(cluster), barrier=name) for name in names)
    cluster.tell_barriers("master", BarrierNews((), 0, found, 4))
    some = [dropped(cluster, "strat", request_id) for request_id in ("r2", "r2")]

    assert (type(none), none.reason, none.metadata) == (NotFound, "NO_SUCH_BARRIER", {"barrier": "strat"})
    assert none.detail == "job 1 has no barrier 'strat': none is open"
    assert [one.detail for one in some] == [
        "job 1 has no barrier 'strat': open are 'start', 'b0', 'b1', 'b2', 'b3', 'b4' and 6 more"
    ] * 2
    assert volunteer.dropped == ["strat", "strat"]


def test_a_barrier_that_was_not_told_of_yet_is_dropped() -> None:
    """What the manager knows of open barriers is of a moment ago: the server alone knows better."""
    cluster = running(2)
    cluster.tell_barriers("master", BarrierNews((), 0, (an_open_one(cluster),)))

    assert dropped(cluster, "new") == fx.DropReply(1)


def test_where_none_is_there_dropping_all_is_done() -> None:
    """It is what was asked for."""
    cluster = running(2)
    cluster.holder("master")[0].droppable = 0

    assert dropped(cluster, "") == fx.DropReply(0)


def test_a_drop_that_is_asked_for_again_of_a_restarted_manager_is_the_same_order() -> None:
    """Its volunteer knows it by its name, and tells what it dropped the first time."""
    cluster = running(2)
    volunteer, _ = cluster.holder("master")
    volunteer.mute.add("DropBarriers")
    ask_to_drop(cluster)
    cluster.deliver()
    volunteer.mute.clear()
    volunteer.droppable = 0
    cluster.restart()
    for each in cluster.volunteers.values():
        cluster.attach(each)
    cluster.deliver()

    assert dropped(cluster) == fx.DropReply(1)
    assert volunteer.dropped == ["start"]


def test_a_restarted_manager_has_another_barrier_dropped_under_the_same_request_id() -> None:
    """Its volunteer does not take the order for the one that it knows."""
    cluster = running(2)
    volunteer, _ = cluster.holder("master")
    assert dropped(cluster) == fx.DropReply(1)
    cluster.restart()
    for each in cluster.volunteers.values():
        cluster.attach(each)
    cluster.deliver()

    assert dropped(cluster, "other") == fx.DropReply(1)
    assert volunteer.dropped == ["start", "other"]


def test_a_drop_that_is_lost_with_its_stream_goes_out_with_the_next() -> None:
    """The caller waits for it."""
    cluster = running(2)
    volunteer, _ = cluster.holder("master")
    call = ask_to_drop(cluster)

    cluster.detach(volunteer)
    lost = list(volunteer.dropped)
    cluster.attach(volunteer)
    cluster.deliver()

    assert (lost, volunteer.dropped) == ([], ["start"])
    assert cluster.replies[call] == fx.DropReply(1)


def test_a_drop_whose_answer_is_lost_is_answered_by_the_next_stream() -> None:
    """The volunteer knows the command, and drops once."""
    cluster = running(2)
    volunteer, _ = cluster.holder("master")
    volunteer.mute.add("DropBarriers")
    call = ask_to_drop(cluster)
    cluster.deliver()
    volunteer.mute.clear()

    cluster.detach(volunteer)
    cluster.attach(volunteer)
    cluster.deliver()

    assert cluster.replies[call] == fx.DropReply(1)
    assert volunteer.dropped == ["start"]


def test_a_drop_that_nobody_answers_is_told_so_and_not_done_later() -> None:
    """A barrier of a later round is not the one that was meant."""
    cluster = running(2)
    volunteer, _ = cluster.holder("master")
    call = ask_to_drop(cluster)
    cluster.detach(volunteer)

    cluster.advance(cluster.config.command_timeout_s + 1)
    cluster.attach(volunteer)
    cluster.deliver()

    assert (type(cluster.replies[call]), cluster.replies[call].reason) == (TooLate, "DROP_UNANSWERED")
    assert volunteer.dropped == []


def test_a_drop_that_the_volunteer_could_not_do_is_an_error() -> None:
    """With what it said; another request may try again."""
    cluster = running(2)
    volunteer, held = cluster.holder("master")
    failing = volunteer.session
    call = ask_to_drop(cluster)
    ((to, command),) = [(to, one) for to, one in cluster.inbox if isinstance(one.action, fx.DropBarriers)]
    cluster.inbox.clear()

    cluster.do(ev.AnswerReceived(to, command.command_id, AnswerCode.FAILED, detail="it does not listen"))

    assert (to, held.ref.task) == (failing, "master")
    assert cluster.replies[call].reason == "DROP_FAILED"
    assert "it does not listen" in cluster.replies[call].detail
    assert dropped(cluster, request_id="r2") == fx.DropReply(1)


def test_drops_under_way_are_bounded() -> None:
    """One more is refused, until one is answered."""
    cluster = running(2)
    calls = [ask_to_drop(cluster, f"b{number}", f"r{number}") for number in range(MOST_DROPS + 1)]

    refused = cluster.replies[calls[-1]].reason
    cluster.deliver()

    assert refused == "TOO_MANY_DROPS"
    assert len(cluster.holder("master")[0].dropped) == MOST_DROPS
    assert dropped(cluster, "more", "r-more") == fx.DropReply(1)


@pytest.mark.parametrize("how", ["cancelled", "lost"])
def test_a_drop_ends_with_its_attempt(how: str) -> None:
    """Its barriers are gone, and so is what was asked of them."""
    cluster = running(2)
    volunteer, _ = cluster.holder("master")
    call = ask_to_drop(cluster)
    cluster.inbox.clear()

    if how == "cancelled":
        cluster.ask(lambda number: ev.CancelJob(number, "c1", 1, "alice"))
    else:
        cluster.detach(volunteer)
        volunteer.boot_id = "another"
        volunteer.held.clear()
        cluster.attach(volunteer)
    cluster.deliver()

    assert (type(cluster.replies[call]), cluster.replies[call].reason) == (Ended, "ATTEMPT_ENDED")
    assert volunteer.dropped == []


def test_nothing_is_dropped_where_there_is_no_server_that_runs() -> None:
    """A job that has ended, one without a server, one whose volunteer is away: each says so."""
    cluster = running(1)
    volunteer, _ = cluster.holder("master")
    cluster.detach(volunteer)
    assert dropped(cluster).reason == "VOLUNTEER_AWAY"
    cluster.attach(volunteer)
    cluster.exit("master")
    assert dropped(cluster, request_id="r2").reason == "JOB_NOT_RUNNING"

    without = Cluster()
    without.volunteer()
    without.submit(1, sync_server=NO_SYNC)
    without.deliver()
    assert dropped(without).reason == "NO_SYNC_SERVER"


def test_a_drop_stands_in_the_audit_log() -> None:
    """With who asked for it, and what."""
    cluster = running(2)
    origin = Origin(Caller("alice", UserRole.STUDENT, TokenScope.ALL, "", "t1"), "::1")

    cluster.call(lambda call: ev.DropBarriers(call, "r1", 1, "start", origin))

    lines = [save for step in cluster.steps for save in step.saves if isinstance(save, AuditRecord)]
    assert [(line.who, line.method, line.subject, line.job_id) for line in lines if line.who == "alice"][
        -1
    ] == ("alice", "DropBarriers", "job 1, barrier 'start'", 1)
