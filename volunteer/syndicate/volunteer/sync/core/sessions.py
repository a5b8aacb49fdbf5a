"""Waiters that come over UDP, where packets are lost, repeated and reordered.

Our own client names each request by an id of 64 random bits, and sends it again, ever more slowly and at
least once a second, until it has the answer. The server says at once that it counted the request; repeats
count nothing. An answer is sent again until it is acknowledged, and remembered for a while after. A client
that is not heard of for ten seconds is un-counted; should it come back, it is counted again.

The original client sends one packet and has no id: it is known by its address and port, it is answered
once, and nobody can tell whether it still waits. Another request of the same port takes the place of the one
before; and since those that are never heard of again would fill the table, all of them together have half of
it, and each address a quarter: beyond that the oldest makes room.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from .effects import Room
from .events import Why
from .shares import Shares
from .transitions import SESSION_TRANSITIONS, SessionInput, SessionState, following
from .wire import Flag, Malformed, ReplyKind, Request, Value, answer, decode, reply

SESSIONS_MAX: Final = 65_536
SILENCE_S: Final = 10.0
REMEMBERED_S: Final = 60.0
_FIRST_REPEAT_S: Final = 0.05
_LAST_REPEAT_S: Final = 1.0
_REPEATS: Final = 12
_SPARE: Final = 1_000  # entries of sessions that are gone

Peer = tuple[str, int]  # address and port


@dataclass(slots=True, eq=False)
class Session:
    """One request over UDP, of one peer. It is the party at the barrier.

    `plain` is what it asked for, where that has no id to know a copy of it by.
    """

    peer: Peer
    request_id: int | None
    plain: Request | None = None
    state: SessionState = SessionState.ABSENT
    value: int | None = None
    sent: int = 0
    due: float = field(default=float("inf"))
    scheduled: float = field(default=float("inf"))

    def take(self, cause: SessionInput) -> None:
        self.state = following(SESSION_TRANSITIONS, self.state, cause)


@dataclass(frozen=True, slots=True)
class Send:
    """Send these bytes to this peer."""

    peer: Peer
    data: bytes


@dataclass(frozen=True, slots=True)
class Join:
    """Let the session arrive at its barrier. The answer comes by `answered` or `refused`."""

    session: Session
    request: Request


@dataclass(frozen=True, slots=True)
class Leave:
    """The session waits no more."""

    session: Session
    why: Why


@dataclass(frozen=True, slots=True)
class Garbage:
    """What this peer sent counts nothing; `room` is what it lacked."""

    peer: Peer
    why: str
    room: Room | None = None


SessionEffect = Send | Join | Leave | Garbage


class Sessions:
    """All sessions of a server, at most `most`. Times are seconds of one clock that never goes back."""

    def __init__(
        self, most: int = SESSIONS_MAX, silence_s: float = SILENCE_S, remembered_s: float = REMEMBERED_S
    ) -> None:
        self._most = most
        self._silence_s = silence_s
        self._remembered_s = remembered_s
        self._known: dict[tuple[Peer, int | None], Session] = {}
        self._done: dict[Session, None] = {}  # oldest first
        self._plain: Shares[Session] = Shares()  # those without an id
        self._due: list[tuple[float, int, Session]] = []
        self._order = count()

    def __len__(self) -> int:
        return len(self._known)

    def next_due(self) -> float | None:
        """When `tick` has something to do, or earlier."""
        return self._due[0][0] if self._due else None

    def received(self, peer: Peer, data: bytes, now: float) -> list[SessionEffect]:
        """A packet came."""
        try:
            request = decode(data)
        except Malformed as error:
            return [Garbage(peer, str(error))]
        extension = request.extension
        key = (peer, None if extension is None else extension.request_id)
        session = self._known.get(key)
        if extension is not None and extension.flags & (Flag.ACKNOWLEDGE | Flag.LEAVE):
            return [] if session is None else list(self._parting(session, extension.flags, now))
        if session is None:
            return list(self._begin(key, request, now))
        if session.plain is not None and session.plain != request:
            # Its client gave up and asks for something else, or another one has its port.
            return [self._displace(session, Why.CLOSED), *self._begin(key, request, now)]
        return list(self._repeat(session, now))

    def answered(self, session: Session, value: int, now: float) -> list[SessionEffect]:
        """Its barrier has an answer for it."""
        session.take(SessionInput.ANSWER)
        session.value = value
        if session.request_id is None:
            # Of the original client nothing more can be known: one answer, and it is forgotten.
            session.take(SessionInput.TIRED)
            session.take(SessionInput.FORGOTTEN)
            self._forget(session)
            return [Send(session.peer, answer(value))] if value != Value.REFUSED else []
        return [self._say(session, now)]

    def tick(self, now: float) -> Iterator[SessionEffect]:
        """What is due at `now`: repeats, silence, forgetting.

        Each effect is to be performed before the next one is taken: who leaves may release others, which are
        due, too, and are answered then instead of being taken for gone.
        """
        while self._due and self._due[0][0] <= now:
            at, _, session = heapq.heappop(self._due)
            if at != session.scheduled:
                continue  # an earlier entry stands for it
            session.scheduled = float("inf")
            if session.due > now:
                self._schedule(session, session.due)
            else:
                yield from self._fall_due(session, now)

    # ---- what came --------------------------------------------------------------------------------------

    def _begin(self, key: tuple[Peer, int | None], request: Request, now: float) -> Iterator[SessionEffect]:
        peer, request_id = key
        crowding = self._crowding(peer[0]) if request_id is None else None
        if crowding is not None:
            yield self._displace(crowding, Why.NO_ROOM)
        elif len(self._known) >= self._most:
            oldest = next(iter(self._done), None)
            if oldest is None:
                yield Garbage(peer, f"{self._most:,} wait over UDP", Room.UDP)
                return
            self._end(oldest)
        session = self._known[key] = Session(peer, request_id)
        session.take(SessionInput.REQUEST)
        if request_id is None:
            session.plain = request
            self._plain.add(peer[0], session)
        else:
            self._schedule(session, now + self._silence_s)
            yield Send(peer, reply(ReplyKind.WAITING, request_id))
        yield Join(session, request)

    def _crowding(self, address: str) -> Session | None:
        """The one without an id that makes room for another of this address; None where there is room."""
        if self._plain.of(address) >= max(1, self._most // 4):
            return self._plain.oldest(address)
        if len(self._plain) >= max(1, self._most // 2):
            return self._plain.oldest_of_most()
        return None

    def _displace(self, session: Session, why: Why) -> Leave:
        session.take(SessionInput.DISPLACED)
        self._forget(session)
        return Leave(session, why)

    def _repeat(self, session: Session, now: float) -> Iterator[SessionEffect]:
        session.take(SessionInput.REQUEST)
        if session.request_id is None:
            return  # the network doubled its one packet
        if session.value is not None:
            yield Send(session.peer, reply(ReplyKind.ANSWER, session.request_id, session.value))
        elif session.state is SessionState.WAITING:
            self._schedule(session, now + self._silence_s)
            yield Send(session.peer, reply(ReplyKind.WAITING, session.request_id))

    def _parting(self, session: Session, flags: Flag, now: float) -> Iterator[SessionEffect]:
        if Flag.LEAVE in flags:
            waited = session.state is SessionState.WAITING
            session.take(SessionInput.LEAVE)
            self._remember(session, now)
            if waited:
                yield Leave(session, Why.CLOSED)
        elif session.state is not SessionState.WAITING:
            session.take(SessionInput.ACKNOWLEDGED)
            self._remember(session, now)

    # ---- what falls due ---------------------------------------------------------------------------------

    def _fall_due(self, session: Session, now: float) -> Iterator[SessionEffect]:
        match session.state:
            case SessionState.WAITING:
                session.take(SessionInput.SILENCE)
                del self._known[session.peer, session.request_id]
                yield Leave(session, Why.LOST)
            case SessionState.ANSWERED if session.sent < _REPEATS:
                yield self._say(session, now)
            case SessionState.ANSWERED:
                session.take(SessionInput.TIRED)
                self._remember(session, now)
            case SessionState.DONE:
                self._end(session)

    def _say(self, session: Session, now: float) -> Send:
        if session.request_id is None or session.value is None:
            raise ValueError("only an answer to a request with an id is repeated")
        pause = min(_FIRST_REPEAT_S * 2**session.sent, _LAST_REPEAT_S)
        session.sent += 1
        self._schedule(session, now + pause)
        return Send(session.peer, reply(ReplyKind.ANSWER, session.request_id, session.value))

    def _remember(self, session: Session, now: float) -> None:
        if session not in self._done:
            self._done[session] = None
            self._schedule(session, now + self._remembered_s)

    def _end(self, session: Session) -> None:
        session.take(SessionInput.FORGOTTEN)
        del self._done[session]
        self._forget(session)

    def _forget(self, session: Session) -> None:
        session.scheduled = session.due = float("inf")
        if session.plain is not None:
            self._plain.remove(session.peer[0], session)
        del self._known[session.peer, session.request_id]

    def _schedule(self, session: Session, due: float) -> None:
        session.due = due
        if due < session.scheduled:
            session.scheduled = due
            if len(self._due) > 2 * len(self._known) + _SPARE:
                # Sessions that come and leave faster than they fall due would fill the memory with entries.
                self._due = [entry for entry in self._due if entry[0] == entry[2].scheduled]
                heapq.heapify(self._due)
            heapq.heappush(self._due, (due, next(self._order), session))
