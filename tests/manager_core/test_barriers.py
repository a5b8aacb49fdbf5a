"""Where a job's sync server is, and what becomes of what it tells."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from manager_core.harness import CLIENT, Cluster, running
from manager_core.volunteer import SECOND
from syndicate.manager.core import effects as fx
from syndicate.manager.core import events as ev
from syndicate.manager.core.access import Caller, Origin
from syndicate.manager.core.barriers import MOST_DROPS, MOST_LINES, MOST_TROUBLES
from syndicate.manager.core.errors import BadRequest, Ended, NotFound, Refused, TooLate
from syndicate.manager.core.model import (
    NO_SYNC,
    AnswerCode,
    BarrierEnd,
    BarrierNews,
    BarrierRound,
    OpenBarrier,
    Stamp,
    TokenScope,
    UserRole,
)
from syndicate.manager.core.records import AuditRecord


def stamp(cluster: Cluster, ago_ns: int = 0) -> Stamp:
    """An instant on the clock of the volunteer that serves."""
    volunteer, _ = cluster.holder("master")
    return volunteer.stamp(cluster.ns - ago_ns)


def a_round(
    cluster: Cluster, name: str = "start", end: BarrierEnd = BarrierEnd.OPENED, rounds: int = 1
) -> BarrierRound:
    """The master initialised it for one, and one slave came."""
    began, ended = stamp(cluster, 1_500_000_000), stamp(cluster)
    inits, tasks = (("master", 1),), (("master", 1), ("slave-0", 1))
    return BarrierRound("start", BarrierEnd.OPENED, began, ended, 3, inits, tasks, 0, 0, rounds)


def an_open_one(cluster: Cluster) -> OpenBarrier:
    """The master waits for one."""
    return OpenBarrier("start", stamp(cluster), 1, (("master", 1),), (), 0, ("slave-0",), 0, False)


def told(cluster: Cluster) -> list[str]:
    """The story's lines about barriers."""
    return [line.text for line in cluster.job().story if line.event.startswith("barrier.")]


def prepares(cluster: Cluster) -> dict[str, fx.Prepare]:
    """What each member was prepared with."""
    found = {}
    for command in cluster.sent(fx.Prepare):
        assert isinstance(command.action, fx.Prepare)
        found[command.ref.task] = command.action
    return found


@pytest.mark.parametrize(
    ("clients", "wanted", "serves"),
    [
        (0, "", "master"),
        (2, "", "client-0"),
        (2, "client-1", "client-1"),
        (0, "slave-1", "slave-1"),
        (2, "master", "master"),
    ],
)
def test_one_member_serves_and_all_know_its_address(clients: int, wanted: str, serves: str) -> None:
    """By default the first client, else the master."""
    cluster = Cluster()
    cluster.heartbeat(cluster.volunteer(slots=8))
    cluster.submit(3, clients, client=CLIENT if clients else None, sync_server=wanted)
    cluster.deliver()

    found = prepares(cluster)

    assert cluster.job().job.spec.sync_server == serves
    assert [task for task, prepare in found.items() if prepare.serve_sync] == [serves]
    assert {prepare.sync_server for prepare in found.values()} == {f"{cluster.address(serves)}:16534"}


def test_a_job_may_have_none() -> None:
    """Nobody serves, and nobody is told of a server."""
    cluster = Cluster()
    cluster.heartbeat(cluster.volunteer())
    cluster.submit(2, sync_server=NO_SYNC)
    cluster.deliver()

    assert {(one.sync_server, one.serve_sync) for one in prepares(cluster).values()} == {("", False)}
    with pytest.raises(Refused, match="without a sync server"):
        cluster.machine.barriers(1)


@pytest.mark.parametrize(
    "wanted",
    ["slave-1", "client-0", "slave-", "slave--1", "slave-01", "slave-²", "Master", "x", "slave-" + "9" * 99],
)
def test_who_is_not_a_member_cannot_serve(wanted: str) -> None:
    """Refused before the job waits."""
    cluster = Cluster()
    cluster.heartbeat(cluster.volunteer())

    refused = cluster.try_submit(2, sync_server=wanted)

    assert isinstance(refused, BadRequest)
    assert refused.metadata["field"] == "sync_server"


def test_a_round_is_a_line_of_the_story() -> None:
    """When it ended, how long it took, who initialised it, who was there, and the error."""
    cluster = running(2)

    number = cluster.tell_barriers("master", BarrierNews((a_round(cluster),), total=1))

    details = "master initialised it for 1; there were master, slave-0; error 3"
    assert told(cluster) == [f"barrier 'start' opened after 1.5 s: {details}"]
    assert cluster.acked[-1][1] == number


def test_news_that_come_again_mean_nothing() -> None:
    """They are acknowledged all the same."""
    cluster = running(2)
    news = BarrierNews((a_round(cluster),), total=1)
    number = cluster.tell_barriers("master", news, event_id=77)

    cluster.tell_barriers("master", news, event_id=number)

    assert len(told(cluster)) == 1
    assert [acked for _, acked in cluster.acked if acked == number] == [number] * 2


def test_news_that_come_again_after_a_restart_write_no_line_twice() -> None:
    """The manager died before its acknowledgement was heard; what is open it learns again."""
    cluster = running(2)
    news = BarrierNews((a_round(cluster),), total=1, open=(an_open_one(cluster),))
    number = cluster.tell_barriers("master", news, event_id=77)
    cluster.restart()
    for volunteer in cluster.volunteers.values():
        cluster.attach(volunteer)

    cluster.tell_barriers("master", news, event_id=number)

    assert len(told(cluster)) == 1
    assert [one.barrier for one in cluster.machine.barriers(1).open] == ["start"]


def test_only_the_member_that_serves_is_believed() -> None:
    """Another's volunteer tells nothing of barriers."""
    cluster = running(2)

    cluster.tell_barriers("slave-0", BarrierNews((a_round(cluster),), total=1))

    assert told(cluster) == []


def test_what_is_open_can_be_asked() -> None:
    """As the server told last, with who is missing."""
    cluster = running(2)
    assert cluster.machine.barriers(1).as_of is None

    cluster.tell_barriers("master", BarrierNews((), 41, (an_open_one(cluster),), 2))

    found = cluster.machine.barriers(1)
    assert (found.server, found.member) == (f"{cluster.address('master')}:16534", "master")
    assert [(one.barrier, one.remaining, one.missing) for one in found.open] == [("start", 1, ("slave-0",))]
    assert (found.more, found.rounds) == (2, 41)
    assert found.as_of is not None


def test_what_is_open_is_current_as_long_as_its_volunteer_is_heard() -> None:
    """Nothing need happen at a barrier for that: a heartbeat says as much."""
    cluster = running(2)
    cluster.heartbeat(cluster.holder("master")[0])
    cluster.advance(1)
    cluster.tell_barriers("master", BarrierNews((), 0, (an_open_one(cluster),)))
    told_at = cluster.machine.barriers(1).current_at
    assert told_at is not None and told_at == cluster.machine.barriers(1).as_of

    cluster.advance(60)

    found = cluster.machine.barriers(1)
    assert found.as_of == told_at and not found.away
    assert found.current_at is not None
    assert cluster.ns - found.current_at.monotonic_ns <= 5 * SECOND


def test_what_is_open_is_as_old_as_its_volunteer_is_away() -> None:
    """Also just after it came back: a Hello tells nothing of barriers, what follows it does."""
    cluster = running(2)
    volunteer, _ = cluster.holder("master")
    cluster.tell_barriers("master", BarrierNews((), 0, (an_open_one(cluster),)))
    cluster.heartbeat(volunteer)
    heard = cluster.now
    cluster.detach(volunteer)
    cluster.advance(8)

    found = cluster.machine.barriers(1)
    assert (found.current_at, found.away) == (heard, True)
    assert [one.barrier for one in found.open] == ["start"]

    cluster.attach(volunteer)
    found = cluster.machine.barriers(1)
    assert (found.current_at, found.away) == (found.as_of, False)

    cluster.heartbeat(volunteer)
    assert cluster.machine.barriers(1).current_at == cluster.now


def test_after_a_restart_nothing_is_known_of_barriers() -> None:
    """Until their volunteer is back; that none is listed does not mean then that none is open."""
    cluster = running(2)
    cluster.tell_barriers("master", BarrierNews((), 0, (an_open_one(cluster),)))

    cluster.restart()

    found = cluster.machine.barriers(1)
    assert (found.as_of, found.current_at, found.away, found.open) == (None, None, True, ())


def test_a_job_that_has_ended_has_no_barriers() -> None:
    """Nor has one that waits."""
    cluster = running(1)
    cluster.exit("master")

    with pytest.raises(Refused, match="SUCCEEDED"):
        cluster.machine.barriers(1)


def test_a_million_rounds_do_not_fill_the_story() -> None:
    """So many lines, one that says that there are more, and at the end how many there were."""
    cluster = running(2)
    total = 0
    for _ in range(MOST_LINES):
        total += 64
        cluster.tell_barriers("master", BarrierNews((a_round(cluster),) * 64, total))
    cluster.tell_barriers("master", BarrierNews((), total, last=True))

    lines = told(cluster)
    assert len(lines) == MOST_LINES + 2
    assert lines[-2] == "further rounds of barriers are counted, and not listed"
    assert lines[-1] == f"{total:,} rounds of barriers in all"


def test_rounds_that_ended_alike_are_one_line() -> None:
    """With their number, and the time that they took together."""
    cluster = running(2)

    cluster.tell_barriers("master", BarrierNews((a_round(cluster, rounds=900),), 900))

    assert told(cluster)[0].startswith("barrier 'start' opened 900 times within 1.5 s: ")


def test_a_server_that_failed_is_told() -> None:
    """What was open is not any more."""
    cluster = running(2)
    cluster.tell_barriers("master", BarrierNews((), 0, (an_open_one(cluster),)))

    cluster.tell_barriers("master", BarrierNews(trouble="the sync server ended by itself"))

    assert told(cluster) == ["the sync server ended by itself"]
    assert cluster.machine.barriers(1).open == ()


def test_a_server_that_fails_all_the_time_does_not_fill_the_story() -> None:
    """So many lines, of which the last one says so, and rounds have their own room."""
    cluster = running(2)

    for _ in range(3 * MOST_TROUBLES):
        cluster.tell_barriers("master", BarrierNews(trouble="it ended"))
    cluster.tell_barriers("master", BarrierNews((a_round(cluster),) * (MOST_LINES + 1), MOST_LINES + 1))

    lines = told(cluster)
    assert lines[:MOST_TROUBLES] == [
        *["it ended"] * (MOST_TROUBLES - 1),
        "it ended; what fails after this is not listed",
    ]
    assert len(lines) == MOST_TROUBLES + MOST_LINES + 1


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
