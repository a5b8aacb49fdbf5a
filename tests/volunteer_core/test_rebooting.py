"""A machine that is booted again after a job: when it asks for that, and what it takes until then."""

from __future__ import annotations

import pytest
from syndicate.volunteer.core import Config, effects, events
from syndicate.volunteer.core.model import AnswerCode, Release, Reserve, Welcome
from syndicate.volunteer.core.rebooting import AGAIN_S
from volunteer_core.harness import Harness, ref
from volunteer_core.keeper_model import KeeperModel

ORPHAN_S = Welcome("s", "c", 1, "").orphan_after_s


@pytest.fixture
def fresh() -> Harness:
    """A machine that its operator has booted again after each job; its manager has answered one heartbeat."""
    keeper = KeeperModel()
    keeper.reboots = True
    harness = Harness(keeper=keeper)
    harness.attach()
    harness.ack_heartbeats()
    return harness


def acknowledge(bench: Harness) -> None:
    """The manager has written down how tasks ended, and hears the last heartbeat."""
    for event in bench.exits():
        bench.tell(events.EventAcked("manager:7001", event.event_id))
    bench.ack_heartbeats()


def test_it_boots_again_when_a_job_has_left_it(fresh: Harness) -> None:
    """Not before the manager has heard that it is gone and how it ended."""
    fresh.running()
    fresh.keeper.end(0, 0)
    fresh.tell_keeper_events()
    fresh.ask(Release())
    fresh.ack_heartbeats()
    unheard = fresh.keeper.reboots_asked

    acknowledge(fresh)

    assert (unheard, fresh.keeper.reboots_asked) == (0, 1)


def test_an_end_that_was_heard_is_not_enough(fresh: Harness) -> None:
    """A heartbeat from after the release must have come back: so the answer to it arrived too."""
    fresh.running()
    fresh.keeper.end(0, 0)
    fresh.tell_keeper_events()
    fresh.advance(1.0)
    fresh.ask(Release())
    before = [one.heartbeat for one in fresh.wanted(effects.SendHeartbeat)]
    for event in fresh.exits():
        fresh.tell(events.EventAcked("manager:7001", event.event_id))
    fresh.tell(events.HeartbeatAcked("manager:7001", before[-2].sequence))
    unheard = fresh.keeper.reboots_asked

    fresh.ack_heartbeats()

    assert (unheard, fresh.keeper.reboots_asked) == (0, 1)


def test_it_takes_nothing_else_until_then(fresh: Harness) -> None:
    """From the first release on: the job's other slot is left alone, and no slot is given to another job."""
    fresh.running("master", slot=0)
    fresh.running("slave-0", slot=1)
    fresh.ask(Release(), ref("master"))
    refused = fresh.ask(Reserve(10_000), ref("master", job=8), slot=0)
    acknowledge(fresh)
    between = fresh.keeper.reboots_asked
    fresh.ask(Release(), ref("slave-0"), slot=1)
    acknowledge(fresh)

    assert (refused.code, refused.detail) == (
        AnswerCode.BUSY,
        "the machine boots again once its job has left it",
    )
    assert (between, fresh.keeper.reboots_asked) == (0, 1)


def test_its_managers_hear_that_it_waits_for_a_boot(fresh: Harness) -> None:
    """With each heartbeat from when its first task has left it."""
    fresh.running("master", slot=0)
    fresh.running("slave-0", slot=1)
    fresh.advance(6.0)
    before = fresh.wanted(effects.SendHeartbeat)[-1].heartbeat
    fresh.ask(Release(), ref("master"))
    fresh.advance(6.0)
    after = fresh.wanted(effects.SendHeartbeat)[-1].heartbeat

    assert before.sequence < after.sequence and (before.worn, after.worn) == (False, True)


def test_a_lock_that_came_to_nothing_leaves_it_fresh(fresh: Harness) -> None:
    """Nothing of a job was on it."""
    fresh.ask(Reserve(10_000))
    fresh.ask(Release())
    acknowledge(fresh)

    assert fresh.keeper.reboots_asked == 0
    assert fresh.ask(Reserve(10_000)).code is AnswerCode.READY


def test_a_machine_that_does_not_go_down_is_asked_again(fresh: Harness) -> None:
    """As often as it takes, a minute apart."""
    fresh.running()
    fresh.ask(Release())
    acknowledge(fresh)

    fresh.advance(AGAIN_S * 2.5)

    assert fresh.keeper.reboots_asked == 3


def test_a_manager_that_has_gone_is_not_waited_for(fresh: Harness) -> None:
    """It has called the machine lost by then; another manager's jobs wait for its slots."""
    fresh.connect(link="other:7001", cluster="c2")
    fresh.running()
    fresh.keeper.end(0, 0)
    fresh.tell_keeper_events()
    fresh.ask(Release())
    fresh.tell(events.LinkLost("manager:7001"))
    fresh.advance(ORPHAN_S + Config("x").abandon_after_s - 1.0)
    before = fresh.keeper.reboots_asked
    refused = fresh.ask(Reserve(10_000), ref(cluster="c2"), link="other:7001")
    fresh.advance(2.0)

    assert refused.code is AnswerCode.BUSY
    assert (before, fresh.keeper.reboots_asked) == (0, 1)


def test_a_manager_that_comes_back_in_time_hears_it_all(fresh: Harness) -> None:
    """A break of the line costs nothing."""
    fresh.running()
    fresh.keeper.end(0, 0)
    fresh.tell_keeper_events()
    fresh.ask(Release())
    fresh.tell(events.LinkLost("manager:7001"))
    fresh.advance(ORPHAN_S)
    fresh.connect()
    fresh.advance(1.0)
    between = fresh.keeper.reboots_asked
    acknowledge(fresh)

    assert (between, fresh.keeper.reboots_asked) == (0, 1)


def test_a_volunteer_started_anew_knows_that_a_job_was_here(fresh: Harness) -> None:
    """By the keeper, which is told once: it takes no job, and boots again when the one that runs has left."""
    fresh.running()
    again = Harness(Config("node-a"), keeper=fresh.keeper)
    again.now_ns = fresh.now_ns
    again.attach()
    again.ack_heartbeats()

    refused = again.ask(Reserve(10_000), ref("slave-0", job=8), slot=1)
    running = again.keeper.reboots_asked
    again.ask(Release())
    acknowledge(again)

    assert refused.code is AnswerCode.BUSY
    assert (running, again.keeper.reboots_asked) == (0, 1)


def test_other_machines_stay_as_they_are(bench: Harness) -> None:
    """Nobody asked for it: slots are used again."""
    bench.running()
    bench.ask(Release())
    acknowledge(bench)

    assert bench.keeper.reboots_asked == 0
    assert bench.ask(Reserve(10_000), ref(job=8)).code is AnswerCode.READY
