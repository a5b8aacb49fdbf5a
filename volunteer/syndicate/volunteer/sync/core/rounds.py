"""What happened at the barriers, folded: one line for a round, however many came, and so many lines at most.

A round is a barrier's life, from the first that came or the init until it opened, was dropped or was left by
all. Rounds of one barrier that ended alike since the last account are one line that counts them; beyond
`MOST_ROUNDS` lines they are counted alone. So an account has the same size after ten rounds and a million.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from .effects import Abandoned, Came, Dropped, Initialised, Left, Notice, Opened, Refused, Room

MOST_ROUNDS: Final = 16
MOST_TASKS: Final = 16  # named in one line; the others are counted


class RoundEnd(StrEnum):
    """How a round ended."""

    OPENED = "opened"
    DROPPED = "dropped"
    ABANDONED = "abandoned"  # who had initialised it went away, and so did all who waited
    LEFT = "left"  # all who waited went away


@dataclass(frozen=True, slots=True)
class Round:
    """One round, or `rounds` of them that ended alike: the first began at `began_ns`, the last ended then.

    `inits` has what each source added in the last one, `tasks` who was there at its end (of one that was
    left: who had come), both by source; `others` were there beside those that are named. `left` were
    un-counted.
    """

    barrier: bytes
    end: RoundEnd
    began_ns: int
    ended_ns: int
    error: int
    inits: dict[str, int]
    tasks: dict[str, int]
    others: int
    left: int
    rounds: int = 1


@dataclass(frozen=True, slots=True)
class Account:
    """The rounds since the last account. `more` have no line; `total` counts all since the beginning.

    `full` is what there was no room for, each when it came to that for the first time.
    """

    rounds: tuple[Round, ...]
    more: int
    total: int
    full: tuple[Room, ...] = ()


@dataclass(slots=True)
class _Life:
    """A round under way."""

    began_ns: int
    inits: dict[str, int] = field(default_factory=dict)
    came: dict[str, int] = field(default_factory=dict)
    others: int = 0
    left: int = 0
    abandoned: bool = False


class Rounds:
    """Takes notices, gives accounts. Times are arguments, in nanoseconds of one clock."""

    def __init__(self) -> None:
        self._lives: dict[bytes, _Life] = {}
        self._ended: dict[tuple[bytes, RoundEnd], Round] = {}
        self._more = 0
        self._total = 0
        self._full: dict[Room, bool] = {}  # and whether it was told

    def take(self, notice: Notice, now_ns: int) -> bool:
        """Something happened at a barrier, or at none for want of room; whether there is news to tell."""
        match notice:
            case Initialised(barrier, source, count):
                life = self._life(barrier, now_ns)
                if source in life.inits or len(life.inits) < MOST_TASKS:
                    life.inits[source] = life.inits.get(source, 0) + count
            case Came(barrier, source):
                life = self._life(barrier, now_ns)
                if source in life.came or len(life.came) < MOST_TASKS:
                    life.came[source] = life.came.get(source, 0) + 1
                else:
                    life.others += 1
            case Left(barrier, _, _, _, _):
                self._life(barrier, now_ns).left += 1
            case Abandoned(barrier):
                self._life(barrier, now_ns).abandoned = True
            case Opened(barrier, error, tasks):
                self._end(barrier, RoundEnd.OPENED, now_ns, error, tasks)
            case Dropped(barrier, tasks):
                self._end(barrier, RoundEnd.DROPPED, now_ns, 0, tasks)
            case Refused(_, _, Room() as room):
                self._full.setdefault(room, False)
            case _:  # who was sent away at once is no part of a round
                return False
        return True

    def account(self, open_now: Container[bytes], now_ns: int) -> Account:
        """What ended since the last account. `open_now`: at which barriers anything waits."""
        for name in [name for name in self._lives if name not in open_now]:
            life = self._lives[name]
            end = RoundEnd.ABANDONED if life.abandoned else RoundEnd.LEFT
            self._end(name, end, now_ns, 0, life.came)
        full = tuple(room for room, is_told in self._full.items() if not is_told)
        told = Account(tuple(self._ended.values()), self._more, self._total, full)
        self._ended, self._more, self._full = {}, 0, dict.fromkeys(self._full, True)
        return told

    def since(self, barrier: bytes, now_ns: int) -> int:
        """When the round that is under way at a barrier began."""
        life = self._lives.get(barrier)
        return now_ns if life is None else life.began_ns

    def _life(self, barrier: bytes, now_ns: int) -> _Life:
        found = self._lives.get(barrier)
        if found is None:
            found = self._lives[barrier] = _Life(now_ns)
        return found

    def _end(self, barrier: bytes, end: RoundEnd, now_ns: int, error: int, tasks: dict[str, int]) -> None:
        life = self._lives.pop(barrier, None) or _Life(now_ns)
        self._total += 1
        named = dict(list(tasks.items())[:MOST_TASKS])
        others = sum(tasks.values()) - sum(named.values())
        if tasks is life.came:
            others += life.others
        ended = Round(barrier, end, life.began_ns, now_ns, error, life.inits, named, others, life.left)
        before = self._ended.get((barrier, end))
        if before is not None:
            self._ended[barrier, end] = replace(
                ended,
                began_ns=before.began_ns,
                error=max(before.error, error),
                left=before.left + ended.left,
                rounds=before.rounds + 1,
            )
        elif len(self._ended) < MOST_ROUNDS:
            self._ended[barrier, end] = ended
        else:
            self._more += 1
