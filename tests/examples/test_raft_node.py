"""One Raft member as its peers and clients see it: the test plays the two others of three, over TCP."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from check.cluster import Cluster as Members
from check.kv import Session, UnansweredError
from raft_cluster import Cluster
from raftkv.node import PORT, Node, Settings
from raftkv.raft import Timing
from raftkv.values import Append, Entry, Form, Formed, Message, Vote, command, decode, encode, noop

DEADLINE_S = 60.0
STANDS_S = 10.0
PATIENT = Timing(heartbeat=0.05, election=600)  # it never stands by itself


class Peer:
    """A peer that the test plays: it sends what it is told, and gives the next message of a kind it gets."""

    def __init__(self, address: str, node: str) -> None:
        self.address = address
        self._node = node
        self._listener = socket.create_server((address, PORT))
        self._listener.settimeout(DEADLINE_S)
        self._out: socket.socket | None = None
        self._in: Any = None

    def send(self, message: Message) -> None:
        """Sends a message to the member."""
        if self._out is None:
            self._out = socket.create_connection((self._node, PORT), DEADLINE_S)
        self._out.sendall(encode(message))

    def get(self, kind: str) -> Any:
        """The next message of a kind; others are passed over, and a broken connection is taken up anew."""
        until = time.monotonic() + DEADLINE_S
        while time.monotonic() < until:
            if self._in is None:
                sock, _ = self._listener.accept()
                sock.settimeout(DEADLINE_S)
                self._in = sock.makefile("rb")
                sock.close()  # the file keeps it
            line = self._in.readline()
            if not line:
                self._in.close()
                self._in = None
                continue
            message = decode(json.loads(line))
            if type(message).__name__ == kind:
                return message
        raise AssertionError(f"no {kind} within {DEADLINE_S} s")

    def restart(self) -> None:
        """Drops its connections, as after a restart of either side."""
        for end in (self._out, self._in):
            if end is not None:
                end.close()
        self._out = self._in = None

    def close(self) -> None:
        """Ends it."""
        self.restart()
        self._listener.close()


class Trio:
    """A member and the two peers that the test plays; the second peer forms the cluster."""

    def __init__(self, folder: Path, net: str) -> None:
        self.me, a, b = (f"{net}.{number}" for number in (3, 1, 2))
        self.members = (a, b, self.me)
        self._folder = folder
        self.a, self.b = Peer(a, self.me), Peer(b, self.me)
        self._thread: threading.Thread | None = None
        self._end = threading.Event()

    def start(self, forget_vote: bool = False) -> None:
        """Starts the member."""
        settings = Settings(self.me, self.members, self._folder, forget_vote=forget_vote, timing=PATIENT)
        node = Node(settings, lambda _line: None)
        self._end.clear()
        self._thread = threading.Thread(target=node.run, args=(self._end.is_set,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the member; its folder stays."""
        if self._thread is not None:
            self._end.set()
            self._thread.join(timeout=DEADLINE_S)
            assert not self._thread.is_alive()
            self._thread = None
        self.a.restart()
        self.b.restart()

    def form(self) -> None:
        """Lets the member be born as one of three."""
        roster = {self.a.address: "a", self.b.address: "b", self.me: self.a.get("Hello").incarnation}
        self.a.send(Form(self.a.address, roster))
        assert self.a.get("Pinned").roster == roster
        self.a.send(Formed(self.a.address, roster))
        # It passes its birth on; until then it would not hear what comes on another connection.
        self.b.get("Formed")

    def ask_vote(self, peer: Peer, term: int) -> Any:
        """Asks for a vote as one of the peers."""
        peer.send(Vote(peer.address, term, 0, 0, pre=False))
        return peer.get("VoteReply")


@pytest.fixture
def trio(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Trio]:
    """A member that runs, and is born."""
    number = 1 + sum(request.node.name.encode()) % 250  # addresses of its own for each test
    made = Trio(tmp_path / "data", f"127.80.{number}")
    try:
        made.start()
        made.form()
        yield made
    finally:
        made.stop()
        made.a.close()
        made.b.close()


def test_a_vote_is_kept_over_a_restart(trio: Trio) -> None:
    """A member that was killed after it voted does not vote again in that term."""
    first = trio.ask_vote(trio.a, 5)
    trio.stop()
    trio.start()

    second = trio.ask_vote(trio.b, 5)

    assert first.granted
    assert not second.granted


def test_the_bug_forget_vote_votes_twice(trio: Trio) -> None:
    """With FORGET_VOTE a restarted member votes a second time in one term."""
    first = trio.ask_vote(trio.a, 5)
    trio.stop()
    trio.start(forget_vote=True)

    second = trio.ask_vote(trio.b, 5)

    assert first.granted
    assert second.granted


def test_a_conflict_is_answered_with_where_its_term_began(trio: Trio) -> None:
    """The hint spares the leader to go back entry by entry, and the repair replaces what was wrong."""
    wrong = tuple(Entry(1, noop("x")) for _ in range(4))
    trio.a.send(Append(trio.a.address, 1, 0, 0, wrong, 0, 0))
    copied = trio.a.get("AppendReply")
    trio.b.send(Append(trio.b.address, 2, 4, 2, (), 0, 0))
    conflict = trio.b.get("AppendReply")
    trio.b.send(Append(trio.b.address, 2, 0, 0, (Entry(2, noop("y")),), 1, 0))
    repaired = trio.b.get("AppendReply")
    trio.b.send(Append(trio.b.address, 2, 4, 1, (), 1, 0))
    short = trio.b.get("AppendReply")

    assert (copied.ok, copied.at) == (True, 4)
    assert (conflict.ok, conflict.at, conflict.hint_term) == (False, 1, 1)
    assert (repaired.ok, repaired.at) == (True, 1)
    assert (short.ok, short.at, short.hint_term) == (False, 2, 0)


def test_a_lower_term_is_refused_with_the_higher_one(trio: Trio) -> None:
    """A leader of an older term is told to step down."""
    trio.ask_vote(trio.a, 7)
    trio.b.send(Append(trio.b.address, 6, 0, 0, (), 0, 0))

    reply = trio.b.get("AppendReply")

    assert (reply.ok, reply.term) == (False, 7)


def test_a_log_that_is_behind_gets_no_vote(trio: Trio) -> None:
    """A candidate that lacks entries of a later term is refused, whatever its own term."""
    trio.a.send(Append(trio.a.address, 3, 0, 0, (Entry(3, noop("x")),), 0, 0))
    trio.a.get("AppendReply")

    trio.b.send(Vote(trio.b.address, 9, 5, 2, pre=False))

    assert not trio.b.get("VoteReply").granted


def test_nonsense_ends_its_connection_only(trio: Trio) -> None:
    """Whoever sends what is not JSON or not a message is hung up on; the member goes on."""
    for line in (b"GET / HTTP/1.1\r\n\r\n", b'["Vote",1]\n', b"7\n", b"[" * 100_000 + b"\n"):
        with socket.create_connection((trio.me, PORT), DEADLINE_S) as sock:
            sock.sendall(line)
            assert sock.recv(100) == b""

    assert trio.ask_vote(trio.a, 2).granted


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({"op": "frob"}, "no operation 'frob'"),
        ({"op": "append", "client": "c", "seq": 0, "key": "k", "value": "v"}, "seq is not a whole number"),
        ({"op": "append", "client": "c", "seq": 1, "key": 7, "value": "v"}, "key is not a text"),
        ({"op": "put", "client": "c", "seq": 1, "key": "k", "value": "v" * 5000}, "value is not a text"),
        ({"op": "get", "key": "k"}, "not leader"),
        ({"op": "stand"}, "seconds is not a number above 0"),
        ({"op": "stand", "seconds": True}, "seconds is not a number above 0"),
        ({"op": "stand", "seconds": 61}, "seconds is not a number above 0, at most 60"),
    ],
)
def test_requests_that_cannot_be_done_are_told_so(trio: Trio, request_: dict[str, Any], error: str) -> None:
    """A bad request gets one clear answer, and the connection stays."""
    with socket.create_connection((trio.me, PORT), DEADLINE_S) as sock, sock.makefile("rw") as lines:
        lines.write(json.dumps({"id": 3, **request_}) + "\n")
        lines.flush()
        answer = json.loads(lines.readline())

    assert answer["id"] == 3
    assert answer["ok"] is False
    assert answer["error"].startswith(error)


def test_a_single_member_serves_at_once(tmp_path: Path) -> None:
    """One machine is a legal job: it forms, leads and commits alone, and keeps its data."""
    with Cluster(tmp_path, "127.81.1", size=1) as cluster:
        session = Session(cluster.members, "s", threading.Event().wait)
        session.append("k", "a", DEADLINE_S)
        cluster.kill(cluster.members[0])
        cluster.start(cluster.members[0])
        held = session.get("k", DEADLINE_S)
        session.close()

    assert held == ["a"]


def test_without_a_majority_a_write_is_not_answered(tmp_path: Path) -> None:
    """Two of three are gone: the client is told that it is not known, and nothing is made up."""
    with Cluster(tmp_path, "127.81.2", size=3) as cluster:
        session = Session(cluster.members, "s", threading.Event().wait)
        session.append("k", "a", DEADLINE_S)
        for member in cluster.members[1:]:
            cluster.kill(member)

        with pytest.raises(UnansweredError):
            session.append("k", "b", 1.0)
        for member in cluster.members[1:]:
            cluster.start(member)
        held = session.get("k", DEADLINE_S)
        session.close()

    assert held[0] == "a"
    assert held in (["a"], ["a", "b"])


def test_a_repeated_request_is_done_once(tmp_path: Path) -> None:
    """The same line sent twice to the leader adds one value."""
    with Cluster(tmp_path, "127.81.3", size=1) as cluster:
        session = Session(cluster.members, "s", threading.Event().wait)
        session.append("k", "a", DEADLINE_S)
        body = command("s", 1, "append", "k", "a")
        with socket.create_connection((cluster.members[0], PORT), DEADLINE_S) as sock:
            sock.sendall(json.dumps(body).encode() + b"\n")
            answer = json.loads(sock.makefile("rb").readline())
        held = session.get("k", DEADLINE_S)
        session.close()

    assert answer["n"] == 1
    assert held == ["a"]


def test_leadership_is_moved_to_who_is_told_to_stand(tmp_path: Path) -> None:
    """A follower that is told to stand leads a later term, and has all that was written."""
    with Cluster(tmp_path, "127.81.4", size=3, timing=PATIENT) as members:
        cluster = Members({member: member for member in members.members})
        cluster.until_all_vote()
        first = members.members[0]
        cluster.stand(first, STANDS_S)
        cluster.until("the first to lead", lambda: cluster.leads(first))
        session = cluster.session("s")
        session.append("k", "a", DEADLINE_S)
        leader, term = cluster.leader()
        cluster.until_settled()
        follower = next(member for member in members.members if member != leader)

        stands_in = cluster.stand(follower, STANDS_S)
        cluster.until("the follower to lead", lambda: cluster.leads(follower))

        held = session.get("k", DEADLINE_S)
        session.close()
        cluster.close()

    assert stands_in > term  # by one, where the first answer came in time
    assert held == ["a"]
