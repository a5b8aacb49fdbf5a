"""What tests of faults ask of a cluster."""

from __future__ import annotations

from manager_core.harness import Cluster
from syndicate.manager.core import effects as fx
from syndicate.manager.core.errors import CoreError

FAULTS = (fx.Kill, fx.Revive, fx.SetNetwork, fx.SetTask, fx.Signal)


def done(cluster: Cluster, call: int) -> fx.FaultReply:
    """The answer to a fault that holds, once everything under way is delivered."""
    cluster.deliver()
    reply = cluster.replies[call]
    assert isinstance(reply, fx.FaultReply), repr(reply)
    return reply


def done_at_all(cluster: Cluster, call: int) -> tuple[fx.FaultReply, ...]:
    """The answers of several members where it holds, once everything under way is delivered."""
    cluster.deliver()
    reply = cluster.replies[call]
    assert isinstance(reply, fx.FaultsReply), repr(reply)
    return reply.members


def refused(cluster: Cluster, call: int) -> CoreError:
    """The error of a fault that was answered."""
    reply = cluster.replies[call]
    assert isinstance(reply, CoreError)
    return reply


def fault_commands(cluster: Cluster) -> list[fx.Command]:
    """The commands of faults that were sent, in order."""
    sends = [e.command for step in cluster.steps for e in step.effects if isinstance(e, fx.Send)]
    return [command for command in sends if isinstance(command.action, FAULTS)]
