"""The barriers of one server: requests in, answers and news out.

`Barriers.handle(event)` is the only way in. Its state is what waits now: of what is over nothing is kept, but
the mark of a barrier whose init's owner went away, as long as there is room for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Generic

from .effects import (
    Abandoned,
    Came,
    Dropped,
    Effect,
    Initialised,
    Left,
    Opened,
    Refuse,
    Refused,
    Release,
    Room,
    Tell,
    TurnedAway,
    Watch,
)
from .events import Arrived, DropAll, DropOne, Event, Expired, Gone, Party, Why
from .shares import Shares
from .transitions import BARRIER_TRANSITIONS, BarrierInput, BarrierState, following
from .wire import COUNT_MAX, Flag, Kind, Request, Value

BARRIERS_MAX: Final = 16_384
HOLDERS_MAX: Final = 65_536
"""Sources that are remembered, of all barriers, for what they added without waiting."""


@dataclass(slots=True)
class _Member(Generic[Party]):
    """Who waits. `counted` is what it did to the count: -1 for a waiter, what it added for an init."""

    barrier: _Barrier[Party]
    source: str
    counted: int
    error: int
    asked: bool

    @property
    def owner(self) -> bool:
        return self.counted > 0


@dataclass(slots=True)
class _Barrier(Generic[Party]):
    """`standing` and `error` are of inits that did not wait, and `holders` has what each source added so.

    `source` is where the first came from.
    """

    name: bytes
    source: str
    state: BarrierState = BarrierState.ABSENT
    remaining: int = 0
    standing: int = 0
    error: int = 0
    holders: dict[str, int] = field(default_factory=dict)
    members: dict[Party, _Member[Party]] = field(default_factory=dict)

    def take(self, cause: BarrierInput) -> None:
        self.state = following(BARRIER_TRANSITIONS, self.state, cause)

    def tasks(self) -> dict[str, int]:
        return dict(Counter(member.source for member in self.members.values()))


@dataclass(frozen=True, slots=True)
class Standing:
    """An open barrier as it is now.

    By source `owners` has what their inits added, and `waiters` how many wait; `held` is what inits without
    an owner added, and `holders` what of it each source did, as far as there is room for their names.
    """

    barrier: bytes
    state: BarrierState
    remaining: int
    held: int
    owners: dict[str, int]
    waiters: dict[str, int]
    holders: dict[str, int] = field(default_factory=dict)


class Barriers(Generic[Party]):
    """All barriers of a server, at most `most` at a time, and a quarter of them begun from one address."""

    def __init__(self, most: int = BARRIERS_MAX) -> None:
        self._most = most
        self._share = max(1, most // 4)
        self._named: dict[bytes, _Barrier[Party]] = {}
        self._marked: dict[bytes, None] = {}  # the names of those that are only remembered, oldest first
        self._begun: Shares[bytes] = Shares()  # the names of all others, by where the first came from
        self._members: dict[Party, _Member[Party]] = {}
        self._holders = 0  # of all barriers

    def __len__(self) -> int:
        """How many parties wait."""
        return len(self._members)

    def waits(self, party: Party) -> bool:
        """Whether this one is counted at a barrier."""
        return party in self._members

    def names(self) -> list[bytes]:
        """Of the barriers that are open, in the order in which they came to be."""
        return list(self._named)

    def standing(self) -> list[Standing]:
        """The barriers that are open, in the order in which they came to be."""
        return [_pictured(barrier) for barrier in self._named.values()]

    def gathered(self, most: int) -> tuple[list[Standing], int]:
        """At most so many of those at which anything is counted, and how many there are more."""
        found = (barrier for name, barrier in self._named.items() if name not in self._marked)
        return [_pictured(each) for each in islice(found, most)], max(0, len(self._begun) - most)

    def __contains__(self, name: object) -> bool:
        """Whether anything is counted at the barrier of this name; a mark alone does not count."""
        return name in self._named and name not in self._marked

    def handle(self, event: Event[Party]) -> list[Effect[Party]]:
        """What follows from one event. Raises ValueError for the arrival of a party that waits already."""
        match event:
            case Arrived(party, source, request):
                return list(self._arrive(party, source, request))
            case Gone(party, why):
                return list(self._leave(party, why))
            case Expired(party):
                if party not in self._members:
                    return []
                return [Release((party,), Value.TIMED_OUT), *self._leave(party, Why.TIMED_OUT)]
            case DropAll():
                return [effect for each in list(self._named.values()) for effect in self._drop(each)]
            case DropOne(name):
                barrier = self._named.get(name)
                return [] if barrier is None else list(self._drop(barrier))

    # ---- arrivals ---------------------------------------------------------------------------------------

    def _arrive(self, party: Party, source: str, request: Request) -> Iterator[Effect[Party]]:
        if party in self._members:
            raise ValueError("a party waits at one barrier at a time")
        barrier = self._named.get(request.name)
        counted = request.count if request.kind is Kind.INIT else -1
        before = 0 if barrier is None else barrier.remaining
        if not -COUNT_MAX <= before + counted <= COUNT_MAX:
            yield from _refused(party, source, f"the count would be {before + counted:,}")
            return
        asked = request.extension is not None and Flag.ABANDON in request.extension.flags
        if barrier is not None and barrier.state is BarrierState.ABANDONED and asked and counted < 0:
            yield Release((party,), Value.ABANDONED)
            yield Tell(TurnedAway(barrier.name, source))
            return
        if barrier is None or barrier.name in self._marked:
            if why := self._lacking(source):
                yield from _refused(party, source, why, Room.BARRIERS)
                return
            barrier = self._begin(request.name, source)
        if counted > 0:
            yield from self._initialise(barrier, party, source, request, asked)
        else:
            barrier.take(BarrierInput.WAIT)
            self._count(barrier, party, _Member(barrier, source, counted, request.error, asked))
            yield Tell(Came(barrier.name, source, barrier.remaining))
        if barrier.remaining == 0:
            yield from self._open(barrier)
        elif party in self._members and request.extension is not None and request.extension.timeout_ms:
            yield Watch(party, request.extension.timeout_ms)

    def _initialise(
        self, barrier: _Barrier[Party], party: Party, source: str, request: Request, asked: bool
    ) -> Iterator[Effect[Party]]:
        barrier.take(BarrierInput.INIT)
        if request.no_wait:
            barrier.remaining += request.count
            barrier.standing += request.count
            self._note_holder(barrier, source, request.count)
            # The original forgets the error of an init that does not wait.
            barrier.error = max(barrier.error, request.error)
            yield Release((party,), 0)
        else:
            self._count(barrier, party, _Member(barrier, source, request.count, request.error, asked))
        yield Tell(Initialised(barrier.name, source, request.count, not request.no_wait, barrier.remaining))

    def _note_holder(self, barrier: _Barrier[Party], source: str, count: int) -> None:
        """Remember who added so many without waiting: nobody of whom an end could be heard."""
        if source not in barrier.holders:
            if self._holders >= HOLDERS_MAX:
                return
            self._holders += 1
        barrier.holders[source] = barrier.holders.get(source, 0) + count

    def _lacking(self, source: str) -> str:
        """Why no barrier can begin from this address; or nothing."""
        if self._begun.of(source) >= self._share:
            return f"{self._share:,} barriers were begun from there"
        if len(self._begun) >= self._most:
            return f"there are {self._most:,} barriers"
        return ""

    def _begin(self, name: bytes, source: str) -> _Barrier[Party]:
        """One that is new, or was only remembered. The oldest that is remembered makes room."""
        barrier = self._named.get(name)
        if barrier is not None:
            del self._marked[name]
            barrier.source = source
        else:
            if len(self._named) >= self._most:
                oldest = self._named[next(iter(self._marked))]
                oldest.take(BarrierInput.FORGOTTEN)
                self._forget(oldest)
            barrier = self._named[name] = _Barrier(name, source)
        self._begun.add(source, name)
        return barrier

    def _forget(self, barrier: _Barrier[Party]) -> None:
        del self._named[barrier.name]
        self._holders -= len(barrier.holders)
        if barrier.name in self._marked:
            del self._marked[barrier.name]
        else:
            self._begun.remove(barrier.source, barrier.name)

    def _count(self, barrier: _Barrier[Party], party: Party, member: _Member[Party]) -> None:
        barrier.remaining += member.counted
        barrier.members[party] = self._members[party] = member

    # ---- ends -------------------------------------------------------------------------------------------

    def _open(self, barrier: _Barrier[Party]) -> Iterator[Effect[Party]]:
        error = max([barrier.error, *(member.error for member in barrier.members.values())])
        parties = tuple(barrier.members)
        tasks = barrier.tasks()
        self._remove(barrier, BarrierInput.OPENED)
        yield Release(parties, error)
        yield Tell(Opened(barrier.name, error, tasks))

    def _leave(self, party: Party, why: Why) -> Iterator[Effect[Party]]:
        member = self._members.get(party)
        if member is None:
            return
        barrier = member.barrier
        self._uncount(party, member)
        barrier.take(BarrierInput.OWNER_LEFT if member.owner else BarrierInput.LEFT)
        yield Tell(Left(barrier.name, member.source, why, member.owner, barrier.remaining))
        if member.owner and not (barrier.members and barrier.remaining == 0):
            yield from self._abandon(barrier, member)
        yield from self._settle(barrier)

    def _abandon(self, barrier: _Barrier[Party], owner: _Member[Party]) -> Iterator[Effect[Party]]:
        """Tell whom this concerns that an owner is gone: who asked, or all where the owner asked for it."""
        told = [
            (party, member)
            for party, member in barrier.members.items()
            if not member.owner and (owner.asked or member.asked)
        ]
        for party, member in told:
            self._uncount(party, member)
            barrier.take(BarrierInput.LEFT)
        if told:
            yield Release(tuple(party for party, _ in told), Value.ABANDONED)
        yield Tell(Abandoned(barrier.name, owner.source, len(told)))
        for _, member in told:
            yield Tell(Left(barrier.name, member.source, Why.ABANDONED, False, barrier.remaining))

    def _settle(self, barrier: _Barrier[Party]) -> Iterator[Effect[Party]]:
        """After somebody left: the count may be zero now."""
        if barrier.remaining != 0:
            return
        if barrier.members:
            yield from self._open(barrier)
            return
        barrier.take(BarrierInput.EMPTIED)
        if barrier.state is BarrierState.ABSENT:
            self._forget(barrier)
        elif barrier.name not in self._marked:
            self._begun.remove(barrier.source, barrier.name)
            self._marked[barrier.name] = None

    def _drop(self, barrier: _Barrier[Party]) -> Iterator[Effect[Party]]:
        parties, tasks = tuple(barrier.members), barrier.tasks()
        self._remove(barrier, BarrierInput.DROPPED)
        if parties:
            yield Release(parties, Value.DROPPED)
        yield Tell(Dropped(barrier.name, tasks))

    def _uncount(self, party: Party, member: _Member[Party]) -> None:
        del self._members[party], member.barrier.members[party]
        member.barrier.remaining -= member.counted

    def _remove(self, barrier: _Barrier[Party], cause: BarrierInput) -> None:
        barrier.take(cause)
        self._forget(barrier)
        for party in barrier.members:
            del self._members[party]

    # ---- invariants -------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raises AssertionError where the state contradicts itself."""
        counted = 0
        for name, barrier in self._named.items():
            _hold(barrier.name == name, "a barrier stands under its name")
            _hold(barrier.state is not BarrierState.ABSENT, "what stands is not absent")
            members = barrier.members.values()
            _hold(
                barrier.remaining == barrier.standing + sum(each.counted for each in members),
                "the count is the sum of those that are counted",
            )
            _hold(sum(barrier.holders.values()) <= barrier.standing, "nobody holds more than all do")
            _hold(barrier.remaining != 0 or _only_marked(barrier), "at zero a barrier is open or empty")
            _hold(all(each.barrier is barrier for each in members), "members know their barrier")
            _hold(all(self._members.get(party) is each for party, each in barrier.members.items()), "known")
            counted += len(members)
        _hold(counted == len(self._members), "each party waits at one barrier")
        marked = {name for name, barrier in self._named.items() if _only_marked(barrier)}
        _hold(marked == set(self._marked), "those that are only remembered are known")
        _hold(len(self._begun) == len(self._named) - len(marked), "and so are all others")
        holders = sum(len(barrier.holders) for barrier in self._named.values())
        _hold(holders == self._holders <= HOLDERS_MAX, "those who added without waiting are counted")
        _hold(len(self._named) <= self._most, "no more barriers than may be")


def _hold(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(what)


def _only_marked(barrier: _Barrier[Party]) -> bool:
    return barrier.state is BarrierState.ABANDONED and barrier.remaining == 0 and not barrier.members


def _pictured(barrier: _Barrier[Party]) -> Standing:
    members = barrier.members.values()
    owners: Counter[str] = Counter()
    for each in members:
        if each.owner:
            owners[each.source] += each.counted
    waiters = Counter(each.source for each in members if not each.owner)
    return Standing(
        barrier.name,
        barrier.state,
        barrier.remaining,
        barrier.standing,
        dict(owners),
        dict(waiters),
        dict(barrier.holders),
    )


def _refused(party: Party, source: str, why: str, room: Room | None = None) -> Iterator[Effect[Party]]:
    yield Refuse(party, why)
    yield Tell(Refused(source, why, room))
