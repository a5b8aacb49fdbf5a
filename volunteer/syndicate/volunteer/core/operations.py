"""The operation under way on a slot: begun, asked of the keeper, and done or failed."""

from __future__ import annotations

from .. import local
from .effects import OpenRelay, ReleaseSource
from .endings import ended_by_keeper, report_again
from .model import AnswerCode, Role
from .state import BrokenInvariant, Operation, Slot, Step, Waiting
from .transitions import SlotInput, SlotState
from .turn import Turn

_PREPARING = (Step.FETCH, Step.PREPARE, Step.RELAY)
_STARTING = (Step.START, Step.REVIVE)
_DONE = {
    Step.PREPARE: SlotInput.PREPARE_DONE,
    Step.RELAY: SlotInput.PREPARE_DONE,
    Step.START: SlotInput.START_DONE,
    Step.KILL: SlotInput.KILL_DONE,
    Step.REVIVE: SlotInput.REVIVE_DONE,
}


def begin(
    turn: Turn,
    slot: Slot,
    step: Step,
    waiting: Waiting | None,
    request: local.Request | None = None,
    *,
    generation: int = 0,
    timeout_s: float | None = None,
) -> None:
    """Begins a step; `timeout_s` is what the keeper may take for it unless it is given."""
    limit = timeout_of(turn, step) if timeout_s is None else timeout_s
    slot.operation = Operation(step, turn.after(limit), waiting, request, generation=generation)
    if request is not None:
        slot.touched = True
        issue(turn, slot)


def issue(turn: Turn, slot: Slot) -> None:
    """Asks the keeper, or waits a while for it to come back."""
    operation = slot.work
    operation.retry_ns = None
    if operation.request is None:
        raise BrokenInvariant(f"{operation.step} is nothing to ask of the keeper")
    if turn.state.synced:
        operation.call = turn.call(operation.request, slot.number)
    else:
        operation.deadline_ns = min(operation.deadline_ns, turn.after(turn.state.config.keeper_wait_s))


def timeout_of(turn: Turn, step: Step) -> float:
    """How long the keeper may take for a step, in seconds."""
    config = turn.state.config
    if step in _PREPARING:
        return config.prepare_timeout_s
    return config.start_timeout_s if step in _STARTING else config.keeper_timeout_s


def take_back(turn: Turn, slot: Slot) -> None:
    """Has the keeper end a revival that was not answered, so that what is told as failed does not run."""
    operation = slot.work
    operation.request = local.Kill(slot.number, slot.holds, operation.generation)
    operation.deadline_ns = turn.after(turn.state.config.keeper_timeout_s)
    issue(turn, slot)


def taken_back(operation: Operation) -> bool:
    """Whether it is a revival that is being ended again."""
    return operation.step is Step.REVIVE and isinstance(operation.request, local.Kill)


def succeed(turn: Turn, slot: Slot, done: local.Done) -> None:
    """The keeper did what a command wanted: moves the slot on and answers (steps of a release: see there)."""
    operation = slot.work
    step, waiting = operation.step, operation.waiting
    releasing = slot.state is SlotState.RELEASING
    if step is Step.PREPARE and not releasing and slot.role is Role.CLIENT:
        begin(turn, slot, Step.RELAY, waiting, timeout_s=turn.state.config.keeper_timeout_s)
        turn.emit(OpenRelay(slot.number, slot.holds))
        return
    slot.operation = None
    if step in _STARTING:
        slot.used = max(slot.used, operation.generation)
        slot.started.setdefault(operation.generation, done.at)
    if step is Step.KILL:
        slot.faulted.add(operation.generation)
    if not releasing:
        _move_on(turn, slot, step)
    if waiting is not None:
        # Of a Prepare the duration is the whole, the fetch included: it is taken from the command's arrival.
        timed = None if step in _PREPARING else done
        dropped = done.dropped if step is Step.BARRIERS else None
        turn.answer(waiting, AnswerCode.DONE, processes=done.processes, dropped=dropped, done=timed)


def _move_on(turn: Turn, slot: Slot, step: Step) -> None:
    line = _DONE.get(step)
    if line is not None:
        slot.move(line, turn.now)
    else:
        slot.tell(str(step), turn.now)


def fail(turn: Turn, slot: Slot, code: AnswerCode, detail: str) -> None:
    """A command's operation came to nothing: moves the slot back and answers."""
    operation = slot.work
    step, waiting = operation.step, operation.waiting
    slot.operation = None
    if step in _STARTING:
        slot.failed.add(operation.generation)
    if slot.state is not SlotState.RELEASING and not slot.gone:
        _move_back(turn, slot, step)
    if step is Step.FETCH:
        turn.emit(ReleaseSource(slot.number))
    if waiting is not None:
        turn.answer(waiting, code, detail)


def _move_back(turn: Turn, slot: Slot, step: Step) -> None:
    if step in _PREPARING:
        slot.move(SlotInput.PREPARE_FAILED, turn.now)
        slot.lapse_ns = turn.ns + slot.ttl_ns
    elif step is Step.START:
        slot.move(SlotInput.START_FAILED, turn.now)
    elif step is Step.KILL:
        slot.move(SlotInput.KILL_FAILED, turn.now)
    elif step is Step.REVIVE:
        killed = ended_by_keeper(slot.exits.get(slot.generation))
        slot.move(SlotInput.END if killed else SlotInput.EXIT, turn.now)


def already(turn: Turn, slot: Slot, waiting: Waiting) -> None:
    """What is wanted holds already: says so, and since when, and repeats an end that followed."""
    generation = waiting.command.ref.generation
    since = slot.started.get(generation)
    done = None if since is None else local.Done(since, 0, already=True)
    turn.answer(waiting, AnswerCode.DONE, done=done)
    report_again(turn, slot)


def relay_stands(turn: Turn, slot: Slot) -> None:
    """The client's socket is there: the task is prepared."""
    succeed(turn, slot, local.Done(turn.now, 0))
