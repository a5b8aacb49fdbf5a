"""Random histories of barriers, against a model that adds everything up anew each time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from syndicate.volunteer.sync.core.barriers import Barriers
from syndicate.volunteer.sync.core.effects import Refuse, Release
from syndicate.volunteer.sync.core.events import Arrived, DropAll, DropOne, Event, Expired, Gone, Why
from syndicate.volunteer.sync.core.sessions import (
    REMEMBERED_S,
    SILENCE_S,
    Join,
    Leave,
    Peer,
    Send,
    Session,
    SessionEffect,
    Sessions,
)
from syndicate.volunteer.sync.core.transitions import SessionState
from syndicate.volunteer.sync.core.wire import (
    COUNT_MAX,
    EXTENSION,
    EXTENSION_AT,
    MAGIC,
    REQUEST,
    VERSION,
    Extension,
    Flag,
    Kind,
    Request,
)

NAMES = st.sampled_from([b"a", b"b"])
COUNTS = st.one_of(st.integers(1, 4), st.sampled_from([COUNT_MAX, COUNT_MAX - 1]))
ERRORS = st.sampled_from([0, 0, 1, 7, 239])


@dataclass(frozen=True)
class Entry:
    """One call that is in force. `party` None: an init that did not wait."""

    party: int | None
    name: bytes
    counted: int
    error: int
    asked: bool


class Model:
    """A list of the calls in force, and the names that are marked: no counter, no table."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.marked: set[bytes] = set()

    def at(self, name: bytes) -> list[Entry]:
        return [entry for entry in self.entries if entry.name == name]

    def remaining(self, name: bytes) -> int:
        return sum(entry.counted for entry in self.at(name))

    def arrive(self, entry: Entry, no_wait: bool) -> dict[int, int | None]:
        """Who is released with what; None for refused."""
        assert entry.party is not None
        if abs(self.remaining(entry.name) + entry.counted) > COUNT_MAX:
            return {entry.party: None}
        if entry.counted > 0:
            self.marked.discard(entry.name)
        elif entry.asked and entry.name in self.marked:
            return {entry.party: 242}
        released: dict[int, int | None] = {}
        if no_wait:
            released[entry.party] = 0
            entry = Entry(None, entry.name, entry.counted, entry.error, False)
        self.entries.append(entry)
        return released | self.settled(entry.name)

    def settled(self, name: bytes) -> dict[int, int | None]:
        here = self.at(name)
        parties = [entry.party for entry in here if entry.party is not None]
        if self.remaining(name) != 0 or not parties:
            return {}
        self.marked.discard(name)
        self.entries = [entry for entry in self.entries if entry.name != name]
        return dict.fromkeys(parties, max(entry.error for entry in here))

    def leave(self, party: int) -> dict[int, int | None]:
        found = [entry for entry in self.entries if entry.party == party]
        if not found:
            return {}
        (gone,) = found
        self.entries.remove(gone)
        if gone.counted < 0:
            return self.settled(gone.name)
        if self.remaining(gone.name) == 0 and any(entry.party is not None for entry in self.at(gone.name)):
            return self.settled(gone.name)
        self.marked.add(gone.name)
        told = [each for each in self.at(gone.name) if each.counted < 0 and (each.asked or gone.asked)]
        self.entries = [each for each in self.entries if each not in told]
        released: dict[int, int | None] = {each.party: 242 for each in told if each.party is not None}
        return released | self.settled(gone.name)

    def drop_one(self, name: bytes) -> dict[int, int | None]:
        parties = [entry.party for entry in self.at(name) if entry.party is not None]
        self.entries = [entry for entry in self.entries if entry.name != name]
        self.marked.discard(name)
        return dict.fromkeys(parties, 240)

    def drop(self) -> dict[int, int | None]:
        parties = [entry.party for entry in self.entries if entry.party is not None]
        self.entries.clear()
        self.marked.clear()
        return dict.fromkeys(parties, 240)


class Histories(RuleBasedStateMachine):
    """Both are told the same, and must do the same."""

    def __init__(self) -> None:
        super().__init__()
        self.barriers: Barriers[int] = Barriers(1000)
        self.model = Model()
        self.parties = 0

    def _both(self, event: Event[int], expected: dict[int, int | None]) -> None:
        done: dict[int, int | None] = {}
        for effect in self.barriers.handle(event):
            match effect:
                case Release(parties, value):
                    assert not set(parties) & set(done), "nobody is answered twice"
                    done |= dict.fromkeys(parties, int(value))
                case Refuse(party, _):
                    done[party] = None
        assert done == expected
        self._answered(done)

    def _answered(self, done: dict[int, int | None]) -> None:
        """Whom the barriers have answered."""

    def _arrive(self, request: Request, asked: bool) -> None:
        self.parties += 1
        counted = request.count if request.kind is Kind.INIT else -1
        entry = Entry(self.parties, request.name, counted, request.error, asked)
        expected = self.model.arrive(entry, request.no_wait)
        self._both(Arrived(self.parties, "source", request), expected)

    @rule(name=NAMES, error=ERRORS, asked=st.booleans())
    def wait(self, name: bytes, error: int, asked: bool) -> None:
        extension = Extension(1, Flag.ABANDON) if asked else None
        self._arrive(Request(name, Kind.WAIT, 0, error, extension=extension), asked)

    @rule(name=NAMES, count=COUNTS, error=ERRORS, asked=st.booleans(), no_wait=st.booleans())
    def init(self, name: bytes, count: int, error: int, asked: bool, no_wait: bool) -> None:
        extension = Extension(1, Flag.ABANDON) if asked and not no_wait else None
        self._arrive(Request(name, Kind.INIT, count, error, no_wait, extension), asked and not no_wait)

    @precondition(lambda self: self.parties)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        party = data.draw(st.integers(1, self.parties))
        self._both(Gone(party, Why.LOST), self.model.leave(party))

    @precondition(lambda self: self.model.entries)
    @rule(data=st.data())
    def expire(self, data: st.DataObject) -> None:
        party = data.draw(st.integers(1, self.parties))
        waits = any(entry.party == party for entry in self.model.entries)
        expected = ({party: 241} if waits else {}) | self.model.leave(party)
        self._both(Expired(party), expected)

    @rule()
    def drop(self) -> None:
        self._both(DropAll(), self.model.drop())

    @rule(name=NAMES)
    def drop_one(self, name: bytes) -> None:
        self._both(DropOne(name), self.model.drop_one(name))

    @invariant()
    def same_counts(self) -> None:
        self.barriers.check()
        standing = {each.barrier: each.remaining for each in self.barriers.standing()}
        names = {entry.name for entry in self.model.entries} | self.model.marked
        assert standing == {name: self.model.remaining(name) for name in names}
        for each in self.barriers.standing():
            held = sum(entry.counted for entry in self.model.at(each.barrier) if entry.party is None)
            assert (each.held, sum(each.holders.values())) == (held, held)
        assert len(self.barriers) == sum(entry.party is not None for entry in self.model.entries)


@dataclass
class Asked:
    """A request over UDP: the bytes, whose they are, and when they were heard last.

    `over` is when it was answered or its client left, None for one that fell silent.
    """

    peer: Peer
    data: bytes
    request: Request
    heard: float
    session: Session | None = None
    over: float | None = None


class UdpHistories(Histories):
    """The same with waiters over UDP, who repeat themselves, fall silent and come back.

    Of these the model knows when each was heard last. In what order those go who are silent at one moment is
    the machine's business: the model takes each when its turn comes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sessions = Sessions()
        self.now = 0.0
        self.asked: dict[int, Asked] = {}  # by party; of a request that was counted again the last one
        self.joined: list[Request] = []
        self.left: list[tuple[int, Why]] = []

    def _waits(self, party: int) -> bool:
        return any(entry.party == party for entry in self.model.entries)

    def _answered(self, done: dict[int, int | None]) -> None:
        for party, value in done.items():
            if (asked := self.asked.get(party)) is not None and asked.session is not None:
                answers = self.sessions.answered(asked.session, 243 if value is None else value, self.now)
                assert all(isinstance(each, Send) for each in answers)
                asked.over = self.now

    def _perform(self, effects: Iterable[SessionEffect], asked: Asked | None = None) -> None:
        self.joined, self.left = [], []
        for effect in effects:
            match effect:
                case Join(session, request):
                    assert asked is not None
                    self.joined.append(request)
                    asked.session, asked.over = session, None
                    self.asked[self.parties + 1] = asked
                    abandon = request.extension is not None and Flag.ABANDON in request.extension.flags
                    self._arrive(request, abandon)
                case Leave(session, why):
                    (party,) = [
                        each
                        for each, known in self.asked.items()
                        if known.session is session and self._waits(each)
                    ]
                    self.left.append((party, why))
                    self._both(Gone(party, why), self.model.leave(party))
                    self.asked[party].over = None if why is Why.LOST else self.now

    @rule(name=NAMES, count=st.integers(0, 4), flags=st.sampled_from([0, 1]), no_wait=st.booleans())
    def ask(self, name: bytes, count: int, flags: int, no_wait: bool) -> None:
        no_wait = no_wait and count > 0
        extension = Extension(len(self.asked), Flag(0 if no_wait else flags))
        request = Request(name, Kind.INIT if count else Kind.WAIT, count, 0, no_wait, extension)
        asked = Asked(("10.0.0.1", 1), packed(request), request, self.now)
        self._perform(self.sessions.received(asked.peer, asked.data, self.now), asked)
        assert (self.joined, self.left) == ([request], [])

    @rule(name=NAMES, flags=st.sampled_from([0, 1]), waiters=st.integers(1, 3))
    def gather(self, name: bytes, flags: int, waiters: int) -> None:
        """Several at one moment, so that they are silent at one moment, too: by chance that is rare."""
        self.ask(name=name, count=4, flags=flags, no_wait=False)
        for _ in range(waiters):
            self.ask(name=name, count=0, flags=1 - flags, no_wait=False)

    @rule(name=NAMES, count=st.integers(0, 4), port=st.integers(1, 2))
    def ask_as_the_original(self, name: bytes, count: int, port: int) -> None:
        request = Request(name, Kind.INIT if count else Kind.WAIT, count)
        asked = Asked(("10.0.0.1", port), packed(request), request, self.now)
        before = [
            (party, known)
            for party, known in self.asked.items()
            if known.peer == asked.peer and known.request.extension is None and self._waits(party)
        ]
        self._perform(self.sessions.received(asked.peer, asked.data, self.now), asked)
        if any(known.request == request for _, known in before):
            assert (self.joined, self.left) == ([], [])
        else:
            assert self.joined == [request]
            assert self.left == [(party, Why.CLOSED) for party, _ in before]

    def _one(self, data: st.DataObject) -> tuple[int, Asked]:
        parties = [party for party, known in self.asked.items() if known.request.extension is not None]
        party = data.draw(st.sampled_from(parties or [0]))
        return party, self.asked.get(party) or Asked(("10.0.0.1", 1), b"", Request(b"a", Kind.WAIT), 0.0)

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        party, asked = self._one(data)
        waits, over = self._waits(party), asked.over
        lost = not waits and asked.session is not None and asked.session.state is SessionState.ABSENT
        self._perform(self.sessions.received(asked.peer, asked.data, self.now), asked)
        assert self.left == [] and len(self.joined) == (1 if lost else 0)
        assert not lost or over is None or self.now >= over + REMEMBERED_S, "what is over counts nothing"
        asked.heard = self.now
        if lost:
            del self.asked[party]

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def go_away(self, data: st.DataObject) -> None:
        party, asked = self._one(data)
        waits = self._waits(party)
        self._perform(self.sessions.received(asked.peer, flagged(asked, Flag.LEAVE), self.now))
        assert self.left == ([(party, Why.CLOSED)] if waits else [])

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        _, asked = self._one(data)
        self._perform(self.sessions.received(asked.peer, flagged(asked, Flag.ACKNOWLEDGE), self.now))
        assert self.left == [] == self.joined

    @rule(seconds=st.sampled_from([0.25, 1.0, 9.75, 10.0, 70.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self._perform(self.sessions.tick(self.now))
        for party, why in self.left:
            asked = self.asked[party]
            assert why is Why.LOST and asked.request.extension is not None
            assert asked.heard + SILENCE_S <= self.now
        for party, asked in self.asked.items():
            if self._waits(party) and asked.request.extension is not None:
                assert self.now < asked.heard + SILENCE_S, "who is silent is un-counted"

    @precondition(lambda self: self.parties > len(self.asked))
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """Over TCP: of UDP only the sessions say who is gone."""
        party = data.draw(st.integers(1, self.parties))
        if party not in self.asked:
            self._both(Gone(party, Why.LOST), self.model.leave(party))

    @invariant()
    def sessions_wait_as_parties_do(self) -> None:
        for party, asked in self.asked.items():
            if asked.session is not None:
                assert self._waits(party) == (asked.session.state is SessionState.WAITING)


def packed(request: Request) -> bytes:
    """The bytes of a request."""
    name = request.name
    if request.extension is not None:
        more = (MAGIC, VERSION, request.extension.flags, request.extension.request_id, 0)
        name = name.ljust(EXTENSION_AT, b"\0") + EXTENSION.pack(*more)
    return REQUEST.pack(name, request.kind, int(request.no_wait), request.count, request.error)


def flagged(asked: Asked, flag: Flag) -> bytes:
    """What the client of a request says further about it."""
    extension = asked.request.extension
    about = Extension(0 if extension is None else extension.request_id, flag)
    return packed(Request(asked.request.name, Kind.WAIT, extension=about))


TestHistories = Histories.TestCase
TestUdpHistories = UdpHistories.TestCase
TestUdpHistories.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
TestHistories.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
