"""A slot whose keeper is late, silent or of another mind, and whose lease runs out."""

from __future__ import annotations

import pytest
from syndicate.volunteer import local
from syndicate.volunteer.core import effects, events
from syndicate.volunteer.core.model import (
    AnswerCode,
    Kill,
    Reason,
    Release,
    Revive,
    Start,
    TaskState,
)
from syndicate.volunteer.core.transitions import SlotState
from volunteer_core.harness import SECOND, Harness, ref


def test_an_exit_that_overtakes_the_answer_to_its_start_is_told_after_it(bench: Harness) -> None:
    """Nobody hears of the end of something whose beginning was not answered."""
    bench.prepared()
    bench.hold = {effects.CallKeeper}
    name = bench.send(Start(), ref())
    call = next(e for e in bench.held if isinstance(e, effects.CallKeeper))
    reply = bench.keeper.ask(call.request)
    bench.keeper.end(0, 2)
    bench.tell_keeper_events()
    early = list(bench.exits())

    bench.tell(events.KeeperReplied(call.call, reply))

    assert early == []
    assert bench.answer_to(name).code is AnswerCode.DONE
    assert bench.exits()[-1].exit.reason is Reason.EXITED_NONZERO
    assert bench.core.slot_state(0) is SlotState.EXITED


def test_a_keeper_that_does_not_answer_is_connected_anew(bench: Harness) -> None:
    """The command fails within its deadline, and the truth comes from the next account."""
    bench.prepared()
    bench.hold = {effects.CallKeeper, effects.ResetKeeper}
    name = bench.send(Start(), ref())
    bench.keeper.ask(local.Start(0, ref().id, 1))

    for _ in range(2):
        bench.ack_heartbeats()
        bench.advance(12.0)
    slow = bench.answers_to(name)
    for _ in range(3):
        bench.ack_heartbeats()
        bench.advance(9.0)
    answer = bench.answer_to(name)
    bench.tell(events.KeeperLost())
    bench.tell(events.KeeperSynced(bench.keeper.synced()))

    assert slow == []
    assert answer.code is AnswerCode.FAILED
    assert bench.wanted(effects.ResetKeeper)
    assert bench.core.slot_state(0) is SlotState.RUNNING


def slow_revival(bench: Harness) -> tuple[str, effects.CallKeeper]:
    """A Revive that the keeper is asked and does not answer: its name, and the question."""
    bench.running()
    bench.ask(Kill(), ref())
    bench.hold = {effects.CallKeeper}
    name = bench.send(Revive(True), ref(generation=2))
    return name, next(effect for effect in bench.held if isinstance(effect, effects.CallKeeper))


def test_a_revival_may_take_as_long_as_the_keeper_needs(bench: Harness) -> None:
    """A disk that is unpacked anew takes longer than other questions to the keeper."""
    name, call = slow_revival(bench)
    for _ in range(5):
        bench.ack_heartbeats()
        bench.advance(9.0)

    bench.tell(events.KeeperReplied(call.call, bench.keeper.ask(call.request)))

    assert bench.answer_to(name).code is AnswerCode.DONE
    assert bench.core.slot_state(0) is SlotState.RUNNING


def test_a_revival_that_is_not_answered_is_ended_before_it_is_told_as_failed(bench: Harness) -> None:
    """What the manager holds for dead must not run."""
    name, call = slow_revival(bench)
    bench.keeper.ask(call.request)
    for _ in range(6):
        bench.ack_heartbeats()
        bench.advance(9.0)
    early = bench.answers_to(name)

    bench.held = [effect for effect in bench.held if effect is not call]
    bench.perform_held()

    assert early == []
    assert bench.answer_to(name).code is AnswerCode.FAILED
    assert bench.keeper.requests[-1] == local.Kill(0, ref().id, 2)
    assert bench.core.slot_state(0) is SlotState.KILLED


def test_a_revival_that_the_keeper_finds_wrong_has_its_account_taken_anew(bench: Harness) -> None:
    """What was known of the task is not so: what the keeper says of it is."""
    bench.running()
    bench.ask(Kill(), ref())
    bench.keeper.refuse[local.Revive] = local.Refused(local.ErrorCode.WRONG_STATE, "the task lives")

    answer = bench.ask(Revive(True), ref(generation=2))

    assert answer.code is AnswerCode.FAILED
    assert bench.wanted(effects.ResetKeeper)


def test_the_story_of_a_slot_tells_each_step(bench: Harness) -> None:
    """What happened can be read afterwards."""
    bench.running()
    bench.ask(Release(), ref())

    told = [line.state for line in bench.core.story(0)]

    assert told[:4] == [SlotState.RESERVED, SlotState.PREPARING, SlotState.PREPARED, SlotState.STARTING]
    assert told[-2:] == [SlotState.RELEASING, SlotState.FREE]


def test_held_tells_state_address_and_exit(bench: Harness) -> None:
    """What Hello reports."""
    bench.running()
    bench.ask(Kill(), ref())

    (held,) = bench.core.held()

    assert (held.ref, held.slot, held.address) == (ref(), 0, "10.77.0.2")
    assert held.state is TaskState.KILLED
    assert held.exit is not None
    assert held.exit.reason is Reason.KILLED_BY_FAULT


def test_nothing_is_started_when_the_lease_has_run_out(bench: Harness) -> None:
    """A manager not heard for so long may have given the task to others."""
    bench.prepared()
    bench.now_ns += 31 * SECOND

    assert bench.ask(Start(), ref()).code is AnswerCode.FAILED
    assert bench.keeper.starts == []


def test_a_task_is_given_up_when_its_manager_stays_away(bench: Harness) -> None:
    """The lease ends, a grace passes, the slot is free for other clusters."""
    bench.running()
    bench.tell(events.LinkLost("manager:7001"))

    bench.advance(89)
    before = bench.core.slot_state(0)
    bench.advance(2)

    assert before is SlotState.RUNNING
    assert bench.core.slot_state(0) is SlotState.FREE
    assert isinstance(bench.keeper.requests[-1], local.Release)


def test_a_sandbox_that_ends_before_its_start_is_the_machines_fault(bench: Harness) -> None:
    """It is told at once, and a Start that comes later fails."""
    bench.prepared()
    bench.keeper.end(0, 137)
    bench.tell_keeper_events()

    assert bench.exits()[-1].exit.reason is Reason.INFRASTRUCTURE
    assert bench.ask(Start(), ref()).code is AnswerCode.FAILED
    assert bench.ask(Release(), ref()).code is AnswerCode.DONE


def test_a_lease_that_ends_before_the_start_is_told_as_such(bench: Harness) -> None:
    """The sandbox was ended by the keeper."""
    bench.prepared()
    bench.keeper.end(0, 137, killed=True, cause="lease")
    bench.tell_keeper_events()

    assert bench.exits()[-1].exit.reason is Reason.LEASE_EXPIRED


@pytest.mark.parametrize("event_first", [True, False])
def test_a_revival_that_fails_uses_its_generation_up(bench: Harness, event_first: bool) -> None:
    """The answer says all; the end of what never ran is not told, and the next generation can be had."""
    bench.running()
    bench.ask(Kill(), ref())
    told = len(bench.exits())
    bench.hold = {effects.CallKeeper}
    name = bench.send(Revive(True), ref(generation=2))
    call = next(effect for effect in bench.held if isinstance(effect, effects.CallKeeper))
    bench.hold, bench.held = set(), []
    never_ran = local.Exit(2, 137, True, "release", bench.now, b"", b"", 0)
    outcome = [
        events.KeeperTold(local.Exited(0, ref().id, never_ran)),
        events.KeeperReplied(call.call, local.Refused(local.ErrorCode.FAILED, "no make")),
    ]
    for event in outcome if event_first else reversed(outcome):
        bench.tell(event)

    assert bench.answer_to(name).code is AnswerCode.FAILED
    assert len(bench.exits()) == told
    assert bench.ask(Revive(True), ref(generation=2)).code is AnswerCode.STALE
    assert bench.ask(Kill(), ref()).code is AnswerCode.DONE
    assert bench.ask(Revive(True), ref(generation=3)).code is AnswerCode.DONE


def test_a_line_about_a_slot_says_whose_task_is_on_it(bench: Harness) -> None:
    """Job, attempt, task and epoch, so that it is found beside the manager's lines."""
    bench.running()
    bench.keeper.slots[0] = type(bench.keeper.slots[0])()
    bench.tell(events.KeeperLost())
    bench.tell(events.KeeperSynced(bench.keeper.synced()))

    lines = [dict(note.fields) for note in bench.wanted(effects.Note)]
    task = ref()
    assert any(
        line.get("job_id") == str(task.job_id) and line["task"] == task.task and "epoch" in line
        for line in lines
    )
