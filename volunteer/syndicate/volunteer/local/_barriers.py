"""What the keeper tells of the barriers of a slot's sync server."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ._values import Stamp, TaskId

MAX_ROUNDS = 64
"""Lines about rounds of barriers that are told at once."""

LONGEST_BARRIER = 1024
"""Characters of a barrier's name as it is told: 64 bytes, of which each may be escaped."""


class BarrierEnd(StrEnum):
    """How a round of a barrier ended."""

    OPENED = "opened"
    DROPPED = "dropped"
    ABANDONED = "abandoned"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class BarrierTask:
    """Somebody at a barrier: a member, or an address that is none's. Of an init `count` is what it added."""

    task: str
    count: int


@dataclass(frozen=True, slots=True)
class BarrierRound:
    """What became of a barrier: one round, or `rounds` that ended alike, of which the last is told.

    `tasks` were there when it ended, and `others` more; `left` had come and gone.
    """

    barrier: str
    end: BarrierEnd
    began_at: Stamp
    ended_at: Stamp
    error: int
    inits: tuple[BarrierTask, ...]
    tasks: tuple[BarrierTask, ...]
    others: int
    left: int
    rounds: int


@dataclass(frozen=True, slots=True)
class OpenBarrier:
    """A barrier at which somebody waits. `remaining` is how many are still to come, below 0 before the init.

    `inits` waits, who added without waiting is in `held`. `missing` are members that neither wait nor
    initialised it, and `more_missing` more.
    """

    barrier: str
    since: Stamp
    remaining: int
    inits: tuple[BarrierTask, ...]
    tasks: tuple[BarrierTask, ...]
    others: int
    missing: tuple[str, ...]
    more_missing: int
    abandoned: bool
    held: tuple[BarrierTask, ...] = ()


@dataclass(frozen=True, slots=True)
class BarriersTold:
    """What happened at the barriers of a slot's sync server. Told a few times a second at most.

    `total` counts all rounds since Prepare: what was told while nobody listened is known by it alone.
    `trouble` is one line where the server itself failed. The `last` one comes before the answer to Release.
    """

    slot: int
    task: TaskId
    rounds: tuple[BarrierRound, ...]
    total: int
    open: tuple[OpenBarrier, ...]
    more_open: int
    trouble: str = ""
    last: bool = False
