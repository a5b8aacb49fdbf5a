"""The life of a barrier, and that of a waiter which came over UDP: two tables.

Rules on top of the table of barriers:

1. `remaining` is what all inits in force added, less one for each waiter. It is negative before the init.
2. A barrier opens when `remaining` is 0 and somebody waits at it: by an arrival, or because somebody left.
3. An init that does not wait stays in force when its caller is gone: it was answered, and has no owner.
4. When an init's owner goes away, what it added is taken back, and the barrier is ABANDONED until the next
   init. Waiters who asked for it are told and counted no more, also those who come later; where the owner
   itself had asked, all who wait at that moment are. The others wait on.
5. An ABANDONED barrier without waiters is remembered, for those who come later.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar


class BarrierState(StrEnum):
    """How far a barrier is."""

    ABSENT = "absent"  # nothing is known under its name
    GATHERING = "gathering"  # waiters came, nobody has initialised it
    COUNTING = "counting"  # an init is in force
    ABANDONED = "abandoned"  # an init's owner went away, and there was no init since


class BarrierInput(StrEnum):
    """What moves a barrier on."""

    WAIT = "a waiter comes"
    INIT = "an init"
    LEFT = "a waiter leaves"
    OWNER_LEFT = "an init's owner leaves"
    OPENED = "the count is zero"
    EMPTIED = "nobody is left"
    DROPPED = "all are dropped"
    FORGOTTEN = "there is no room for it"


class SessionState(StrEnum):
    """How far a waiter is that came over UDP."""

    ABSENT = "absent"
    WAITING = "waiting"  # counted
    ANSWERED = "answered"  # the answer is on its way, and repeated
    DONE = "done"  # remembered, so that a late copy of its request counts nothing


class SessionInput(StrEnum):
    """What moves such a waiter on."""

    REQUEST = "its request"
    ANSWER = "its answer is known"
    ACKNOWLEDGED = "it has the answer"
    TIRED = "the answer was repeated enough"
    LEAVE = "it leaves"
    SILENCE = "it was not heard of"
    DISPLACED = "another takes its place"
    FORGOTTEN = "it was remembered long enough"


class IllegalTransition(Exception):
    """The table has no such line: a bug of the core."""


_B, _I = BarrierState, BarrierInput

BARRIER_TRANSITIONS: Mapping[tuple[BarrierState, BarrierInput], BarrierState] = {
    (_B.ABSENT, _I.WAIT): _B.GATHERING,
    (_B.ABSENT, _I.INIT): _B.COUNTING,
    (_B.GATHERING, _I.WAIT): _B.GATHERING,
    (_B.GATHERING, _I.INIT): _B.COUNTING,
    (_B.GATHERING, _I.LEFT): _B.GATHERING,
    (_B.GATHERING, _I.EMPTIED): _B.ABSENT,
    (_B.GATHERING, _I.DROPPED): _B.ABSENT,
    (_B.COUNTING, _I.WAIT): _B.COUNTING,
    (_B.COUNTING, _I.INIT): _B.COUNTING,
    (_B.COUNTING, _I.LEFT): _B.COUNTING,
    (_B.COUNTING, _I.OWNER_LEFT): _B.ABANDONED,
    (_B.COUNTING, _I.OPENED): _B.ABSENT,
    (_B.COUNTING, _I.DROPPED): _B.ABSENT,
    (_B.ABANDONED, _I.WAIT): _B.ABANDONED,
    (_B.ABANDONED, _I.INIT): _B.COUNTING,
    (_B.ABANDONED, _I.LEFT): _B.ABANDONED,
    (_B.ABANDONED, _I.OWNER_LEFT): _B.ABANDONED,
    (_B.ABANDONED, _I.OPENED): _B.ABSENT,
    (_B.ABANDONED, _I.EMPTIED): _B.ABANDONED,
    (_B.ABANDONED, _I.DROPPED): _B.ABSENT,
    (_B.ABANDONED, _I.FORGOTTEN): _B.ABSENT,
}

_S, _J = SessionState, SessionInput

SESSION_TRANSITIONS: Mapping[tuple[SessionState, SessionInput], SessionState] = {
    (_S.ABSENT, _J.REQUEST): _S.WAITING,
    (_S.WAITING, _J.REQUEST): _S.WAITING,
    (_S.WAITING, _J.ANSWER): _S.ANSWERED,
    (_S.WAITING, _J.LEAVE): _S.DONE,
    (_S.WAITING, _J.SILENCE): _S.ABSENT,
    (_S.WAITING, _J.DISPLACED): _S.ABSENT,
    (_S.ANSWERED, _J.REQUEST): _S.ANSWERED,
    (_S.ANSWERED, _J.ACKNOWLEDGED): _S.DONE,
    (_S.ANSWERED, _J.LEAVE): _S.DONE,
    (_S.ANSWERED, _J.TIRED): _S.DONE,
    (_S.DONE, _J.REQUEST): _S.DONE,
    (_S.DONE, _J.ACKNOWLEDGED): _S.DONE,
    (_S.DONE, _J.LEAVE): _S.DONE,
    (_S.DONE, _J.FORGOTTEN): _S.ABSENT,
}

_State = TypeVar("_State", BarrierState, SessionState)
_Input = TypeVar("_Input", BarrierInput, SessionInput)


def following(table: Mapping[tuple[_State, _Input], _State], state: _State, cause: _Input) -> _State:
    """The state that `cause` leads to. Raises IllegalTransition where the table has none."""
    found = table.get((state, cause))
    if found is None:
        raise IllegalTransition(f"what is {state} cannot take: {cause}")
    return found
