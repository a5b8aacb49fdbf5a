"""How a slot is given back: end all processes, wait until the output is stored, hand the disk over where that
is wanted, remove everything.

Always in this order, so that the last log and the last event were sent before Release is answered; each step
has a deadline, and a step that cannot be done does not keep the next from being tried.
"""

from __future__ import annotations

from .. import local
from . import rebooting
from .effects import CloseRelay, DrainLogs, ForgetLogs, ReleaseSource, SendDisk
from .endings import make_up_exit, runs
from .model import AnswerCode, Reason, Release, Role, TaskExit
from .operations import begin
from .state import Operation, Slot, Step, Waiting
from .transitions import SlotInput, SlotState
from .turn import Turn


def begin_release(turn: Turn, slot: Slot, waiting: Waiting | None, abandoned: bool = False) -> None:
    """Gives a slot back for a command, or (None) because its lock or its lease has lapsed.

    What waits is answered at once; a fetch is cancelled; a request that the keeper has is waited for.
    """
    slot.abandoned = abandoned
    slot.move(SlotInput.RELEASE, turn.now)
    if waiting is not None:
        slot.releases.append(waiting)
        action = waiting.command.action
        slot.keep = isinstance(action, Release) and action.keep_disk and not abandoned
    while slot.queue:
        turn.answer(slot.queue.popleft(), AnswerCode.UNKNOWN_TASK, "the task is being released")
    operation = slot.operation
    if operation is not None and operation.request is None:
        slot.operation = None
        turn.emit(ReleaseSource(slot.number))
        if operation.waiting is not None:
            turn.answer(operation.waiting, AnswerCode.UNKNOWN_TASK, "the task is being released")
    if slot.operation is None:
        advance_release(turn, slot)


def advance_release(turn: Turn, slot: Slot) -> None:
    """Takes the next step of a release."""
    config = turn.state.config
    if runs(slot) and not slot.ended:
        request = local.Kill(slot.number, slot.holds, slot.generation)
        begin(turn, slot, Step.END, None, request, generation=slot.generation)
        return
    slot.ended = True
    if slot.generation > 0 and not slot.drained and not slot.abandoned and not slot.gone:
        slot.operation = Operation(Step.DRAIN, turn.after(config.drain_timeout_s))
        turn.emit(DrainLogs(slot.number, slot.holds, tuple(sorted(slot.started))))
        return
    slot.drained = True
    if slot.keep:
        slot.operation = Operation(Step.KEEP, turn.after(config.disk_timeout_s))
        turn.emit(SendDisk(slot.number, slot.ref(), _no_disk(slot)))
        return
    if slot.role is Role.CLIENT:
        turn.emit(CloseRelay(slot.number))
    if not slot.touched:
        finish_release(turn, slot)
        return
    begin(turn, slot, Step.REMOVE, None, local.Release(slot.number, slot.holds))


def _no_disk(slot: Slot) -> str:
    """Why there is no disk to hand over; empty where there may be one."""
    if slot.gone:
        return "the keeper was restarted, and the disk went with it"
    return "" if slot.generation > 0 else "the task was never started"


def finish_release(turn: Turn, slot: Slot) -> None:
    """Nothing is left: frees the slot and answers."""
    if runs(slot):  # the keeper has told no end and never will
        make_up_exit(turn, slot, TaskExit(Reason.STOPPED, 0, 0, "ended with the slot"))
    turn.emit(ReleaseSource(slot.number))
    turn.emit(ForgetLogs(slot.number, slot.holds))
    slot.operation = None
    slot.move(SlotInput.RELEASE_DONE, turn.now)
    turn.state.slots[slot.number] = slot.freed()
    for waiting in slot.releases:
        turn.answer(waiting, AnswerCode.DONE)
    if slot.touched:
        rebooting.left(turn, slot.holds.cluster_id)


def release_failed(turn: Turn, slot: Slot, detail: str) -> None:
    """Says so to who waits, and tries again until it works: a slot is never given up with something on it."""
    operation = slot.work
    releases, slot.releases = slot.releases, []
    for waiting in releases:
        turn.answer(waiting, AnswerCode.FAILED, detail)
    turn.note("release.failed", slot=slot.number, detail=detail)
    operation.call = None
    operation.retry_ns = turn.after(turn.state.config.release_retry_s)
    operation.deadline_ns = turn.after(turn.state.config.release_retry_s + turn.state.config.keeper_timeout_s)


def step_done(turn: Turn, slot: Slot) -> None:
    """A step of a release was done, or has taken too long: all but REMOVE go on either way."""
    operation = slot.work
    slot.operation = None
    if operation.step is Step.REMOVE:
        finish_release(turn, slot)
        return
    if operation.step is Step.END:
        slot.ended = True
    if operation.step is Step.DRAIN:
        slot.drained = True
    if operation.step is Step.KEEP:
        slot.keep = False
    advance_release(turn, slot)


RELEASE_STEPS = (Step.END, Step.DRAIN, Step.KEEP, Step.REMOVE)
"""The steps that only a release has."""


def joins(slot: Slot, waiting: Waiting) -> bool:
    """Whether a Release finds one of the same task under way; it is answered with that one."""
    if slot.state is not SlotState.RELEASING or slot.task != waiting.command.ref.id:
        return False
    slot.releases.append(waiting)
    return True
