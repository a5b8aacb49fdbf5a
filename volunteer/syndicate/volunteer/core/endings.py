"""How the ends of tasks are taken in: told by the keeper, found after a reconnect, or deduced."""

from __future__ import annotations

from .. import local
from .exits import classify
from .model import Reason, TaskExit
from .state import Slot, Step
from .transitions import SlotInput, SlotState
from .turn import Turn

_DEFERRING = (Step.START, Step.REVIVE, Step.KILL)


def take_exit(turn: Turn, slot: Slot, ended: local.Exit) -> None:
    """Takes in the end of a generation, once; behind the answer to its own Start, Revive or Kill (rule 3)."""
    if ended.generation in slot.exits:
        return
    operation = slot.operation
    if (
        operation is not None
        and operation.step in _DEFERRING
        and operation.generation == ended.generation
        and slot.state is not SlotState.RELEASING
    ):
        if all(early.generation != ended.generation for early in slot.early):
            slot.early.append(ended)
        return
    _record(turn, slot, ended)


def take_early(turn: Turn, slot: Slot) -> None:
    """Takes in what was put off while an operation was under way."""
    early, slot.early = slot.early, []
    for ended in early:
        take_exit(turn, slot, ended)


def _record(turn: Turn, slot: Slot, ended: local.Exit) -> None:
    slot.used = max(slot.used, ended.generation)
    if ended.generation not in slot.started:
        _record_unstarted(turn, slot, ended)
        return
    # A kill that was answered as a fault stays one, also where its record comes behind the job's end.
    stopping = slot.state is SlotState.RELEASING and ended.generation not in slot.faulted
    slot.exits[ended.generation] = classify(ended, slot.role, stopping)
    if ended.generation == slot.generation and slot.state in (SlotState.RUNNING, SlotState.KILLED):
        # A task that ran out of memory ended by its own doing, whoever ended it.
        killed = ended.killed and slot.exits[ended.generation].reason is not Reason.OUT_OF_MEMORY
        slot.move(SlotInput.END if killed else SlotInput.EXIT, turn.now)
    turn.report_exit(slot.ref(ended.generation), ended.at, slot.exits[ended.generation])


def _record_unstarted(turn: Turn, slot: Slot, ended: local.Exit) -> None:
    """A sandbox ended in which make was never exec'd.

    Where its Start or Revive was answered with a failure, everything is said. A sandbox that stood ready and
    ended by itself is told as a failure of the machine, or of the lease.
    """
    told = slot.exits[ended.generation] = classify(ended, slot.role)
    if slot.state is not SlotState.PREPARED:
        return
    slot.move(SlotInput.END if ended.killed else SlotInput.EXIT, turn.now)
    if ended.generation in slot.failed:
        return
    if told.reason is not Reason.LEASE_EXPIRED:
        detail = "the sandbox ended before make was started"
        told = TaskExit(Reason.INFRASTRUCTURE, told.exit_status, 0, detail)
        slot.exits[ended.generation] = told
    turn.report_exit(slot.ref(ended.generation), ended.at, told)


def report_again(turn: Turn, slot: Slot) -> None:
    """Tells the end of the current generation once more, behind an answer that says that it was started.

    A manager that asks again after a failover hears the same order as one that asked once: started, then
    ended.
    """
    ended = slot.exits.get(slot.generation)
    if ended is not None:
        turn.report_exit(slot.ref(), turn.now, ended)


def make_up_exit(turn: Turn, slot: Slot, ended: TaskExit) -> None:
    """Tells of an end that the keeper will tell nothing of any more."""
    generation = max(1, slot.generation)
    slot.exits[generation] = ended
    turn.report_exit(slot.ref(generation), turn.now, ended)


def lose(turn: Turn, slot: Slot) -> None:
    """The keeper holds nothing of the task any more: the machine's fault, never the job's (rule 6)."""
    if slot.gone:
        return
    slot.gone = True
    slot.touched = False
    slot.early.clear()
    if slot.state is not SlotState.RELEASING:
        slot.move(SlotInput.GONE, turn.now)
        detail = "the keeper was restarted and holds nothing of the task any more"
        make_up_exit(turn, slot, TaskExit(Reason.INFRASTRUCTURE, 0, 0, detail))
    turn.note("task.lost", slot=slot.number)


def runs(slot: Slot) -> bool:
    """Whether a generation was started of which no end is known."""
    return not slot.gone and slot.generation > 0 and slot.generation not in slot.exits


def ended_by_keeper(ended: TaskExit | None) -> bool:
    """Whether a generation was ended from outside, so that it counts as KILLED and not as EXITED."""
    outside = (Reason.KILLED_BY_FAULT, Reason.LEASE_EXPIRED, Reason.STOPPED)
    return ended is None or ended.reason in outside
