"""What happens at barriers, on its way to the manager."""

from __future__ import annotations

from dataclasses import replace

import pytest
from syndicate.volunteer import local
from syndicate.volunteer.core import effects, events
from syndicate.volunteer.core.model import AnswerCode, DropBarriers, Kill, TaskEvent
from volunteer_core.harness import LINK, Harness

STAMP = local.Stamp("boot", 5, 5)


def a_round(name: str = "b") -> local.BarrierRound:
    """One that opened."""
    return local.BarrierRound(name, local.BarrierEnd.OPENED, STAMP, STAMP, 0, (), (), 0, 0, 1)


def news(total: int, *rounds: local.BarrierRound, last: bool = False) -> local.BarriersTold:
    """Of the master of job 7."""
    task = local.TaskId("c1", 7, 1, "master")
    return local.BarriersTold(0, task, rounds, total, (), 0, last=last)


def tell(harness: Harness, told: local.BarriersTold) -> None:
    """The keeper tells it."""
    harness.tell(events.KeeperTold(told))


def sent(harness: Harness) -> list[TaskEvent]:
    """The events about barriers that went to the manager."""
    return [event for event in harness.exits() if event.barriers is not None]


def attached() -> Harness:
    """With a task that runs."""
    harness = Harness()
    harness.attach()
    harness.running()
    return harness


def test_news_are_told_until_they_are_acknowledged() -> None:
    """As an end is."""
    harness = attached()
    tell(harness, news(1, a_round()))
    first = sent(harness)[0]

    harness.advance(6)
    again = len(sent(harness))
    harness.tell(events.EventAcked(LINK, first.event_id))
    harness.advance(6)

    assert first.ref.task == "master"
    assert again >= 2
    assert len(sent(harness)) == again


def test_what_comes_before_the_acknowledgement_is_told_at_once_afterwards() -> None:
    """All rounds in order, and the last state of what is open."""
    harness = attached()
    tell(harness, news(1, a_round("a")))
    for number in (2, 3):
        tell(harness, news(number, a_round(str(number))))
    assert len(sent(harness)) == 1

    harness.tell(events.EventAcked(LINK, sent(harness)[0].event_id))

    last = sent(harness)[-1].barriers
    assert last is not None
    assert ([one.barrier for one in last.rounds], last.total) == (["2", "3"], 3)


def test_news_without_end_stay_small() -> None:
    """So many lines are kept; the total counts all."""
    harness = attached()
    for number in range(1000):
        tell(harness, news(number + 1, a_round()))

    harness.tell(events.EventAcked(LINK, sent(harness)[0].event_id))

    last = sent(harness)[-1].barriers
    assert last is not None
    assert (len(sent(harness)), len(last.rounds), last.total) == (2, local.MAX_ROUNDS, 1000)


def test_the_last_news_do_not_wait() -> None:
    """The answer to Release comes right behind them."""
    harness = attached()
    tell(harness, news(1, a_round()))

    tell(harness, news(2, a_round(), last=True))

    assert [event.barriers.last for event in sent(harness) if event.barriers] == [False, True]


def test_a_manager_that_comes_back_is_told_what_is_open() -> None:
    """It may know nothing of it any more."""
    harness = attached()
    tell(harness, news(3, a_round()))
    harness.tell(events.EventAcked(LINK, sent(harness)[0].event_id))
    before = len(sent(harness))

    harness.tell(events.LinkLost(LINK))
    harness.connect()

    again = sent(harness)[before:]
    assert [(one.barriers.rounds, one.barriers.total) for one in again if one.barriers] == [((), 3)]


def test_what_waits_is_newer_than_what_a_manager_that_comes_back_was_told() -> None:
    """A barrier that opened meanwhile is not open again."""
    harness = attached()
    task = local.BarrierTask("master", 1)
    is_open = local.OpenBarrier("a", STAMP, 1, (task,), (task,), 0, ("slave-0",), 0, False)
    tell(harness, replace(news(0), open=(is_open,)))
    tell(harness, news(1, a_round("a")))

    harness.tell(events.LinkLost(LINK))
    harness.connect()
    for event in sent(harness):
        harness.tell(events.EventAcked(LINK, event.event_id))

    newest = max(sent(harness), key=lambda event: event.event_id).barriers
    assert newest is not None
    assert (newest.total, newest.open) == (1, ())


def test_the_last_news_are_not_told_anew() -> None:
    """They go out again as the event that they are, until the manager has it."""
    harness = attached()
    tell(harness, news(3, a_round(), last=True))

    harness.tell(events.LinkLost(LINK))
    harness.connect()

    assert len({event.event_id for event in sent(harness)}) == 1


def test_news_of_another_task_mean_nothing() -> None:
    """The slot holds another one since."""
    harness = attached()

    tell(harness, replace(news(1), task=local.TaskId("c1", 8, 1, "master")))

    assert sent(harness) == []
    assert harness.wanted(effects.ResetKeeper) == []


def test_a_drop_is_asked_of_the_keeper() -> None:
    """About the slot that serves, under the command's id; where none does the manager is told so."""
    harness = attached()
    prepared = harness.keeper.slots[0].prepared
    assert prepared is not None

    refused = harness.ask(DropBarriers("start"))
    harness.keeper.slots[0].prepared = replace(prepared, serve_sync=True)
    answer = harness.ask(DropBarriers("start"))

    assert (refused.code, answer.code) == (AnswerCode.FAILED, AnswerCode.DONE)
    asked = [one for one in harness.keeper.requests if isinstance(one, local.DropBarriers)]
    task = local.TaskId("c1", 7, 1, "master")
    assert asked == [local.DropBarriers(0, task, "start", one.command_id) for one in (refused, answer)]


@pytest.mark.parametrize("number", [0, 3])
def test_how_many_were_dropped_is_answered(number: int) -> None:
    """None is a number, too; of other commands nothing of the kind is said."""
    harness = attached()
    prepared = harness.keeper.slots[0].prepared
    assert prepared is not None
    harness.keeper.slots[0].prepared = replace(prepared, serve_sync=True)
    harness.keeper.droppable = number

    dropped, killed = harness.ask(DropBarriers("start")), harness.ask(Kill())

    assert (dropped.dropped, killed.dropped) == (number, None)
