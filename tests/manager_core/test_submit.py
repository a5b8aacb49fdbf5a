"""Submit, cancel, and what a job that waits is told."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from manager_core.harness import CLIENT, SOURCE, Cluster, running
from syndicate.manager.core import effects as fx
from syndicate.manager.core import events as ev
from syndicate.manager.core import stopping
from syndicate.manager.core.errors import BadRequest, Exhausted, NotFound, Refused
from syndicate.manager.core.machine import Machine
from syndicate.manager.core.model import JobState, NodeState, Reason, Source


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"machines": 0}, "machines"),
        ({"machines": -3}, "machines"),
        ({"clients": -1, "client": CLIENT}, "clients"),
        ({"clients": 2, "client": None}, "clients"),
        ({"time_limit_s": -1.0}, "time_limit_s"),
        ({"time_limit_s": 86_401.0}, "time_limit_s"),
        ({"time_limit_s": math.nan}, "time_limit_s"),
        ({"time_limit_s": math.inf}, "time_limit_s"),
        ({"name": "Lab 4"}, "name"),
        ({"name": "x" * 64}, "name"),
        ({"name": "x\n"}, "name"),
        ({"no_client": True, "client": CLIENT}, "no_client"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], field: str) -> None:
    """BAD_FIELD says which one, and nothing is queued."""
    cluster = Cluster()
    cluster.volunteer()
    error = cluster.try_submit(**fields)
    assert isinstance(error, BadRequest)
    assert (error.reason, error.metadata["field"]) == ("BAD_FIELD", field)
    assert cluster.jobs() == []


def test_defaults_are_filled_in() -> None:
    """Time limit, name and the manager's default client; a client's source alone means one client."""
    default = Source("d" * 64, 9)
    cluster = Cluster(default_client=default, default_clients=2)
    cluster.volunteer(slots=9)
    spec = cluster.job(cluster.submit(1, name="")).job.spec
    assert (spec.name, spec.client, spec.clients, spec.time_limit_s) == ("job-1", default, 2, 600.0)
    assert cluster.job(cluster.submit(1, client=CLIENT)).job.spec.clients == 1
    bare = cluster.job(cluster.submit(1, no_client=True)).job.spec
    assert (bare.client, bare.clients) == (None, 0)


def test_clients_0_means_no_client_at_all() -> None:
    """A spec has a client exactly where it has clients."""
    cluster = Cluster()
    cluster.volunteer()
    spec = cluster.job(cluster.submit(1, 0, client=CLIENT)).job.spec
    assert (spec.client, spec.clients) == (None, 0)


def test_a_repeated_request_gets_the_first_answer() -> None:
    """One request id, one job; also after a restart of the manager."""
    cluster = Cluster()
    cluster.volunteer()
    first = cluster.submit(request_id="again")
    assert cluster.submit(request_id="again") == first
    cluster.restart()
    assert cluster.submit(request_id="again") == first
    assert len(cluster.jobs()) == 1


def test_the_request_of_a_live_job_is_never_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many jobs come and end after it, a repeat gets it; those that ended are forgotten in turn."""
    monkeypatch.setattr(stopping, "REMEMBERED_SUBMITS", 2)
    cluster = Cluster()
    cluster.volunteer(slots=2)
    long = cluster.submit(1, request_id="long")
    for name in ("a", "b", "c"):
        job_id = cluster.submit(1, request_id=name)
        cluster.deliver()
        cluster.exit("master", job_id=job_id)
    assert cluster.submit(1, request_id="long") == long
    assert cluster.submit(1, request_id="b") == 3
    assert cluster.submit(1, request_id="a") == 5


def test_the_requests_of_jobs_that_only_the_store_has_are_known_after_a_restart() -> None:
    """A repeat gets its job though no row of it came back; another owner gets nothing."""
    cluster = Cluster()
    cluster.volunteer()
    row = cluster.job(cluster.submit(1)).job
    requests = [("old", 3, "alice")]
    cluster.machine = Machine.restore(cluster.config, [replace(row, job_id=9)], cluster.now, requests)
    cluster.attach(cluster.volunteers["node-a"])
    assert cluster.submit(1, request_id="old") == 3
    assert isinstance(cluster.try_submit(1, request_id="old", owner="bob"), BadRequest)


def test_a_request_id_of_somebody_else_tells_nothing() -> None:
    """Another owner neither gets the job nor makes a second one."""
    cluster = Cluster()
    cluster.volunteer()
    cluster.submit(request_id="mine")
    assert isinstance(cluster.try_submit(request_id="mine", owner="bob"), BadRequest)


def test_without_any_volunteer_a_job_is_refused_with_the_remedy() -> None:
    """NO_SLOTS, and how to start one."""
    error = Cluster().try_submit()
    assert isinstance(error, Refused)
    assert error.reason == "NO_SLOTS"
    assert "syndicatectl up" in error.metadata["hint"]


def test_too_large_a_job_is_refused_with_what_fits() -> None:
    """The sentence says what the cluster has, the hint what fits now and after a resume."""
    cluster = Cluster()
    for name, slots in (("node-a", 4), ("node-b", 4), ("node-c", 2)):
        cluster.volunteer(name, slots)
    cluster.call(lambda n: ev.DrainNode(n, "d", "node-c", True))
    error = cluster.try_submit(40)
    assert isinstance(error, Refused)
    assert error.detail == "40 machines asked for, the cluster has 10 slots (2 of them drained)"
    assert error.metadata == {
        "slots": "10",
        "largest_machines": "8",
        "hint": "At most -n 8 fits now, -n 10 after `syndicatectl node resume node-c`",
    }


def test_a_hint_names_a_few_volunteers_and_counts_the_others() -> None:
    """A cluster that is drained whole does not fill the screen with its names."""
    cluster = Cluster()
    for number in range(6):
        cluster.volunteer(f"node-{number}", 1)
    for number in range(1, 6):
        cluster.call(lambda n, number=number: ev.DrainNode(n, f"d{number}", f"node-{number}", True))  # type: ignore[misc]
    assert cluster.try_submit(3).metadata["hint"] == (
        "At most -n 1 fits now, -n 6 after `syndicatectl node resume node-1 node-2 node-3` and 2 more"
    )


def test_clients_take_slots_too() -> None:
    """The largest number of machines leaves room for the clients."""
    cluster = Cluster()
    cluster.volunteer(slots=4)
    error = cluster.try_submit(4, 1)
    assert error.detail == "4 machines and 1 client asked for, the cluster has 4 slots"
    assert error.metadata["largest_machines"] == "3"
    assert cluster.try_submit(1, 9).metadata["hint"] == "Nothing fits now"


def test_a_gang_must_fit_into_one_domain() -> None:
    """Slots that cannot reach each other do not add up."""
    cluster = Cluster()
    cluster.volunteer("node-a", 4, domain="east")
    cluster.volunteer("node-b", 3, domain="west")
    error = cluster.try_submit(5)
    assert error.detail == "5 machines asked for, the cluster has 7 slots, 4 of them can reach each other"
    assert error.metadata["largest_machines"] == "4"


def test_more_than_a_job_may_have_is_refused() -> None:
    """The operator's bound holds however large the cluster is."""
    cluster = Cluster(max_slots_per_job=5)
    cluster.volunteer(slots=9)
    assert cluster.try_submit(5, 1).metadata["largest_machines"] == "4"


def test_volunteers_that_are_away_count_as_capacity() -> None:
    """Neither a lost stream nor a restart of the manager makes it refuse jobs."""
    cluster = Cluster()
    cluster.volunteer(slots=4)
    cluster.restart()
    job_id = cluster.submit(4)
    assert cluster.waits_for(job_id) == "4 of 4 slots (node-a is away)"


def test_a_job_that_waits_for_drained_volunteers_says_so() -> None:
    """Who is drained, and the command that ends it, beside who is away; nothing of it once it can wait."""
    cluster = running(4, slots=4)
    waiting = cluster.submit(2)
    cluster.ask(lambda call: ev.DrainNode(call, "drain", "node-a", True))
    assert cluster.waits_for(waiting) == (
        "2 of 2 slots (node-a is drained, until `syndicatectl node resume node-a`)"
    )
    cluster.ask(lambda call: ev.DrainNode(call, "resume", "node-a", False))
    assert cluster.waits_for(waiting) == "2 of 2 slots (job 1 ends in at most 10 min)"


def test_a_submit_can_be_checked_without_its_sources() -> None:
    """What would be refused is refused by the check too, and the check queues nothing."""
    cluster = Cluster()
    cluster.volunteer(slots=4)
    wanted = ev.SubmitJob(call=0, request_id="r", owner="alice", name="", source=SOURCE, machines=4)
    cluster.machine.check_submit(wanted)
    assert not cluster.jobs()
    for wrong, error in (
        ({"machines": 5}, Refused), ({"name": "No"}, BadRequest), ({"time_limit_s": 1e9}, BadRequest),
    ):  # fmt: skip
        with pytest.raises(error):
            cluster.machine.check_submit(replace(wanted, **wrong))


def test_a_full_queue_says_so() -> None:
    """QUEUE_FULL, and the next one that ends makes room."""
    cluster = Cluster(max_queued=1)
    cluster.volunteer(slots=1)
    cluster.submit(1)
    waiting = cluster.submit(1)
    error = cluster.try_submit(1)
    assert isinstance(error, Exhausted)
    assert error.reason == "QUEUE_FULL"
    cluster.call(lambda n: ev.CancelJob(n, "c", waiting, "alice"))
    cluster.submit(1)


def test_a_job_is_saved_in_the_step_that_answers() -> None:
    """The row is in the saves of the reply's step, in the state that it has then."""
    cluster = Cluster()
    cluster.volunteer(slots=1)
    cluster.submit(1)
    cluster.submit(1)
    [row] = [record for record in cluster.steps[-1].saves if record == cluster.job(2).job]
    assert row.state is JobState.QUEUED
    assert fx.Changed(2) in cluster.steps[-1].effects


def test_a_waiting_job_says_its_place_and_for_what_it_waits() -> None:
    """Place, length, missing slots and the end of the job that holds them."""
    cluster = running(4, slots=6)
    cluster.advance(350)
    waiting, behind = cluster.submit(5, owner="bob"), cluster.submit(2, owner="carol", time_limit_s=700)
    view = cluster.job(waiting)
    assert (view.queue_place, view.queue_length) == (1, 2)
    assert cluster.waits_for(waiting) == "3 of 5 slots (job 1 ends in at most 4 min 10 s)"
    assert cluster.waits_for(behind) == f"its turn: job {waiting} goes first"
    assert [(row.job.job_id, row.queue_place) for row in cluster.jobs()] == [(3, 2), (2, 1), (1, 0)]


def test_waiting_jobs_of_several_owners_take_turns() -> None:
    """Of four jobs of one owner and one of another, the other's is second to start."""
    cluster = Cluster()
    cluster.volunteer(slots=1)
    jobs = [cluster.submit(1, owner="alice") for _ in range(4)]
    other = cluster.submit(1, owner="bob")
    order = []
    for _ in range(5):
        cluster.deliver()
        [now] = [view.job.job_id for view in cluster.jobs() if view.job.state is JobState.RUNNING]
        order.append(now)
        cluster.exit("master", job_id=now)
    assert order == [jobs[0], other, *jobs[1:]]


def test_a_short_job_passes_a_large_one_and_a_long_one_does_not() -> None:
    """Backfill through the whole machine: only what is over before the head's time."""
    cluster = running(4, slots=6)
    head = cluster.submit(6, owner="bob")
    long = cluster.submit(2, owner="carol", time_limit_s=601)
    short = cluster.submit(2, owner="dave", time_limit_s=599)
    cluster.deliver()
    assert [cluster.state(job) for job in (head, long, short)] == [
        JobState.QUEUED,
        JobState.QUEUED,
        JobState.RUNNING,
    ]


def test_cancelling_the_head_lets_the_next_one_in() -> None:
    """The job behind it need not wait for another event."""
    cluster = running(4, slots=6)
    head, behind = cluster.submit(6), cluster.submit(2, time_limit_s=700)
    cluster.call(lambda n: ev.CancelJob(n, "c", head, "alice"))
    cluster.deliver()
    assert cluster.state(behind) is JobState.RUNNING


def test_cancelling_says_the_state_and_ends_the_job() -> None:
    """A queued job is CANCELLED at once, a running one by way of STOPPING, an ended one stays as it is."""
    cluster = running(2, slots=2)
    waiting = cluster.submit(2)

    def cancel(job_id: int) -> JobState:
        reply = cluster.ask(lambda n: ev.CancelJob(n, f"cancel-{n}", job_id, "staff"))
        assert isinstance(reply, fx.CancelReply)
        return reply.state

    assert cancel(waiting) is JobState.CANCELLED
    assert cancel(1) is JobState.STOPPING
    cluster.deliver()
    assert cancel(1) is JobState.CANCELLED
    assert (cluster.job(1).job.reason, cluster.job(1).job.detail) == (Reason.CANCELLED, "cancelled by staff")


def test_a_repeated_cancel_or_drain_does_not_undo_what_came_after() -> None:
    """The first answer again; the same id for something else is refused."""
    cluster = running(1)

    def drain(request_id: str, draining: bool) -> object:
        return cluster.ask(lambda n: ev.DrainNode(n, request_id, "node-a", draining))

    first = drain("one", True)
    drain("other", False)
    assert drain("one", True) == first == fx.DrainReply(NodeState.DRAINED)
    assert cluster.machine.nodes()[0].state is NodeState.READY
    assert isinstance(drain("one", False), BadRequest)

    stopping_now = cluster.ask(lambda n: ev.CancelJob(n, "cancel", 1, "alice"))
    cluster.deliver()
    assert cluster.state() is JobState.CANCELLED
    assert cluster.ask(lambda n: ev.CancelJob(n, "cancel", 1, "alice")) == stopping_now


def test_cancelling_an_unknown_job_is_not_found() -> None:
    """NO_SUCH_JOB."""
    error = Cluster().ask(lambda n: ev.CancelJob(n, "c", 7, "alice"))
    assert isinstance(error, NotFound)
    assert error.reason == "NO_SUCH_JOB"


def test_only_the_last_ended_jobs_are_kept() -> None:
    """`keep_ended` bounds what is in memory; a repeated Submit is still known."""
    cluster = Cluster(keep_ended=2)
    cluster.volunteer(slots=1)
    first = cluster.submit(1, request_id="first")
    for job_id in (first, *[cluster.submit(1, source=SOURCE) for _ in range(3)]):
        cluster.deliver()
        cluster.exit("master", job_id=job_id)
    assert [job_id for job_id in (1, 2, 3, 4) if cluster.machine.job(job_id)] == [3, 4]
    assert cluster.machine.job(first) is None
    assert cluster.machine.story(first) == "job 1: not in memory"
    assert cluster.submit(1, request_id="first") == first


@pytest.mark.parametrize("until", ["drained", "away"])
def test_a_job_that_loses_what_is_not_synced_needs_machines_that_can(until: str) -> None:
    """It may come to any volunteer: one that cannot refuses it, with the reason, while it may be used."""
    cluster = Cluster()
    cluster.volunteer("node-a")
    poor = cluster.volunteer("node-b")
    poor.capabilities = tuple(each for each in poor.capabilities if each != "lose-unsynced")
    poor.cannot = (("lose-unsynced", "there are no loop devices here"),)
    cluster.attach(poor)

    error = cluster.try_submit(lose_unsynced=True)
    assert isinstance(error, Refused)
    assert error.reason == "CANNOT"
    assert "node-b" in error.detail
    assert "there are no loop devices here" in error.detail
    assert "node drain node-b" in error.metadata["hint"]

    if until == "drained":
        cluster.call(lambda n: ev.DrainNode(n, "d", "node-b", True))
    else:
        cluster.detach(poor)
    job_id = cluster.submit(lose_unsynced=True)
    assert cluster.job(job_id).job.spec.lose_unsynced
