"""A replay: the recorded faults come again at their times."""

from __future__ import annotations

from dataclasses import replace

import pytest
from manager_core.faults import done, done_at_all, refused
from manager_core.harness import CLIENT, running
from manager_core.replays import (
    LOSS,
    again,
    client,
    end,
    everything,
    offset_ms,
    original,
    plan_of,
    told,
)
from manager_core.volunteer import EVERYTHING
from syndicate.manager.core import effects as fx
from syndicate.manager.core import events as ev
from syndicate.manager.core import replay
from syndicate.manager.core.errors import BadRequest, FaultFailed, Refused
from syndicate.manager.core.model import (
    NO_SYNC,
    AnswerCode,
    FaultKind,
    Limits,
)


def test_every_fault_comes_again_at_its_time() -> None:
    """Of each kind, at the same members, with the same lease; what comes by itself comes by itself."""
    cluster = everything()
    first = cluster.job(1)
    made = again(cluster)
    cluster.advance(10)
    second = cluster.job(made)
    assert told(second) == told(first)
    assert {line.requested_by for line in second.faults} == {"replay", "lease"}
    lease = [
        offset_ms(view, line)
        for view in (first, second)
        for line in view.faults
        if line.requested_by == "lease"
    ]
    assert lease[0] == lease[len(lease) // 2]
    assert "14 of 14 faults applied, worst offset 0.0 ms asked, 0.0 ms held" in replay.summary(
        1, *plan_of(cluster, made)
    )


def test_a_replay_of_a_replay_is_the_same_again() -> None:
    """Its ledger is what counts."""
    cluster = everything()
    first = cluster.job(1)
    made = again(cluster)
    cluster.advance(10)
    cluster.ask(lambda n: ev.CancelJob(n, "cancel", made, "alice"))
    cluster.deliver()
    third = again(cluster, made)
    cluster.advance(10)
    assert told(cluster.job(third)) == told(first)
    assert cluster.job(third).job.spec.replay_of == made


def test_what_failed_is_not_in_the_plan() -> None:
    """Nor is what was taken back because its call had failed elsewhere."""
    cluster = everything()
    last = [line for line in cluster.job(1).faults if line.error]
    assert last
    planned = replay.plan(cluster.job(1), 9)
    assert [call.kind for call in planned].count(FaultKind.PAUSE) == 1
    assert [call.number for call in planned] == list(range(1, 15))


def test_a_heal_takes_back_the_same_calls() -> None:
    """One of some lines means the lines that the replay has for them, whatever their numbers."""
    cluster = running(3, 1, slots=10)
    cluster.volunteers["node-a"].refuse = lambda c: (
        (AnswerCode.FAILED, "no") if isinstance(c.action, fx.Signal) else None
    )
    cluster.fault("signal", cluster.address("master"), signal=10)  # line 1 fails, and has no counterpart
    cluster.deliver()
    cluster.advance(0.5)
    cut = done(cluster, cluster.fault("disconnect", cluster.address("slave-0")))
    slow = done(cluster, cluster.fault("degrade", cluster.address("slave-0"), degradation=LOSS))
    cluster.advance(0.5)
    done_at_all(cluster, cluster.heal(cut.fault_id))
    end(cluster)
    made = again(cluster)
    cluster.advance(2)
    lines = {line.kind: line for line in cluster.job(made).faults}
    assert (cut.fault_id, slow.fault_id) == (2, 3)
    assert lines[FaultKind.HEAL].heals == (lines[FaultKind.DISCONNECT].fault_id,)
    assert lines[FaultKind.DISCONNECT].healed_by == "replay"
    assert lines[FaultKind.DEGRADE].healed_at_manager is None


def test_faults_of_almost_the_same_moment_keep_their_distance() -> None:
    """Each has a time of its own, to the nanosecond of the manager's clock."""
    cluster = running(2, 1, slots=8)
    cluster.advance(1)
    for name in ("disconnect", "pause", "kill"):
        done(cluster, cluster.fault(name, cluster.address("slave-0")))
        cluster.advance(0.003)
    end(cluster)
    made = again(cluster)
    cluster.advance(2)
    assert [offset_ms(cluster.job(made), line) for line in cluster.job(made).faults] == [1000, 1003, 1006]


def test_a_call_that_failed_at_one_member_is_left_out() -> None:
    """What lasts was taken back at the others; of what does not, those where it held are replayed."""
    cluster = running(3, 1, slots=10)
    node = cluster.volunteers["node-a"]
    names = [cluster.address(name) for name in ("slave-0", "slave-1")]
    node.refuse = lambda c: (AnswerCode.FAILED, "no") if c.ref.task == "slave-1" else None
    for kind, fields in (("disk_full", {}), ("signal", {"signal": 10})):
        cluster.advance(1)
        cluster.fault(kind, names, **fields)
        cluster.deliver()
    node.refuse = lambda c: None
    end(cluster)
    [planned] = replay.plan(cluster.job(1), 2)
    assert (planned.kind, [part.task for part in planned.parts]) == (FaultKind.SIGNAL, ["slave-0"])


def test_a_fault_that_cannot_be_made_is_a_line_with_its_error() -> None:
    """A machine that lacks what it takes, or one that fails: the story tells it, and who stands for it."""
    cluster = everything()
    node = cluster.volunteers["node-a"]
    cluster.detach(node)
    node.capabilities = tuple(set(EVERYTHING) - {"pause"})
    node.cannot = (("pause", "no freezer"),)
    cluster.attach(node)
    cluster.deliver()
    made = again(cluster)
    names = ("slave-1", "slave-2")
    call = cluster.fault(
        "pause", [cluster.address(name, made) for name in names], "p", caller=client(cluster)
    )
    cluster.advance(10)
    wrong = [line for line in cluster.job(made).faults if line.error]
    assert [(line.kind, line.task) for line in wrong] == [(FaultKind.PAUSE, name) for name in names]
    assert "no freezer" in wrong[0].error
    assert isinstance(refused(cluster, call), FaultFailed)
    cluster.ask(lambda n: ev.CancelJob(n, "cancel", made, "alice"))
    text = next(line.text for line in cluster.job(made).story if line.event == "replay.ended")
    assert "replay of job 1: 12 of 14 faults applied" in text
    assert "1 failed, first PAUSE of slave-1" in text
    assert "1 changed nothing" in text  # the Resume


def test_a_dead_member_makes_a_line_too() -> None:
    """What was refused for one member alone is written down as well."""
    cluster = running(2, 1, slots=8)
    cluster.advance(1)
    done(cluster, cluster.fault("pause", cluster.address("slave-0")))
    end(cluster)
    made = again(cluster)
    cluster.exit("slave-0", job_id=made)
    cluster.advance(2)
    [line] = cluster.job(made).faults
    assert "not alive" in line.error


def test_another_attempt_begins_the_plan_afresh() -> None:
    """A requeued replay makes every call again."""
    cluster = original()
    first = cluster.job(1)
    cluster.volunteer("node-b", 10)
    made = again(cluster)
    cluster.advance(2.5)
    node = cluster.holder("slave-0", made)[0]
    cluster.detach(node)
    node.reboot()
    cluster.attach(node)
    cluster.advance(1)
    assert cluster.job(made).job.attempt == 2, cluster.machine.story(made)
    cluster.advance(6)
    assert told(cluster.job(made)) == told(first)


def test_the_gang_is_that_of_the_replayed_job() -> None:
    """What is left open is as there, its client and limits included; another gang is refused."""
    cluster = original()
    view = cluster.job(1)
    made = again(cluster)
    spec = cluster.job(made).job.spec
    assert spec == replace(view.job.spec, replay_of=1)
    assert spec.client == CLIENT
    for field, fields in (
        ("machines", {"machines": 2}),
        ("clients", {"clients": 2}),
        ("no_client", {"no_client": True}),
        ("sync_server", {"sync_server": "master"}),
    ):
        error = cluster.try_submit(**{"machines": 0, "replays": view, "request_id": field, **fields})
        assert isinstance(error, BadRequest)
        assert error.metadata["field"] == field


@pytest.mark.parametrize("server", ["slave-1", "master", NO_SYNC])
def test_the_sync_server_is_where_it_was(server: str) -> None:
    """A cut reaches it or not as it did in the job that is replayed, whatever the default."""
    cluster = original(sync_server=server)

    made = again(cluster)

    assert cluster.job(made).job.spec.sync_server == server
    serving = {
        command.ref.task
        for command in cluster.sent(fx.Prepare)
        if command.ref.job_id == made and isinstance(command.action, fx.Prepare) and command.action.serve_sync
    }
    assert serving == ({server} - {NO_SYNC})


def test_what_is_said_is_taken() -> None:
    """A name, a time limit, limits of tasks: those may be others."""
    cluster = original()
    made = again(cluster, name="once-more", time_limit_s=77.0, limits=Limits(*(0,) * 5, 99, 0, 0, 0))
    spec = cluster.job(made).job.spec
    assert (spec.name, spec.time_limit_s, spec.limits.pids) == ("once-more", 77.0, 99)


def test_a_time_limit_above_the_managers_is_refused_as_in_any_job() -> None:
    """What may be submitted is bounded alike, whether it is new or comes again."""
    cluster = original()
    most = cluster.config.max_time_limit_s
    error = cluster.try_submit(0, replays=cluster.job(1), time_limit_s=most + 1, request_id="more")
    assert (type(error), error.metadata["field"]) == (BadRequest, "time_limit_s")
    assert f"at most {most:.10g} s" in error.detail


def test_only_what_has_ended_and_was_broken_is_replayed() -> None:
    """One that runs may yet be broken; one without a fault is no replay."""
    cluster = running(2, 1, slots=10)
    error = cluster.try_submit(0, replays=cluster.job(1))
    assert (type(error), error.reason) == (Refused, "JOB_NOT_ENDED")
    assert "wait 1" in error.metadata["hint"]
    end(cluster)
    error = cluster.try_submit(0, replays=cluster.job(1), request_id="more")
    assert (type(error), error.reason) == (Refused, "NOTHING_TO_REPLAY")


def test_a_partition_is_told_by_its_groups() -> None:
    """A shape is not drawn again: the members are those that were cut, whatever the seed now."""
    cluster = running(5, 1, slots=20)
    cluster.advance(1)
    call = cluster.partition(shape=2, seed=3)
    cluster.deliver()
    reply = cluster.replies[call]
    names = {cluster.address(name): name for name in ("master", *(f"slave-{i}" for i in range(4)))}
    groups = {frozenset(names[ip] for ip in group) for group in reply.groups}
    end(cluster)
    made = again(cluster)
    cluster.advance(2)
    who = client(cluster)
    call = cluster.call(lambda n: ev.PartitionRequested(n, "p", who, (), 2, seed=99))
    told_now = cluster.replies[call]
    now = {cluster.address(name, made): name for name in names.values()}
    assert {frozenset(now[ip] for ip in group) for group in told_now.groups} == groups
    assert len(told_now.members) == len(told_now.addresses) == 5
