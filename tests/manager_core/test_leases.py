"""A lease is the manager's: what has one is taken back when it runs out, whatever happens meanwhile."""

from __future__ import annotations

import itertools

import pytest
from manager_core.faults import done, done_at_all, fault_commands, refused
from manager_core.harness import Cluster, running
from syndicate.manager.core import effects as fx
from syndicate.manager.core import events as ev
from syndicate.manager.core.errors import BadRequest
from syndicate.manager.core.healing import MAX_LEASE_TRIES
from syndicate.manager.core.model import AnswerCode, FaultKind


def cut(cluster: Cluster, name: str = "slave-0") -> bool:
    """Whether a member is cut off."""
    return cluster.holder(name)[1].cut != ()


def test_a_lease_runs_from_when_it_held() -> None:
    """Then a line of the ledger says that it was taken back, by `lease`."""
    cluster = running(2, 1)
    cluster.heartbeat(cluster.volunteers["node-a"])
    done(cluster, cluster.fault("disconnect", cluster.address("slave-0"), lease_s=3.0))
    held_at = cluster.job().faults[0].applied_at_manager
    cluster.advance(2.9)
    assert cut(cluster)
    cluster.advance(0.2)
    line, heal = cluster.job().faults
    assert not cut(cluster)
    assert (line.lease_s, line.healed_by, heal.kind, heal.requested_by) == (
        3.0,
        "lease",
        FaultKind.HEAL,
        "lease",
    )
    assert held_at is not None
    assert line.healed_at_manager is not None
    assert line.healed_at_manager.monotonic_ns - held_at.monotonic_ns >= 3 * 10**9
    assert not cluster.is_cut("slave-0")


def test_each_member_of_a_call_has_its_own() -> None:
    """All of a partition are taken back; a line without a lease stays."""
    cluster = running(3, 1)
    done(cluster, cluster.fault("disconnect", cluster.address("master")))
    done_at_all(cluster, cluster.partition(("slave-0",), ("slave-1",), lease_s=1.0))
    cluster.advance(1.1)
    assert not cut(cluster, "slave-0")
    assert not cut(cluster, "slave-1")
    assert cut(cluster, "master")


def test_one_that_is_healed_before_is_not_healed_again() -> None:
    """Its lease means nothing any more, also to a later fault of the same kind."""
    cluster = running(2, 1)
    ip = cluster.address("slave-0")
    done(cluster, cluster.fault("disconnect", ip, lease_s=2.0))
    done(cluster, cluster.fault("reconnect", ip))
    done(cluster, cluster.fault("disconnect", ip))
    cluster.advance(5)
    assert cut(cluster)
    assert len(cluster.job().faults) == 3


def test_what_ends_by_itself_does_not_stand_for_what_does_not() -> None:
    """A Disconnect without a lease beside one with a lease has a line of its own, and outlasts it."""
    cluster = running(2, 1)
    ip = cluster.address("slave-0")
    done(cluster, cluster.fault("disconnect", ip, lease_s=2.0))
    assert not done(cluster, cluster.fault("disconnect", ip)).already
    cluster.advance(3)
    assert cut(cluster)


@pytest.mark.parametrize("away_s", [1.0, 5.0])
def test_a_manager_that_was_away_keeps_it(away_s: float) -> None:
    """One that ran out meanwhile is taken back at once, another when it runs out."""
    cluster = running(2, 1)
    done(cluster, cluster.fault("disconnect", cluster.address("slave-0"), lease_s=3.0))
    cluster.ns += int(away_s * 1e9)
    cluster.restart()
    cluster.attach(cluster.volunteers["node-a"])
    cluster.advance(0.001)
    assert cut(cluster) is (away_s < 3.0)
    cluster.advance(2.5)
    assert not cut(cluster)
    assert cluster.job().faults[0].healed_by == "lease"


def test_a_volunteer_that_is_away_is_told_when_it_is_back() -> None:
    """Under the name of the line that takes it back, once."""
    cluster = running(2, 1)
    volunteer = cluster.volunteers["node-a"]
    done(cluster, cluster.fault("disconnect", cluster.address("slave-0"), lease_s=1.0))
    cluster.detach(volunteer)
    cluster.advance(5)
    assert cut(cluster)
    cluster.attach(volunteer)
    cluster.deliver()
    assert not cut(cluster)
    assert len({command.command_id for command in fault_commands(cluster)}) == 2


def test_one_that_cannot_be_taken_back_is_tried_again() -> None:
    """Until it can."""
    cluster = running(2, 1)
    volunteer = cluster.volunteers["node-a"]
    done(cluster, cluster.fault("disconnect", cluster.address("slave-0"), lease_s=1.0))
    volunteer.refuse = lambda command: (AnswerCode.FAILED, "no")
    cluster.advance(2)
    assert cluster.job().faults[1].error == "no"
    volunteer.refuse = lambda command: None
    cluster.advance(16)
    assert not cut(cluster)


def test_one_that_can_never_be_taken_back_is_given_up() -> None:
    """After so many tries with ever longer pauses; the story says so once, and it can still be healed."""
    cluster = running(2, 1, default_time_limit_s=86_400.0)
    volunteer = cluster.volunteers["node-a"]
    done_at_all(cluster, cluster.partition(("master",), ("slave-0",), lease_s=1.0))
    volunteer.refuse = lambda command: (
        (AnswerCode.FAILED, "no") if isinstance(command.action, fx.SetNetwork) else None
    )
    for _ in range(120):
        cluster.advance(30)
    tries = [line for line in cluster.job().faults if line.requested_by == "lease"]
    assert [line.task for line in tries].count("slave-0") == MAX_LEASE_TRIES
    begun = [line.requested_at.monotonic_ns for line in tries if line.task == "slave-0"]
    pauses = [later - earlier for earlier, later in itertools.pairwise(begun)]
    assert pauses == sorted(pauses)
    assert pauses[-1] >= 600 * 10**9
    told = [line for line in cluster.job().story if line.event == "lease.stuck"]
    assert sorted(line.task for line in told) == ["master", "slave-0"]
    assert "10 tries to take it back failed: no" in told[0].text

    volunteer.refuse = lambda command: None
    done_at_all(cluster, cluster.heal())
    assert not cut(cluster)


def test_a_manager_that_is_restarted_tries_once_more() -> None:
    """It begins no new row of tries, and the story does not say it again."""
    cluster = running(2, 1, default_time_limit_s=86_400.0)
    volunteer = cluster.volunteers["node-a"]
    done(cluster, cluster.fault("disconnect", cluster.address("slave-0"), lease_s=1.0))
    volunteer.refuse = lambda command: (AnswerCode.FAILED, "no")
    for _ in range(120):
        cluster.advance(30)
    cluster.restart()
    cluster.attach(volunteer)
    for _ in range(20):
        cluster.advance(30)
    job = cluster.job()
    assert sum(line.requested_by == "lease" for line in job.faults) == MAX_LEASE_TRIES + 1
    assert sum(line.event == "lease.stuck" for line in job.story) == 1


def test_the_end_of_the_job_comes_before_it() -> None:
    """Release takes it back; the lease means nothing then."""
    cluster = running(2, 1)
    done(cluster, cluster.fault("disconnect", cluster.address("slave-0"), lease_s=1.0))
    cluster.volunteers["node-a"].mute = {"Release"}
    cluster.finish()
    cluster.advance(3)
    assert len(cluster.sent(fx.SetNetwork)) == 1
    cluster.volunteers["node-a"].mute = set()
    cluster.advance(20)
    assert cluster.job().faults[0].healed_by == "job end"


@pytest.mark.parametrize("lease_s", [0.0, -1.0, 0.0009, 86_400.1, float("nan"), float("inf")])
def test_a_lease_has_bounds(lease_s: float) -> None:
    """0.001 s to a day; the error names it."""
    cluster = running(2, 1)
    error = refused(cluster, cluster.fault("disconnect", cluster.address("slave-0"), lease_s=lease_s))
    assert isinstance(error, BadRequest)
    assert (error.reason, error.metadata["field"]) == ("BAD_FIELD", "lease_s")


def test_a_lease_is_part_of_the_request() -> None:
    """The same id with another lease is another call."""
    cluster = running(2, 1)
    ip = cluster.address("slave-0")
    cluster.fault("disconnect", ip, "same", lease_s=1.0)
    error = refused(cluster, cluster.fault("disconnect", ip, "same", lease_s=2.0))
    assert (error.reason, error.metadata["field"]) == ("BAD_FIELD", "request_id")
    assert isinstance(
        cluster.ask(lambda n: ev.LinesRequested(n, cluster.caller(), False, 0, 1)), fx.LinesReply
    )
