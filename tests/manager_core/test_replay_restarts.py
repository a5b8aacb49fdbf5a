"""A replay goes on over a restart of its manager."""

from __future__ import annotations

import pytest
from manager_core.faults import done, done_at_all
from manager_core.harness import running
from manager_core.replays import MS, again, client, come_back, end, everything, offset_ms, original, told
from syndicate.manager.core import events as ev
from syndicate.manager.core.model import (
    FaultKind,
)


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
