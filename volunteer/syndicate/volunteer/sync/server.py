"""The server: the two doors, the barriers between them, and who is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from . import descriptors
from .core import wire
from .core.barriers import Barriers
from .core.effects import Dropped, Effect, Notice, Refuse, Refused, Release, Room, Tell, Watch
from .core.events import Arrived, DropAll, DropOne, Event, Expired, Gone, Why
from .core.rounds import Rounds
from .core.sessions import SILENCE_S, Session, Sessions
from .core.wire import Malformed, Request, Value
from .doors import Doors
from .log import Log
from .notices import Document, account, document, listing, text
from .owner import Owner
from .tcp import READ_DEADLINE_S, Connection, Tcp
from .udp import Udp

Party = Connection | Session
MOST_OPEN: Final = 16  # barriers that an account names as open


@dataclass(frozen=True, slots=True)
class Bounds:
    """`descriptors` is how many files the process may open; `names` are of tasks, by address."""

    descriptors: int
    names: Mapping[str, str] = field(default_factory=dict)
    read_deadline_s: float = READ_DEADLINE_S
    silence_s: float = SILENCE_S

    @property
    def waiters(self) -> int:
        """How many may wait over TCP."""
        return max(1, self.descriptors - descriptors.RESERVED)


class Server:
    """Serves from its making until `stop`; the loop must run. It does not own the doors."""

    def __init__(self, doors: Doors, bounds: Bounds, log: Log) -> None:
        self._names = dict(bounds.names)
        self._log = log
        self._barriers: Barriers[Party] = Barriers()
        self._timers: dict[Party, asyncio.TimerHandle] = {}
        self._owner: Owner | None = None
        self._rounds: Rounds | None = None
        self._fold_s = 0.0
        self._account_due: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._tcp = Tcp(
            doors.tcp,
            bounds.waiters,
            self._heard,
            self._gone,
            self._full,
            read_deadline_s=bounds.read_deadline_s,
        )
        self._udp = Udp(
            doors.udp, Sessions(silence_s=bounds.silence_s), self._arrived, self._gone, self._strange
        )

    @property
    def waiting(self) -> int:
        """How many wait at all barriers."""
        return len(self._barriers)

    def tell(self, owner: Owner, fold_s: float = 0.0) -> None:
        """From now on tell this owner what happens: each notice, or accounts every `fold_s`."""
        self._owner, self._fold_s = owner, fold_s
        self._rounds = Rounds() if fold_s > 0 else None

    def drop_all(self) -> int:
        """Drop all barriers; their waiters get 240. How many there were."""
        return self._drop(DropAll())

    def drop(self, shown: str) -> int:
        """Drop the barrier whose name is shown so; where none is, the one that has this very name.

        How many were dropped: 1, or 0 where there is neither.
        """
        names = self._barriers.names()
        found = next((name for name in names if text(name) == shown), shown.encode(errors="replace"))
        return self._drop(DropOne(found))

    def answer(self, ask: Document) -> Document:
        """What the owner asks."""
        match ask:
            case {"ask": "list"}:
                return {"event": "list", "barriers": listing(self._barriers.standing(), self._names)}
            case {"ask": "members", "members": dict(names)}:
                self._names = {str(address): str(task) for address, task in names.items()}
                return {"event": "members", "members": self._names}
            case {"ask": "drop", "barrier": str(shown)}:
                return _drop_done(ask, self.drop(shown))
            case {"ask": "drop"} if "barrier" not in ask:
                return _drop_done(ask, self.drop_all())
            case {"ask": "rounds"} if self._rounds is not None:
                return {**self._account(self._rounds), "asked": True}
            case _:
                return {"event": "not-understood"}

    def stop(self) -> None:
        """End all connections."""
        for timer in self._timers.values():
            timer.cancel()
        if self._account_due is not None:
            self._account_due.cancel()
        self._tcp.stop()
        self._udp.stop()

    # ---- from the doors ---------------------------------------------------------------------------------

    def _heard(self, connection: Connection, data: bytes, ended: bool) -> None:
        try:
            request = wire.decode(data)
        except Malformed as error:
            self._tcp.close(connection)
            self._strange(connection.source, str(error))
            return
        if request.extension is not None and request.extension.flags & ~wire.Flag.ABANDON:
            # Over TCP a client leaves by closing, and acknowledges nothing.
            self._tcp.close(connection)
            self._strange(connection.source, "a flag of UDP")
            return
        if ended and not request.no_wait:
            # Nobody is there to wait; an init without waiting has no owner who could be gone.
            self._tcp.close(connection)
            return
        self._handle(Arrived(connection, connection.source, request))

    def _arrived(self, session: Session, source: str, request: Request) -> None:
        self._handle(Arrived(session, source, request))

    def _gone(self, party: Party, why: Why) -> None:
        self._forget_timer(party)
        self._handle(Gone(party, why))

    def _full(self, source: str) -> None:
        self._strange(source, f"{len(self._tcp):,} wait over TCP", Room.TCP)

    def _strange(self, source: str, why: str, room: Room | None = None) -> None:
        self._told(Refused(source, why, room))

    # ---- the machine ------------------------------------------------------------------------------------

    def _drop(self, event: DropAll | DropOne) -> int:
        effects = self._barriers.handle(event)
        self._perform(effects)
        return sum(isinstance(effect, Tell) and isinstance(effect.notice, Dropped) for effect in effects)

    def _handle(self, event: Event[Party]) -> None:
        self._perform(self._barriers.handle(event))

    def _perform(self, effects: Iterable[Effect[Party]]) -> None:
        for effect in effects:
            match effect:
                case Release(parties, value):
                    self._release(parties, value)
                case Tell(notice):
                    self._told(notice)
                case Watch(party, timeout_ms):
                    self._timers[party] = self._loop.call_later(timeout_ms / 1000, self._expired, party)
                case Refuse(party, _):
                    self._refuse(party)

    def _release(self, parties: Iterable[Party], value: int) -> None:
        answer = wire.answer(value)
        for party in parties:
            if self._timers:
                self._forget_timer(party)
            if isinstance(party, Connection):
                self._tcp.release(party, answer)
            else:
                self._udp.release(party, value)

    def _refuse(self, party: Party) -> None:
        if isinstance(party, Connection):
            # The original client takes a connection without an answer for a failure of the protocol, and so
            # does ours; 76 is what both end with.
            self._tcp.close(party)
        else:
            self._udp.release(party, Value.REFUSED)

    def _expired(self, party: Party) -> None:
        del self._timers[party]
        self._handle(Expired(party))

    def _forget_timer(self, party: Party) -> None:
        timer = self._timers.pop(party, None)
        if timer is not None:
            timer.cancel()

    def _told(self, notice: Notice) -> None:
        if self._rounds is not None:
            news = self._rounds.take(notice, _now_ns())
            if news and self._account_due is None:
                self._account_due = self._loop.call_later(self._fold_s, self._tell_account)
        apiece = self._owner is not None and self._rounds is None
        if not apiece and not self._log.verbose and not isinstance(notice, Refused):
            return
        told = document(notice, self._names)
        if self._owner is not None and apiece:
            self._owner.tell(told)
        self._log.notice(str(told["event"]), **{name: told[name] for name in told if name != "event"})

    # ---- folded -----------------------------------------------------------------------------------------

    def _tell_account(self) -> None:
        self._account_due = None
        if self._owner is not None and self._rounds is not None:
            self._owner.tell(self._account(self._rounds))

    def _account(self, rounds: Rounds) -> Document:
        now_ns = _now_ns()
        told = rounds.account(self._barriers, now_ns)
        gathered, more = self._barriers.gathered(MOST_OPEN)
        since = [(each, rounds.since(each.barrier, now_ns)) for each in gathered]
        return account(told, since, more, self._names)


def _drop_done(ask: Document, dropped: int) -> Document:
    """The answer to a drop; it bears the number that the question had, if it had one."""
    number = ask.get("number")
    numbered: Document = {"number": number} if isinstance(number, int) else {}
    return {"event": "drop", **numbered, "dropped": dropped}


def _now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
