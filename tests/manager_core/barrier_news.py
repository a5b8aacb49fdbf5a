"""What the sync server of a job tells in tests."""

from __future__ import annotations

from manager_core.harness import Cluster
from syndicate.manager.core.model import BarrierEnd, BarrierRound, OpenBarrier, Stamp


def stamp(cluster: Cluster, ago_ns: int = 0) -> Stamp:
    """An instant on the clock of the volunteer that serves."""
    volunteer, _ = cluster.holder("master")
    return volunteer.stamp(cluster.ns - ago_ns)


def a_round(cluster: Cluster, rounds: int = 1) -> BarrierRound:
    """The master initialised it for one, and one slave came."""
    began, ended = stamp(cluster, 1_500_000_000), stamp(cluster)
    inits, tasks = (("master", 1),), (("master", 1), ("slave-0", 1))
    return BarrierRound("start", BarrierEnd.OPENED, began, ended, 3, inits, tasks, 0, 0, rounds)


def an_open_one(cluster: Cluster) -> OpenBarrier:
    """The master waits for one."""
    return OpenBarrier("start", stamp(cluster), 1, (("master", 1),), (), 0, ("slave-0",), 0, False)
