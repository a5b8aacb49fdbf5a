"""A client's own calls in a replay stand for recorded ones, and do nothing themselves."""

from __future__ import annotations

import time
from dataclasses import replace

from manager_core.faults import done, done_at_all, fault_commands, refused
from manager_core.harness import running
from manager_core.replays import again, client, come_back, end, original
from syndicate.manager.core import events as ev
from syndicate.manager.core import replay
from syndicate.manager.core.errors import Ended, Refused
from syndicate.manager.core.model import (
    Outcome,
    Result,
)


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

    def calls_s() -> float:
        began = time.process_time()
        for _ in range(500):
            assert replay.counterpart(job, first.kind, ("slave-1",), first.requested_by) is None
        return time.process_time() - began

    # The least of a few: the interpreter may collect the garbage of all tests before in the midst of one.
    took_s = min(calls_s() for _ in range(3))

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
