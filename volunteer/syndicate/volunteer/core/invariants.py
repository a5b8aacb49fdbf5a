"""What must always hold of the machine's state; checked by tests after every event."""

from __future__ import annotations

from .endings import runs
from .state import BrokenInvariant, Slot
from .transitions import SlotState
from .turn import State

_RUNNING = (SlotState.RUNNING, SlotState.KILLING)
_NEVER_STARTED = (SlotState.RESERVED, SlotState.PREPARING, SlotState.PREPARED)


def check(state: State) -> None:
    """Asserts every invariant. Raises BrokenInvariant with what is wrong."""
    for number, slot in state.slots.items():
        _require(number == slot.number, f"slot {number} calls itself {slot.number}")
        _check_slot(slot)
    held = [slot for slot in state.slots.values() if slot.task is not None]
    tasks = [slot.task for slot in held]
    _require(len(tasks) == len(set(tasks)), "two slots hold one task")
    fabric = [slot.address for slot in held if slot.address and not slot.fixed_address]
    _require(len(fabric) == len(set(fabric)), "two slots have one address")
    for slot in held:
        _require(slot.holds.cluster_id in state.clusters, f"slot {slot.number} is of no known cluster")
    _require(len(state.events) <= state.config.max_events, "too many events are kept")
    _require(len(state.answers) <= state.config.max_answers, "too many answers are kept")
    _check_open_commands(state)


def _check_slot(slot: Slot) -> None:
    free = slot.state is SlotState.FREE
    _require(free == (slot.task is None), f"slot {slot.number} is {slot.state} and holds {slot.task}")
    if free:
        _require(slot.operation is None and not slot.queue, f"slot {slot.number} is free and has work")
    if slot.state in _NEVER_STARTED:
        _require(slot.generation == 0, f"slot {slot.number} is {slot.state} with a generation")
    if slot.state in _RUNNING:
        _require(runs(slot), f"slot {slot.number} is {slot.state} and its generation has ended")
    if slot.state is SlotState.RELEASING:
        _require(slot.operation is not None, f"slot {slot.number} is being released and nothing happens")
    _require(slot.operation is not None or not slot.queue, f"slot {slot.number} is idle and commands wait")
    _require(slot.operation is not None or not slot.early, f"slot {slot.number} is idle and exits wait")


def _check_open_commands(state: State) -> None:
    """Every command that was taken and not answered waits somewhere: none is forgotten."""
    waiting = [
        one.command.command_id for slot in state.slots.values() for one in (*slot.queue, *slot.releases)
    ]
    for slot in state.slots.values():
        if slot.operation is not None and slot.operation.waiting is not None:
            waiting.append(slot.operation.waiting.command.command_id)
    opened = [one.command.command_id for one in state.answers.open_commands()]
    _require(sorted(waiting) == sorted(opened), "the open commands are not those that wait on the slots")


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise BrokenInvariant(otherwise)
