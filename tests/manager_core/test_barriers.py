"""Where a job's sync server is, and what becomes of what it tells."""

from __future__ import annotations

import pytest
from manager_core.barrier_news import a_round, an_open_one
from manager_core.harness import CLIENT, Cluster, running
from manager_core.volunteer import SECOND
from syndicate.manager.core import effects as fx
from syndicate.manager.core.barriers import MOST_LINES, MOST_TROUBLES
from syndicate.manager.core.errors import BadRequest, Refused
from syndicate.manager.core.model import (
    NO_SYNC,
    BarrierNews,
)


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
