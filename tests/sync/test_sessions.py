"""Waiters over UDP, without a socket: packets lost, repeated and reordered at will."""

from __future__ import annotations

import random
import struct
import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from syndicate.client_api import sync, sync_wire
from syndicate.volunteer.sync.core.barriers import Barriers
from syndicate.volunteer.sync.core.effects import Refuse, Release
from syndicate.volunteer.sync.core.events import Arrived, Gone, Why
from syndicate.volunteer.sync.core.sessions import (
    Garbage,
    Join,
    Leave,
    Peer,
    Send,
    Session,
    SessionEffect,
    Sessions,
)
from syndicate.volunteer.sync.core.wire import MAGIC, REPLY, VERSION, ReplyKind

PEER: Peer = ("10.0.0.1", 5000)
WAITING, ANSWER = ReplyKind.WAITING, ReplyKind.ANSWER


def asked(request_id: int = 1, count: int = 0, flags: int = 0, error: int = 0) -> bytes:
    """What our own client sends."""
    return sync_wire.packed(sync.checked("b", count=count, error=error), request_id, flags, None)


ACKNOWLEDGED = asked(flags=sync_wire.ACKNOWLEDGE)
LEFT = asked(flags=sync_wire.LEAVE)
PLAIN = struct.pack("=64shhii", b"b", 2, 0, 0, 0)
OTHER = struct.pack("=64shhii", b"c", 2, 0, 0, 0)


def replies(effects: Iterable[SessionEffect]) -> list[tuple[int, int]]:
    """Kind and value of each packet that is sent."""
    said = [REPLY.unpack(effect.data) for effect in effects if isinstance(effect, Send)]
    assert all(each[:2] == (MAGIC, VERSION) for each in said)
    return [(each[2], each[4]) for each in said]


def joined(sessions: Sessions, data: bytes, now: float = 0.0, peer: Peer = PEER) -> Session:
    """The session of a first request."""
    (join,) = [each for each in sessions.received(peer, data, now) if isinstance(each, Join)]
    return join.session


def ticked(sessions: Sessions, now: float) -> list[SessionEffect]:
    """All that is due, of which nothing brings about anything else."""
    return list(sessions.tick(now))


@pytest.fixture
def sessions() -> Sessions:
    """Nobody has asked yet; at most three may wait."""
    return Sessions(most=3)


def test_a_request_is_acknowledged_and_counted_once(sessions: Sessions) -> None:
    """However often it comes."""
    first = sessions.received(PEER, asked(), 0.0)
    assert replies(first) == [(WAITING, 0)] and any(isinstance(each, Join) for each in first)
    again = sessions.received(PEER, asked(), 0.1)
    assert replies(again) == [(WAITING, 0)] and not any(isinstance(each, Join) for each in again)


def test_requests_differ_by_their_id(sessions: Sessions) -> None:
    """One socket may have several under way."""
    assert joined(sessions, asked(1)) is not joined(sessions, asked(2))


def test_an_answer_is_repeated_until_it_is_acknowledged(sessions: Sessions) -> None:
    """Ever more slowly."""
    session = joined(sessions, asked())
    assert replies(sessions.answered(session, 7, 1.0)) == [(ANSWER, 7)]
    assert ticked(sessions, 1.04) == []
    assert replies(ticked(sessions, 1.06)) == [(ANSWER, 7)]
    assert replies(ticked(sessions, 1.2)) == [(ANSWER, 7)]
    assert sessions.received(PEER, ACKNOWLEDGED, 1.3) == []
    assert ticked(sessions, 5.0) == []


def test_an_answer_is_not_repeated_for_ever(sessions: Sessions) -> None:
    """Its client has ended; what is kept of it goes after a minute."""
    session = joined(sessions, asked())
    sessions.answered(session, 7, 0.0)
    sent = sum(len(ticked(sessions, tenth / 10)) for tenth in range(1, 300))
    assert sent == 11 and len(sessions) == 1
    assert ticked(sessions, 100.0) == [] and len(sessions) == 0 and sessions.next_due() is None


def test_a_late_copy_of_a_request_is_answered_and_not_counted(sessions: Sessions) -> None:
    """Also after the acknowledgement."""
    session = joined(sessions, asked())
    sessions.answered(session, 7, 0.0)
    sessions.received(PEER, ACKNOWLEDGED, 0.1)
    assert replies(sessions.received(PEER, asked(), 30.0)) == [(ANSWER, 7)]


def test_who_leaves_is_uncounted_once(sessions: Sessions) -> None:
    """And a request that the network held back counts nothing."""
    session = joined(sessions, asked())
    assert sessions.received(PEER, LEFT, 1.0) == [Leave(session, Why.CLOSED)]
    assert sessions.received(PEER, LEFT, 1.0) == []
    assert sessions.received(PEER, asked(), 1.1) == []


def test_a_leave_that_overtakes_its_request_says_nothing(sessions: Sessions) -> None:
    """There is nobody to leave yet; the ghost that comes after it is un-counted for its silence."""
    assert sessions.received(PEER, LEFT, 0.0) == []
    session = joined(sessions, asked(), 0.0)
    assert ticked(sessions, 10.0) == [Leave(session, Why.LOST)]


def test_who_is_silent_is_uncounted(sessions: Sessions) -> None:
    """Ten seconds after its last packet; comes it back, it is counted again."""
    session = joined(sessions, asked(), 0.0)
    sessions.received(PEER, asked(), 5.0)
    assert ticked(sessions, 14.9) == []
    assert ticked(sessions, 15.1) == [Leave(session, Why.LOST)]
    assert joined(sessions, asked(), 16.0) is not session


def test_an_acknowledgement_of_nothing_is_ignored(sessions: Sessions) -> None:
    """Before the answer, and of a request that never came."""
    assert sessions.received(PEER, ACKNOWLEDGED, 0.0) == []
    session = joined(sessions, asked())
    assert sessions.received(PEER, ACKNOWLEDGED, 0.1) == []
    assert replies(sessions.answered(session, 1, 0.2)) == [(ANSWER, 1)]


def test_the_original_client_is_answered_once_at_its_port(sessions: Sessions) -> None:
    """With four bytes; a copy of its packet counts nothing, and its silence neither."""
    session = joined(sessions, PLAIN)
    assert sessions.received(PEER, PLAIN, 0.1) == []
    assert ticked(sessions, 3600.0) == []
    assert sessions.answered(session, 7, 3600.0) == [Send(PEER, struct.pack("=i", 7))]
    assert len(sessions) == 0
    assert joined(sessions, PLAIN, 3601.0) is not session


def test_another_request_of_an_original_client_takes_the_place_of_the_one_before(sessions: Sessions) -> None:
    """Its program gave up, or another one has its port: the first waits no more, the second is counted."""
    first = joined(sessions, PLAIN)
    left, join = sessions.received(PEER, OTHER, 1.0)
    assert left == Leave(first, Why.CLOSED)
    assert isinstance(join, Join) and join.session is not first and join.request.name == b"c"
    assert sessions.received(PEER, OTHER, 1.1) == [] and len(sessions) == 1
    assert sessions.answered(join.session, 7, 2.0) == [Send(PEER, struct.pack("=i", 7))]


def test_original_clients_have_a_quarter_of_the_table_from_one_address() -> None:
    """Nobody knows whether they still wait: the oldest of an address that has more makes room."""
    sessions = Sessions(most=8)
    first = joined(sessions, PLAIN, peer=("127.0.0.1", 1))
    joined(sessions, PLAIN, peer=("127.0.0.2", 1))
    left, join = sessions.received(("127.9.9.9", 1), PLAIN, 1.0)
    assert left == Leave(first, Why.NO_ROOM) and isinstance(join, Join)
    assert len(sessions) == 2


def test_original_clients_leave_half_of_the_table_to_others() -> None:
    """The address that has most of them makes room for the next; our own client always has some."""
    sessions = Sessions(most=8)
    for port in (1, 2):
        joined(sessions, PLAIN, peer=("10.0.0.1", port))
    one, two = (joined(sessions, PLAIN, peer=(f"10.0.0.{each}", 1)) for each in (2, 3))
    left, _ = sessions.received(("10.0.0.4", 1), PLAIN, 1.0)
    assert isinstance(left, Leave) and left.session.peer == ("10.0.0.1", 1)
    assert (one.state, two.state, len(sessions)) == ("waiting", "waiting", 4)
    for number in range(4):
        joined(sessions, asked(number))
    assert len(sessions) == 8


def test_a_refusal_is_told_to_our_own_client_only(sessions: Sessions) -> None:
    """To the original it would be an error of a participant."""
    assert replies(sessions.answered(joined(sessions, asked()), 243, 0.0)) == [(ANSWER, 243)]
    assert sessions.answered(joined(sessions, PLAIN), 243, 0.0) == []


def test_sessions_are_bounded(sessions: Sessions) -> None:
    """The oldest that is over makes room; where all wait, there is none."""
    waiting = [joined(sessions, asked(number)) for number in range(3)]
    assert isinstance(sessions.received(PEER, asked(3), 0.0)[0], Garbage)
    sessions.received(PEER, asked(0, flags=sync_wire.LEAVE), 0.0)
    joined(sessions, asked(3))
    assert len(sessions) == 3 and waiting[0].state == "absent"


def test_garbage_is_told(sessions: Sessions) -> None:
    """And nothing is kept of it."""
    assert sessions.received(PEER, b"hello", 0.0) == [Garbage(PEER, "5 bytes instead of 76")]
    assert len(sessions) == 0 and sessions.next_due() is None


@settings(deadline=None)
@given(
    st.lists(st.one_of(st.binary(max_size=100), st.sampled_from([asked(), LEFT, ACKNOWLEDGED, PLAIN, OTHER])))
)
def test_no_packets_confuse_it(packets: list[bytes]) -> None:
    """Whatever comes, no session is kept beyond its time."""
    sessions = Sessions()
    for number, packet in enumerate(packets):
        for effect in sessions.received(PEER, packet, number / 10):
            if isinstance(effect, Join):
                sessions.answered(effect.session, 0, number / 10)
    for hour in range(1, 20):
        ticked(sessions, hour * 3600.0)
    assert len(sessions) == 0 and sessions.next_due() is None


def test_who_comes_and_leaves_at_once_takes_no_memory(sessions: Sessions) -> None:
    """A storm within one moment, in which nothing falls due."""
    tracemalloc.start()
    try:
        for number in range(1, 20_001):
            sessions.received(PEER, asked(number), 0.0)
            sessions.received(PEER, asked(number, flags=sync_wire.LEAVE), 0.0)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(sessions) == 3
    assert taken < 1 << 20


class World:
    """A barrier, its sessions and clients that send again, over a network that does as it likes."""

    def __init__(self, seed: int, loss: float, waiters: int, init_flags: int = 0) -> None:
        self.random = random.Random(seed)
        self.loss = loss
        self.sessions = Sessions()
        self.barriers: Barriers[Session] = Barriers()
        self.clients = {number: asked(number) for number in range(1, waiters + 1)}
        self.clients[0] = asked(0, waiters, init_flags)
        self.answers: dict[int, int] = {}
        self.under_way: list[tuple[float, int, bytes]] = []  # when, whose, what; to the server
        self.back: list[tuple[float, bytes]] = []
        self.counted = 0

    def carry(self, now: float, whose: int, data: bytes) -> None:
        for _ in range(self.random.choice([1, 1, 2])):
            if self.random.random() >= self.loss:
                self.under_way.append((now + self.random.random(), whose, data))

    def perform(self, effects: Iterable[SessionEffect], now: float) -> None:
        for effect in effects:
            match effect:
                case Send(_, data) if self.random.random() >= self.loss:
                    self.back.append((now + self.random.random(), data))
                case Join(session, request):
                    self.counted += 1
                    self.handle(Arrived(session, "s", request), now)
                case Leave(session, why):
                    self.handle(Gone(session, why), now)

    def handle(self, event: Arrived[Session] | Gone[Session], now: float) -> None:
        for effect in self.barriers.handle(event):
            assert not isinstance(effect, Refuse)
            if isinstance(effect, Release):
                for session in effect.parties:
                    self.perform(self.sessions.answered(session, effect.value, now), now)

    def step(self, now: float) -> None:
        for number, data in self.clients.items():
            if number not in self.answers:
                self.carry(now, number, data)
        for packet in [each for each in self.under_way if each[0] <= now]:
            self.under_way.remove(packet)
            self.perform(self.sessions.received(("10.0.0.1", packet[1]), packet[2], now), now)
        for at, data in [each for each in self.back if each[0] <= now]:
            self.back.remove((at, data))
            _, _, kind, request_id, value = REPLY.unpack(data)
            if kind == ANSWER:
                self.answers[request_id] = value
                self.carry(now, request_id, asked(request_id, flags=sync_wire.ACKNOWLEDGE))
        self.perform(self.sessions.tick(now), now)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.2, 0.5]), st.integers(1, 5))
def test_a_lossy_network_loses_and_doubles_nobody(seed: int, loss: float, waiters: int) -> None:
    """All are answered once the network was kind often enough, each was counted once, and nothing stays."""
    world = World(seed, loss, waiters)
    now = 0.0
    while len(world.answers) <= waiters and now < 60.0:
        now += 0.25
        world.step(now)
    assert world.answers == dict.fromkeys(range(waiters + 1), 0)
    assert world.counted == waiters + 1 and world.barriers.standing() == []


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.2]), st.integers(1, 5), st.integers(0, 8))
def test_all_may_be_cut_off_at_one_moment(seed: int, loss: float, waiters: int, steps: int) -> None:
    """At an init whose owner has its end told: nobody is left counted, and all is forgotten."""
    world = World(seed, loss, waiters, sync_wire.ABANDON)
    world.clients[0] = asked(0, waiters + 1, sync_wire.ABANDON)  # more than will ever come
    now = 0.0
    for _ in range(steps):
        now += 0.25
        world.step(now)
    world.clients.clear()
    # The step that comes late, as in a process that had no processor, has all of them due at once.
    for later in (2.0, *range(14, 100)):
        world.step(now + later)
    assert all(value == 242 for value in world.answers.values())
    assert len(world.barriers) == len(world.sessions) == 0
