"""``barriers``: which are open, who waits, who is missing."""

from __future__ import annotations

import json

import pytest
from syndicate.cli.failure import explain
from syndicate.cli.render.barriers import barrier_lines
from syndicate.cli.render.follow import FollowView
from syndicate.client_api import SchedulerError
from syndicate.client_api._errors import Failure
from syndicate.v1 import scheduler_pb2 as scheduler
from syndicate.v1.common_pb2 import BarrierTask, OpenBarrier

from tests.cli.conftest import Ctl
from tests.cli.fake_identity import NOW_S, stamp
from tests.cli.fake_scheduler import FakeManager, ended_job, running_job


def an_open_one(**fields: object) -> OpenBarrier:
    """The master waits for two, of whom one came."""
    found = OpenBarrier(
        barrier="start",
        since=stamp(NOW_S - 1.5),
        remaining=1,
        inits=[BarrierTask(task="master", count=2)],
        tasks=[BarrierTask(task="slave-0", count=1)],
        missing=["slave-1", "client-0"],
    )
    found.MergeFrom(OpenBarrier(**fields))  # type: ignore[arg-type]  # as the test names them
    return found


def answer(*barriers: OpenBarrier, more: int = 0) -> scheduler.ListBarriersResponse:
    """What the manager says."""
    return scheduler.ListBarriersResponse(
        server="10.77.0.4:16534",
        member="client-0",
        barriers=barriers,
        more=more,
        rounds=41,
        as_of=stamp(NOW_S),
    )


def test_an_open_barrier_is_told_with_who_is_missing(ctl: Ctl, manager: FakeManager) -> None:
    """The server, and of each barrier how many are missing, who initialised it, who waits and who not."""
    manager.scheduler.jobs[12] = running_job(12)
    manager.scheduler.barriers = answer(an_open_one())

    assert ctl("barriers", "12").out.splitlines() == [
        "sync server  10.77.0.4:16534 on client-0; 41 rounds ended so far",
        "",
        "start   1 missing   open for 1.5 s",
        "  initialised  master (for 2)",
        "  waiting      slave-0",
        "  not there    slave-1, client-0",
    ]


@pytest.mark.parametrize(
    ("age", "away", "said"),
    [
        (0.9, False, []),
        (4.2, False, ["as of 4.2 s ago"]),
        (0.9, True, ["as of 900 ms ago: its volunteer is away"]),
        (75, True, ["as of 1 min 15 s ago: its volunteer is away"]),
    ],
)
def test_how_old_that_is_is_told(
    ctl: Ctl, manager: FakeManager, age: float, away: bool, said: list[str]
) -> None:
    """Below the server, where it is older than a second or nothing newer comes; in JSON always."""
    manager.scheduler.jobs[12] = running_job(12)
    found = answer(an_open_one(since=stamp(NOW_S - 100)))
    found.current_at.CopyFrom(stamp(NOW_S - age))
    found.away = away
    manager.scheduler.barriers = found

    lines = ctl("barriers", "12").out.splitlines()
    told = ctl("barriers", "12", "--json").document

    assert lines[1 : lines.index("")] == said
    assert "start   1 missing   open for 1 min 40 s" in lines
    assert (told["age_s"], told["away"]) == (pytest.approx(age), away)
    assert told["current_at"]["monotonic_ns"] == found.current_at.monotonic_ns


def test_where_nothing_is_known_no_barrier_is_called_closed(ctl: Ctl, manager: FakeManager) -> None:
    """The manager was started again, and the volunteer of the server is not back yet."""
    manager.scheduler.jobs[12] = running_job(12)
    manager.scheduler.barriers = scheduler.ListBarriersResponse(
        server="10.77.0.4:16534", member="client-0", away=True
    )

    assert ctl("barriers", "12").out.splitlines() == [
        "sync server  10.77.0.4:16534 on client-0; what is open is not known: its volunteer is away"
    ]
    assert ctl("barriers", "12", "--json").document["age_s"] is None


def test_an_older_manager_does_not_tell_how_old_it_is(ctl: Ctl, manager: FakeManager) -> None:
    """Then nothing is made up."""
    manager.scheduler.jobs[12] = running_job(12)
    manager.scheduler.barriers = answer()

    assert not any("as of" in line for line in ctl("barriers", "12").out.splitlines())
    assert ctl("barriers", "12", "--json").document["age_s"] is None


def test_who_initialised_without_waiting_is_told_apart(ctl: Ctl, manager: FakeManager) -> None:
    """Nobody looks for it among those who wait."""
    manager.scheduler.jobs[12] = running_job(12)
    manager.scheduler.barriers = answer(an_open_one(held=[BarrierTask(task="slave-2", count=3)]))

    ended = ctl("barriers", "12")

    assert "  initialised  master (for 2), slave-2 (for 3, without waiting)" in ended.out.splitlines()
    told = ctl("barriers", "12", "--json").document
    assert told["barriers"][0]["held"] == [{"task": "slave-2", "count": 3}]


def test_barriers_in_json(ctl: Ctl, manager: FakeManager) -> None:
    """All fields, and the job."""
    manager.scheduler.jobs[12] = running_job(12)
    manager.scheduler.barriers = answer(an_open_one())

    told = ctl("barriers", "12", "--json").document

    assert (told["job_id"], told["server"], told["member"]) == (12, "10.77.0.4:16534", "client-0")
    assert told["barriers"][0]["missing"] == ["slave-1", "client-0"]
    assert json.dumps(told)


def test_where_nobody_waits_that_is_told(ctl: Ctl, manager: FakeManager) -> None:
    """The server all the same."""
    manager.scheduler.jobs[12] = running_job(12)
    manager.scheduler.barriers = answer()

    assert ctl("barriers", "12").out.splitlines()[-1] == "no barrier is open"


def test_a_job_that_is_not_there_is_66(ctl: Ctl) -> None:
    """As with every command about a job."""
    assert ctl("barriers", "99").code == 66


@pytest.mark.parametrize(
    ("reason", "next_step"), [("JOB_NOT_RUNNING", "syndicatectl show"), ("NO_SYNC_SERVER", "--sync-server")]
)
def test_a_job_without_barriers_is_refused_with_the_next_step(reason: str, next_step: str) -> None:
    """It is nobody's internal error that a job has ended, or has no server."""
    told = explain(SchedulerError("job 1 is SUCCEEDED", Failure("FAILED_PRECONDITION", reason=reason)))

    assert told.code == 65 and next_step in told.text()


def test_waiters_before_the_init_and_abandoned_barriers() -> None:
    """The count says so in words; those that have no room are counted."""
    early = an_open_one(remaining=-3, others=4, more_missing=7)
    left = an_open_one(barrier="gone", abandoned=True)

    lines = barrier_lines(answer(early, left, more=2), stamp(NOW_S))

    assert "start   not initialised yet, 3 waiting   open for 1.5 s" in lines
    assert "  waiting      slave-0, 4 more" in lines
    assert "  not there    slave-1, client-0, 7 more" in lines
    assert lines[-1] == "and 2 more barriers"


def told_job() -> scheduler.Job:
    """One that runs, with a server, of whose barriers one has opened."""
    job = running_job(12)
    job.spec.sync_server = "client-0"
    job.story.append(
        scheduler.StoryLine(
            at=stamp(1.9),
            event="barrier.opened",
            text="barrier 'start' opened after 1.5 s: master initialised it for 2",
            attempt=1,
        )
    )
    return job


def test_show_says_where_the_server_is(ctl: Ctl, manager: FakeManager) -> None:
    """Below the members: on whose slot, at which address, and what lists the barriers that are open."""
    manager.scheduler.jobs[12] = told_job()

    lines = ctl("show", "12").out.splitlines()

    assert "barriers   on client-0, 10.77.0.14:16534   syndicatectl barriers 12" in lines
    assert lines.index("members") < next(at for at, line in enumerate(lines) if line.startswith("barriers"))
    assert ctl("show", "12", "--json").document["spec"]["sync_server"] == "client-0"


def test_show_of_a_job_that_has_ended_lists_no_open_barriers(ctl: Ctl, manager: FakeManager) -> None:
    """Where they were is told all the same."""
    job = ended_job(12)
    job.spec.sync_server = "master"
    manager.scheduler.jobs[12] = job

    assert "barriers   on master, 10.77.0.11:16534" in ctl("show", "12").out.splitlines()


@pytest.mark.parametrize("server", ["", "none"])
def test_show_of_a_job_without_a_server_has_no_line_of_it(
    ctl: Ctl, manager: FakeManager, server: str
) -> None:
    """Neither of one that was submitted so, nor of an older manager's."""
    job = ended_job(12)
    job.spec.sync_server = server
    manager.scheduler.jobs[12] = job

    assert not any(line.startswith("barriers") for line in ctl("show", "12").out.splitlines())


def test_follow_tells_what_becomes_of_barriers() -> None:
    """A line for each round, once, at the time at which it ended."""
    view = FollowView()
    view.see(running_job(12))

    assert view.see(told_job()) == [
        "  1.90 s   barrier   'start' opened after 1.5 s: master initialised it for 2"
    ]
    assert view.see(told_job()) == []


def test_follow_tells_of_barriers_of_this_attempt_alone() -> None:
    """A job that was queued again begins anew."""
    view = FollowView()
    again = told_job()
    again.attempt = 2

    lines = view.see(again)

    assert not any("'start'" in line for line in lines)


def test_follow_tells_of_a_server_that_failed() -> None:
    """And of rounds that are counted alone: whatever the story has about barriers."""
    view = FollowView()
    view.see(running_job(12))
    job = told_job()
    job.story[-1].event, job.story[-1].text = "barrier.trouble", "the sync server ended by itself"

    assert view.see(job) == ["  1.90 s   barrier   the sync server ended by itself"]


def test_a_barriers_name_cannot_steer_a_terminal() -> None:
    """It is the job's own word."""
    lines = barrier_lines(answer(an_open_one(barrier="\x1b[2J")), stamp(NOW_S))

    job = told_job()
    job.story[-1].text = "barrier '\x1b[2J' opened"
    lines += FollowView().see(job)
    assert not any("\x1b" in line for line in lines)


def test_one_barrier_is_dropped(ctl: Ctl, manager: FakeManager) -> None:
    """By its name, and what becomes of those who wait is said."""
    manager.scheduler.jobs[12] = running_job(12)

    ended = ctl("barriers", "12", "--drop", "start")

    assert manager.scheduler.dropped == ["start"]
    assert ended.out == "job 12     barrier 'start' dropped: who waited there gets 240\n"


def test_a_barrier_that_is_not_there_is_66(ctl: Ctl, manager: FakeManager) -> None:
    """With what the manager knows of those that are, and what lists them."""
    manager.scheduler.jobs[12] = running_job(12)
    manager.scheduler.droppable = 0

    ended = ctl("barriers", "12", "--drop", "strat")

    assert (ended.code, ended.out) == (66, "")
    assert ended.err.splitlines() == [
        "error: job 12 has no barrier 'strat': none is open",
        "  Which are there?  syndicatectl barriers JOB",
    ]


@pytest.mark.parametrize(
    ("droppable", "said"),
    [
        (0, "there was no barrier to drop"),
        (1, "1 barrier dropped: who waited there gets 240"),
        (3, "3 barriers dropped: who waited there gets 240"),
        (None, "the sync server is told to drop all barriers: who waits there gets 240"),
    ],
)
def test_how_many_were_dropped_is_told(
    ctl: Ctl, manager: FakeManager, droppable: int | None, said: str
) -> None:
    """As far as the volunteer can say; none is no error where all were to be."""
    manager.scheduler.jobs[12] = running_job(12)
    manager.scheduler.droppable = droppable

    ended = ctl("barriers", "12", "--drop-all")

    assert (ended.code, ended.out) == (0, f"job 12     {said}\n")


def test_all_barriers_are_dropped(ctl: Ctl, manager: FakeManager) -> None:
    """An empty name stands for them on the wire, null in JSON."""
    manager.scheduler.jobs[12] = running_job(12)

    ended = ctl("barriers", "12", "--drop-all", "--json")

    assert manager.scheduler.dropped == [""]
    assert ended.document == {"job_id": 12, "dropping": None, "dropped": 1}


@pytest.mark.parametrize("words", [("--drop", "start", "--drop-all"), ("--drop", "")])
def test_what_is_to_be_dropped_is_said_once(ctl: Ctl, manager: FakeManager, words: tuple[str, ...]) -> None:
    """Never all by mistake."""
    manager.scheduler.jobs[12] = running_job(12)

    assert ctl("barriers", "12", *words).code == 64
    assert manager.scheduler.dropped == []
