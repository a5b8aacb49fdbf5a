"""Jobs that are broken and replayed, for tests of replays."""

from __future__ import annotations

from typing import Any

from manager_core.faults import done
from manager_core.harness import Cluster, running
from syndicate.manager.core import effects as fx
from syndicate.manager.core import events as ev
from syndicate.manager.core.model import (
    AnswerCode,
    Degradation,
    JobState,
)
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


def submitted(machines: int, **fields: Any) -> Cluster:
    """Job 1 runs, as it was asked for."""
    cluster = Cluster()
    cluster.volunteer(slots=10)
    cluster.submit(machines, 1, **fields)
    cluster.deliver()
    return cluster


def original(machines: int = 3, **fields: Any) -> Cluster:
    """Job 1 has ended; a client of it cut slave-0 off at 1 s, killed it at 2 s and revived it at 4 s."""
    cluster = running(machines, 1, slots=10) if not fields else submitted(machines, **fields)
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


def plan_of(cluster: Cluster, job_id: int) -> Any:
    """The plan of a replay, and the live job."""
    job = cluster.machine._world.jobs[job_id]
    assert job.replay is not None
    return job.replay.plan, job


def come_back(cluster: Cluster, away_s: float = 0.0) -> None:
    """The manager dies, and is there again after so many seconds."""
    cluster.restart()
    cluster.ns += int(away_s * 1000) * MS
    cluster.do(ev.Tick())
    cluster.attach(cluster.volunteers["node-a"])
    cluster.deliver()
