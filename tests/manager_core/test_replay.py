"""A replay: the recorded faults come again at their times, and clients' own calls stand for them."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from manager_core.faults import done, done_at_all, fault_commands, refused
from manager_core.harness import CLIENT, Cluster, running
from manager_core.volunteer import EVERYTHING
from syndicate.manager.core import effects as fx
from syndicate.manager.core import events as ev
from syndicate.manager.core import replay
from syndicate.manager.core.errors import BadRequest, Ended, FaultFailed, Refused
from syndicate.manager.core.model import AnswerCode, Degradation, FaultKind, JobState, Limits, Outcome, Result
from syndicate.manager.core.records import FaultRecord
from syndicate.manager.core.views import JobView

MS = 1_000_000
LOSS = Degradation(loss_percent=10.0)


def offset_ms(view: JobView, line: FaultRecord) -> float:
    """When a line was asked for, after the start of its attempt."""
    assert view.job.started_at is not None
    return (line.requested_at.monotonic_ns - view.job.started_at.monotonic_ns) / MS


def told(view: JobView, without: tuple[str, ...] = ("lease", "rollback", "job end")) -> list[Any]:
    """What was asked for in a job: when, what, of whom, and how."""
    return [
        (
            *(offset_ms(view, line), line.kind, line.task, line.with_disk, line.lease_s, line.cut_out),
            *(line.cut_in, line.degradation, line.peers, line.one_way, line.signal, line.shape, line.seed),
        )
        for line in view.faults
        if line.requested_by not in without and not line.error
    ]


def end(cluster: Cluster) -> None:
    """The client of job 1 finishes, and the job ends."""
    cluster.finish()
    cluster.deliver()
    assert cluster.state() is JobState.SUCCEEDED


def again(cluster: Cluster, job_id: int = 1, **fields: Any) -> int:
    """Submits a replay of a job, which runs; returns its id."""
    made = cluster.submit(0, replays=cluster.job(job_id), **fields)
    cluster.deliver()
    assert cluster.state(made) is JobState.RUNNING, cluster.machine.story(made)
    return made


def client(cluster: Cluster, job_id: int = 2) -> ev.ChaosCaller:
    """The client of a replay."""
    return cluster.caller("client-0", job_id)


def original(machines: int = 3) -> Cluster:
    """Job 1 has ended; a client of it cut slave-0 off at 1 s, killed it at 2 s and revived it at 4 s."""
    cluster = running(machines, 1, slots=10)
    ip = cluster.address("slave-0")
    cluster.advance(1)
    done(cluster, cluster.fault("disconnect", ip))
    cluster.advance(1)
    done(cluster, cluster.fault("kill", ip))
    cluster.advance(2)
    done(cluster, cluster.fault("revive", ip, with_disk=False))
    end(cluster)
    return cluster


def everything() -> Cluster:
    """Job 1 has ended, with faults of all kinds, several members, leases, users and what failed."""
    cluster = running(5, 1, slots=20)
    at = cluster.address
    node = cluster.volunteers["node-a"]
    cluster.heartbeat(node)
    for pause_s, ask in (
        (0.5, lambda: cluster.partition(("master", "slave-0"), ("slave-1", "slave-2"))),
        (0.25, lambda: cluster.partition(shape=5, seed=7, one_way=True)),
        (0.25, lambda: cluster.fault("pause", [at("slave-1"), at("slave-2")], lease_s=3.0)),
        (0.25, lambda: cluster.fault("degrade", at("slave-3"), degradation=LOSS, peers=(at("master"),))),
        (0.25, lambda: cluster.fault("signal", at("master"), signal=10)),
        (0.25, lambda: cluster.fault("disk_full", at("slave-0"))),
        (0.25, lambda: cluster.fault("reset", at("slave-0"), lease_s=0.5)),
        (1.0, lambda: cluster.fault("resume", at("slave-1"))),
        (0.25, lambda: cluster.fault("kill", [at("slave-0"), at("slave-3")])),
        (0.25, lambda: cluster.fault("revive", [at("slave-0"), at("slave-3")])),
        (0.25, lambda: cluster.heal(1)),
        (0.25, lambda: cluster.fault("disconnect", at("slave-3"))),
        (0.25, lambda: cluster.fault("reconnect", at("slave-3"))),
        (0.25, lambda: cluster.heal()),
    ):
        cluster.advance(pause_s)
        call = ask()
        cluster.deliver()
        assert isinstance(cluster.replies[call], fx.FaultReply | fx.FaultsReply), cluster.replies[call]
    node.refuse = lambda c: (AnswerCode.FAILED, "no") if isinstance(c.action, fx.SetTask) else None
    cluster.fault("pause", [at("slave-1"), at("slave-2")])
    cluster.deliver()
    node.refuse = lambda c: None
    end(cluster)
    return cluster


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


def plan_of(cluster: Cluster, job_id: int) -> Any:
    """The plan of a replay, and the live job."""
    job = cluster.machine._world.jobs[job_id]
    assert job.replay is not None
    return job.replay.plan, job


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


def test_a_call_that_comes_early_waits_for_its_fault() -> None:
    """It is answered when the recorded one holds, and not before."""
    cluster = original()
    made = again(cluster)
    call = cluster.fault("disconnect", cluster.address("slave-0", made), caller=client(cluster))
    cluster.advance(0.9)
    assert call not in cluster.replies
    cluster.advance(0.2)
    assert not done(cluster, call).already
    assert len(cluster.job(made).faults) == 1


def test_a_call_that_comes_late_is_answered_at_once() -> None:
    """With what the recorded one came to; it does nothing itself."""
    cluster = original()
    made = again(cluster)
    cluster.advance(3)
    before = len(fault_commands(cluster))
    reply = done(cluster, cluster.fault("kill", cluster.address("slave-0", made), caller=client(cluster)))
    assert reply.fault_id == 2
    assert len(fault_commands(cluster)) == before


def test_a_long_plan_makes_no_call_slow() -> None:
    """A client that calls without end takes no longer of the manager for a ledger that is full."""
    cluster = original()
    view = cluster.job(1)
    first = view.faults[0]
    lines = tuple(replace(first, fault_id=number, call_id=number) for number in range(1, 5001))
    made = cluster.submit(0, replays=replace(view, faults=lines))
    cluster.deliver()
    job = cluster.machine._world.jobs[made]
    replay.counterpart(job, first.kind, ("slave-0",), first.requested_by)

    began = time.process_time()
    for _ in range(500):
        assert replay.counterpart(job, first.kind, ("slave-1",), first.requested_by) is None
    took_s = time.process_time() - began

    assert took_s < 0.5, f"500 calls took {took_s:.1f} s"


def test_a_call_without_a_counterpart_is_refused() -> None:
    """Also a second one of a kind of which there was one, and another's."""
    cluster = original()
    made = again(cluster)
    who = client(cluster)
    for kind, name in (("pause", "master"), ("disconnect", "slave-1")):
        error = refused(cluster, cluster.fault(kind, cluster.address(name, made), caller=who))
        assert isinstance(error, Refused)
        assert error.reason == "NOT_IN_REPLAY"
    ip = cluster.address("slave-0", made)
    cluster.fault("kill", ip, request_id="one", caller=who)
    assert refused(cluster, cluster.fault("kill", ip, request_id="two", caller=who)).reason == "NOT_IN_REPLAY"
    assert not cluster.job(made).faults


def test_a_call_that_changes_nothing_is_answered_as_ever() -> None:
    """A Revive of who lives, a Heal of nothing: in the replayed job they left no line either."""
    cluster = original()
    made = again(cluster)
    who = client(cluster)
    assert done(cluster, cluster.fault("revive", cluster.address("slave-1", made), caller=who)).already
    assert done_at_all(cluster, cluster.heal(caller=who)) == ()


def test_a_repeat_stands_for_the_same_fault() -> None:
    """One request id takes one counterpart, also over a restart of the manager."""
    cluster = running(2, 1, slots=8)
    for _ in range(2):
        cluster.advance(1)
        done(cluster, cluster.fault("signal", cluster.address("slave-0"), signal=10))
    end(cluster)
    made = again(cluster)
    ip, who = cluster.address("slave-0", made), client(cluster)
    cluster.fault("signal", ip, request_id="first", signal=10, caller=who)
    come_back(cluster)
    second = cluster.fault("signal", ip, request_id="second", signal=10, caller=who)
    first = cluster.fault("signal", ip, request_id="first", signal=10, caller=who)
    third = cluster.fault("signal", ip, request_id="third", signal=10, caller=who)
    cluster.advance(3)
    assert [done(cluster, call).fault_id for call in (first, second)] == [1, 2]
    assert refused(cluster, third).reason == "NOT_IN_REPLAY"


def come_back(cluster: Cluster, away_s: float = 0.0) -> None:
    """The manager dies, and is there again after so many seconds."""
    cluster.restart()
    cluster.ns += int(away_s * 1000) * MS
    cluster.do(ev.Tick())
    cluster.attach(cluster.volunteers["node-a"])
    cluster.deliver()


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


def test_what_changed_nothing_is_not_done_after_a_restart() -> None:
    """Its member was so already when its time came; that it is otherwise later changes nothing."""
    cluster = original()
    made = again(cluster)
    cluster.advance(1.5)
    cluster.exit("slave-0", job_id=made)
    cluster.advance(3)  # the Kill found nobody; the Revive began a generation
    assert [line.kind for line in cluster.job(made).faults] == [FaultKind.DISCONNECT, FaultKind.REVIVE]
    come_back(cluster)
    cluster.advance(1)
    assert [line.kind for line in cluster.job(made).faults] == [FaultKind.DISCONNECT, FaultKind.REVIVE]


def test_a_heal_knows_what_is_written_down_later() -> None:
    """Overdue faults come at once and wait for each other; the Heal means the one that waits before it."""
    cluster = running(2, 1, slots=8)
    ip = cluster.address("slave-0")
    cluster.advance(1)
    done(cluster, cluster.fault("pause", ip))
    cut = done(cluster, cluster.fault("disconnect", ip))
    cluster.advance(1)
    done_at_all(cluster, cluster.heal(cut.fault_id))
    end(cluster)
    made = again(cluster)
    come_back(cluster, 4.0)
    pause, cut_again, heal = cluster.job(made).faults
    assert heal.heals == (cut_again.fault_id,)
    assert pause.healed_at_manager is None
    assert cut_again.healed_by == "replay"


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


def test_the_nth_call_stands_for_the_nth_fault() -> None:
    """Calls of one kind and member are counted, each client's its own."""
    cluster = running(2, 1, slots=8)
    ip = cluster.address("slave-0")
    for _ in range(3):
        cluster.advance(1)
        done(cluster, cluster.fault("signal", ip, signal=10))
    end(cluster)
    made = again(cluster)
    calls = [
        cluster.fault("signal", cluster.address("slave-0", made), f"s{i}", signal=10, caller=client(cluster))
        for i in range(3)
    ]
    cluster.advance(2.5)
    assert [call in cluster.replies for call in calls] == [True, True, False]


def test_a_users_call_stands_for_any_users() -> None:
    """Who broke the replayed job need not be who asks now; a client's faults are not theirs."""
    cluster = running(2, 1, slots=8)

    def user(job_id: int, name: str) -> ev.UserCaller:
        return ev.UserCaller(job_id, name, None)  # type: ignore[arg-type]  # no audit log here

    cluster.advance(1)
    done(cluster, cluster.fault("kill", cluster.address("slave-0"), caller=user(1, "alice")))
    end(cluster)
    made = again(cluster)
    ip = cluster.address("slave-0", made)
    assert (
        refused(cluster, cluster.fault("kill", ip, "mine", caller=client(cluster))).reason == "NOT_IN_REPLAY"
    )
    call = cluster.fault("kill", ip, "hers", caller=user(made, "bob"))
    cluster.advance(1.1)
    assert done(cluster, call).processes


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


def test_a_restarted_manager_goes_on() -> None:
    """What is due later comes at its time; nothing comes twice."""
    cluster = original()
    first = cluster.job(1)
    made = again(cluster)
    cluster.advance(1.5)
    cluster.restart()
    cluster.do(ev.Tick())
    cluster.attach(cluster.volunteers["node-a"])
    cluster.deliver()
    cluster.advance(5)
    assert told(cluster.job(made)) == told(first)


def test_what_is_overdue_after_a_restart_comes_at_once() -> None:
    """In its order, and the story says that it is late."""
    cluster = original()
    made = again(cluster)
    cluster.restart()
    cluster.ns += 3_000 * MS
    cluster.do(ev.Tick())
    cluster.attach(cluster.volunteers["node-a"])
    cluster.deliver()
    cluster.advance(3)
    lines = cluster.job(made).faults
    assert [line.kind for line in lines] == [FaultKind.DISCONNECT, FaultKind.KILL, FaultKind.REVIVE]
    assert [round(offset_ms(cluster.job(made), line)) for line in lines] == [3000, 3000, 4000]
    [late] = [line.text for line in cluster.job(made).story if line.event == "replay.late"]
    assert late == "2 faults late, the first by 2.0 s"


def test_a_fault_under_way_over_a_restart_is_sent_again() -> None:
    """Under its own name, and who asks again for it is told."""
    cluster = original()
    made = again(cluster)
    node = cluster.volunteers["node-a"]
    node.mute = {"SetNetwork"}
    cluster.advance(1.1)
    assert cluster.job(made).faults[0].applied_at is None
    cluster.restart()
    node.mute = set()
    cluster.do(ev.Tick())
    cluster.attach(node)
    cluster.deliver()
    [line] = cluster.job(made).faults
    assert line.applied_at is not None
    call = cluster.fault("disconnect", cluster.address("slave-0", made), caller=client(cluster))
    assert done(cluster, call).fault_id == 1


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


def test_who_waits_is_told_when_the_job_ends() -> None:
    """A call that stands for a fault that never came."""
    cluster = original()
    made = again(cluster)
    call = cluster.fault("kill", cluster.address("slave-0", made), caller=client(cluster))
    gone = cluster.fault("revive", cluster.address("slave-0", made), with_disk=False, caller=client(cluster))
    cluster.do(ev.CallGone(gone))
    who = client(cluster)
    cluster.ask(lambda n: ev.FinishRequested(n, "done", who, Result(Outcome.PASS)))
    cluster.deliver()
    assert isinstance(refused(cluster, call), Ended)
    assert gone not in cluster.replies
    text = next(line.text for line in cluster.job(made).story if line.event == "replay.ended")
    assert text == "replay of job 1: 0 of 3 faults applied; 3 were still to come"


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
    ):
        error = cluster.try_submit(**{"machines": 0, "replays": view, "request_id": field, **fields})
        assert isinstance(error, BadRequest)
        assert error.metadata["field"] == field


def test_what_is_said_is_taken() -> None:
    """A name, a time limit, limits of tasks: those may be others."""
    cluster = original()
    made = again(cluster, name="once-more", time_limit_s=77.0, limits=Limits(*(0,) * 5, 99, 0, 0, 0))
    spec = cluster.job(made).job.spec
    assert (spec.name, spec.time_limit_s, spec.limits.pids) == ("once-more", 77.0, 99)


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


@pytest.mark.parametrize("stop_ms", range(0, 5000, 277))
def test_a_restart_at_any_moment_leaves_the_same_faults(stop_ms: int) -> None:
    """Whenever the manager dies, the replay has the calls of the plan, each once, none before its time."""
    cluster = everything()
    first = sorted((kind, task) for _, kind, task, *_ in told(cluster.job(1)))
    made = again(cluster)
    cluster.advance(stop_ms / 1000, deliver=stop_ms % 2 == 0)
    cluster.restart()
    cluster.do(ev.Tick())
    cluster.attach(cluster.volunteers["node-a"])
    cluster.deliver()
    cluster.advance(10)
    assert sorted((kind, task) for _, kind, task, *_ in told(cluster.job(made))) == first
