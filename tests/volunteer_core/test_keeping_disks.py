"""A release that hands the task's disk over first: when, what is told where there is none, how it ends."""

from __future__ import annotations

import pytest
from syndicate.volunteer.core import effects, events
from syndicate.volunteer.core.model import AnswerCode, Release, Reserve
from syndicate.volunteer.core.transitions import SlotState
from volunteer_core.harness import Harness, ref
from volunteer_core.keeper_model import KeeperModel

KEEP = Release(keep_disk=True)


def test_the_disk_goes_after_the_output_and_before_the_slot(bench: Harness) -> None:
    """Every process has ended and all output is stored; only then it is packed, and only then removed."""
    whole = bench.running()

    answer = bench.ask(KEEP, whole)

    assert answer.code is AnswerCode.DONE
    told = [type(e).__name__ for e in bench.done if not isinstance(e, effects.CallKeeper)]
    assert told[-5:] == ["DrainLogs", "SendDisk", "ReleaseSource", "ForgetLogs", "SendAnswer"]
    assert [type(r).__name__ for r in bench.keeper.requests[-2:]] == ["Kill", "Release"]
    assert bench.wanted(effects.SendDisk) == [effects.SendDisk(0, whole)]


def test_nothing_is_removed_while_it_is_handed_over(bench: Harness) -> None:
    """The keeper is asked to remove it when that is over."""
    whole = bench.running()
    bench.hold = {effects.SendDisk}
    name = bench.send(KEEP, whole)
    before = [type(r).__name__ for r in bench.keeper.requests], bench.answers_to(name)

    bench.perform_held()

    assert (before[0][-1], before[1]) == ("Kill", [])
    assert bench.answer_to(name).code is AnswerCode.DONE


def test_a_disk_that_takes_too_long_holds_the_slot_no_longer(bench: Harness) -> None:
    """After its time the slot matters more; what is told of it later means nothing."""
    whole = bench.running()
    bench.hold = {effects.SendDisk}
    name = bench.send(KEEP, whole)

    bench.advance(45.0)

    assert bench.answer_to(name).code is AnswerCode.DONE
    assert bench.core.slot_state(0) is SlotState.FREE
    bench.tell(events.DiskSent(0, whole.id))
    assert bench.core.slot_state(0) is SlotState.FREE


def test_a_release_that_does_not_ask_keeps_none(bench: Harness) -> None:
    """As every release did before."""
    whole = bench.running()

    bench.ask(Release(), whole)

    assert bench.wanted(effects.SendDisk) == []


def test_of_a_task_that_never_started_it_is_told(bench: Harness) -> None:
    """There is nothing on its disk but its source."""
    whole = bench.prepared()

    bench.ask(KEEP, whole)

    assert [sent.missing for sent in bench.wanted(effects.SendDisk)] == ["the task was never started"]


def test_of_a_slot_that_was_only_reserved_too(bench: Harness) -> None:
    """Nothing of the keeper's is asked for it."""
    bench.ask(Reserve(1000))

    answer = bench.ask(KEEP)

    assert answer.code is AnswerCode.DONE
    assert [type(r).__name__ for r in bench.keeper.requests] == ["Renew"]


def test_with_a_keeper_that_was_restarted_it_is_gone(bench: Harness) -> None:
    """The reason is told, and the release ends."""
    whole = bench.running()
    bench.keeper = KeeperModel()
    bench.tell(events.KeeperLost())
    bench.tell(events.KeeperSynced(bench.keeper.synced()))

    answer = bench.ask(KEEP, whole)

    assert answer.code is AnswerCode.DONE
    missing = [sent.missing for sent in bench.wanted(effects.SendDisk)]
    assert missing == ["the keeper was restarted, and the disk went with it"]


def test_a_keeper_that_goes_meanwhile_does_not_hold_it_up(bench: Harness) -> None:
    """What hands the disk over notices by itself; the release goes on with the keeper that is there then."""
    whole = bench.running()
    bench.hold = {effects.SendDisk}
    name = bench.send(KEEP, whole)
    bench.keeper = KeeperModel()
    bench.tell(events.KeeperLost())
    bench.tell(events.KeeperSynced(bench.keeper.synced()))

    bench.perform_held()

    assert bench.answer_to(name).code is AnswerCode.DONE
    assert bench.core.slot_state(0) is SlotState.FREE


def test_a_restarted_volunteer_is_asked_again_and_begins_anew() -> None:
    """It adopts the task, and the manager's next Release finds the disk still there."""
    first = Harness()
    first.attach()
    whole = first.running()
    first.hold = {effects.SendDisk}
    first.send(KEEP, whole)
    second = Harness(keeper=first.keeper)
    second.attach()

    answer = second.ask(KEEP, whole)

    assert answer.code is AnswerCode.DONE
    assert second.wanted(effects.SendDisk) == [effects.SendDisk(0, whole)]


def test_another_release_joins_the_one_that_hands_it_over(bench: Harness) -> None:
    """It is handed over once, and both are answered."""
    whole = bench.running()
    bench.hold = {effects.SendDisk}
    first, second = bench.send(KEEP, whole), bench.send(KEEP, whole)

    bench.perform_held()

    assert bench.answer_to(first).code is bench.answer_to(second).code is AnswerCode.DONE
    assert len(bench.wanted(effects.SendDisk)) == 1


@pytest.mark.parametrize("job", [6, 8])
def test_what_is_told_of_another_task_means_nothing(bench: Harness, job: int) -> None:
    """A late word about the slot's last task does not end the release of this one."""
    whole = bench.running()
    bench.hold = {effects.SendDisk}
    name = bench.send(KEEP, whole)

    bench.tell(events.DiskSent(0, ref(job=job).id))

    assert bench.answers_to(name) == []
