"""The life of a slot: one table, from which the documentation's diagram is drawn too.

Rules on top of the table:

1. A slot that is not FREE is locked by one task of one cluster; it locks on the first that reserves it.
2. At most one operation is under way on a slot; further commands wait their turn, except Release, which goes
   first.
3. An exit that is told while its own Start, Revive or Kill is under way is taken in after that command's
   answer, so that nobody hears of the end of something whose beginning was not answered.
4. RELEASING ends in FREE only. What the manager wants of the task meanwhile is refused, a further Release
   joins.
5. FOUND_* come from the keeper's account of itself after a connection to it was made: what it holds is true.
   A task that has ended is found running first, and its exit follows.
6. GONE: the keeper holds nothing of the task any more. It counts as EXITED, the infrastructure's fault.
"""

from __future__ import annotations

from enum import StrEnum

from .model import TaskState


class SlotState(StrEnum):
    """How far a slot is."""

    FREE = "free"
    RESERVED = "reserved"
    PREPARING = "preparing"
    PREPARED = "prepared"
    STARTING = "starting"
    RUNNING = "running"
    KILLING = "killing"
    KILLED = "killed"
    EXITED = "exited"
    REVIVING = "reviving"
    RELEASING = "releasing"


class SlotInput(StrEnum):
    """What moves a slot on."""

    RESERVE = "reserve"
    PREPARE = "prepare"
    PREPARE_DONE = "prepare done"
    PREPARE_FAILED = "prepare failed"
    START = "start"
    START_DONE = "start done"
    START_FAILED = "start failed"
    KILL = "kill"
    KILL_DONE = "kill done"
    KILL_FAILED = "kill failed"
    REVIVE = "revive"
    REVIVE_DONE = "revive done"
    EXIT = "make ended"
    END = "ended by the keeper"
    RELEASE = "release, or a lock or lease that lapsed"
    RELEASE_DONE = "release done"
    FOUND_PREPARED = "found prepared"
    FOUND_RUNNING = "found running"
    GONE = "gone from the keeper"


class IllegalTransition(Exception):
    """The table has no such line: a bug of the core."""


_S, _I = SlotState, SlotInput

SLOT_TRANSITIONS: dict[SlotState, dict[SlotInput, SlotState]] = {
    _S.FREE: {
        _I.RESERVE: _S.RESERVED,
        _I.FOUND_PREPARED: _S.PREPARED,
        _I.FOUND_RUNNING: _S.RUNNING,
    },
    _S.RESERVED: {
        _I.RESERVE: _S.RESERVED,
        _I.PREPARE: _S.PREPARING,
        _I.RELEASE: _S.RELEASING,
        _I.FOUND_PREPARED: _S.PREPARED,
        _I.FOUND_RUNNING: _S.RUNNING,
    },
    _S.PREPARING: {
        _I.PREPARE_DONE: _S.PREPARED,
        _I.PREPARE_FAILED: _S.RESERVED,
        _I.RELEASE: _S.RELEASING,
    },
    _S.PREPARED: {
        _I.START: _S.STARTING,
        _I.EXIT: _S.EXITED,  # the sandbox ended before make was started
        _I.END: _S.KILLED,
        _I.GONE: _S.EXITED,
        _I.RELEASE: _S.RELEASING,
        _I.FOUND_RUNNING: _S.RUNNING,
    },
    _S.STARTING: {
        _I.START_DONE: _S.RUNNING,
        _I.START_FAILED: _S.PREPARED,
        _I.GONE: _S.EXITED,
        _I.RELEASE: _S.RELEASING,
    },
    _S.RUNNING: {
        _I.KILL: _S.KILLING,
        _I.EXIT: _S.EXITED,
        _I.END: _S.KILLED,
        _I.GONE: _S.EXITED,
        _I.RELEASE: _S.RELEASING,
    },
    _S.KILLING: {
        _I.KILL_DONE: _S.KILLED,
        _I.KILL_FAILED: _S.RUNNING,
        _I.GONE: _S.EXITED,
        _I.RELEASE: _S.RELEASING,
    },
    _S.KILLED: {
        _I.REVIVE: _S.REVIVING,
        _I.EXIT: _S.EXITED,
        _I.END: _S.KILLED,
        _I.GONE: _S.EXITED,
        _I.RELEASE: _S.RELEASING,
        _I.FOUND_RUNNING: _S.RUNNING,
    },
    _S.EXITED: {
        _I.REVIVE: _S.REVIVING,
        _I.GONE: _S.EXITED,
        _I.RELEASE: _S.RELEASING,
        _I.FOUND_RUNNING: _S.RUNNING,
    },
    _S.REVIVING: {
        _I.REVIVE_DONE: _S.RUNNING,
        _I.EXIT: _S.EXITED,  # the revival failed, and the last generation had ended by itself
        _I.END: _S.KILLED,  # the revival failed, and the last generation had been killed
        _I.GONE: _S.EXITED,
        _I.RELEASE: _S.RELEASING,
    },
    _S.RELEASING: {
        _I.RELEASE_DONE: _S.FREE,
    },
}

TASK_STATES: dict[SlotState, TaskState] = {
    _S.RESERVED: TaskState.RESERVED,
    _S.PREPARING: TaskState.PREPARING,
    _S.PREPARED: TaskState.PREPARED,
    _S.STARTING: TaskState.STARTING,
    _S.RUNNING: TaskState.RUNNING,
    _S.KILLING: TaskState.RUNNING,
    _S.KILLED: TaskState.KILLED,
    _S.EXITED: TaskState.EXITED,
    _S.REVIVING: TaskState.STARTING,
    _S.RELEASING: TaskState.KILLED,
}
"""What the manager is told of a slot's state in Hello."""


def next_state(state: SlotState, line: SlotInput) -> SlotState:
    """The state that `line` leads to. Raises IllegalTransition where the table has none."""
    following = SLOT_TRANSITIONS[state].get(line)
    if following is None:
        raise IllegalTransition(f"a slot that is {state} cannot take {line!r}")
    return following
