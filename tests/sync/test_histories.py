"""Random histories of barriers, against a model that adds everything up anew each time."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from syndicate.volunteer.sync.core.barriers import Barriers
from syndicate.volunteer.sync.core.effects import Refuse, Release
from syndicate.volunteer.sync.core.events import Arrived, DropAll, DropOne, Event, Expired, Gone, Why
from syndicate.volunteer.sync.core.wire import COUNT_MAX, Extension, Flag, Kind, Request

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
        assert len(self.barriers) == sum(entry.party is not None for entry in self.model.entries)


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
