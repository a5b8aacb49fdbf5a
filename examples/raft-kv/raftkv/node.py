"""One member at work: network and disk around the two machines, birth and Raft.

One thread does everything in turns: wait for what comes, hand it to the machine, then store, send, apply and
answer, in this order. What came together is stored with one sync.
"""

from __future__ import annotations

import json
import random
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from raftkv.birth import Birth
from raftkv.disk import Disk
from raftkv.log import Log
from raftkv.net import Connection, Network
from raftkv.raft import Raft, Role, Timing
from raftkv.store import Store
from raftkv.values import Form, Formed, Hello, Message, Meta, command, encode

PORT = 7400
MAX_WAITING = 4096  # requests that wait for the machine; more are refused as `busy`
MAX_STAND_S = 60
MAX_TEXT = 4096  # characters of a key, a value or a client's name


class Settings(NamedTuple):
    """What a member is told."""

    me: str
    members: tuple[str, ...]
    folder: Path
    stale_reads: bool = False
    forget_vote: bool = False
    timing: Timing = Timing()


class _Waiting(NamedTuple):
    connection: Connection
    request: dict[str, Any]
    term: int


class Node:
    """One member from start to end.

    Args:
        say: gets one line for each change that a person wants to know.
        linked: whether messages may pass to and from a peer; lets a test cut a link.
    """

    def __init__(
        self,
        settings: Settings,
        say: Callable[[str], None],
        linked: Callable[[str], bool] = lambda _peer: True,
    ) -> None:
        self._settings = settings
        self._say = say
        self._linked = linked
        self._said = ""
        self._disk = Disk(settings.folder)
        self._store = Store()
        self._applied = 0
        self._writes: dict[int, _Waiting] = {}  # by index in the log
        self._reads: dict[int, _Waiting] = {}  # by ticket
        self._tickets = 0
        self._led = 0  # the term when the waiting requests were last looked through
        stored, entries = self._disk.load()
        if stored is None:
            stored = Meta(incarnation=secrets.token_hex(8))
            self._disk.save_meta(stored)
        if settings.forget_vote:
            stored = stored._replace(vote=None)
        self._log = Log(entries)
        self._birth: Birth | None = None
        self._raft: Raft | None = None
        self._out: list[tuple[str, Message]] = []
        peers = tuple(member for member in settings.members if member != settings.me)
        self._network = Network(settings.me, PORT, peers, self._on_message, self._on_request)
        self._unborn = stored  # the meta on disk, until the cluster is formed
        self._begin(stored)

    def run(self, ended: Callable[[], bool] = lambda: False) -> None:
        """Works until `ended` says so, which is asked in each turn."""
        try:
            while not ended():
                machine = self._raft or self._birth
                assert machine is not None  # one of the two is always there
                self._network.poll(max(0.0, min(machine.deadline - time.monotonic(), 0.5)))
                self._turn()
        finally:
            self._network.close()
            self._disk.close()

    def _begin(self, meta: Meta) -> None:
        now, settings = time.monotonic(), self._settings
        if not meta.formed:
            self._birth = Birth(settings.me, settings.members, meta, now)
            return
        self._birth = None
        if not meta.voter:
            self._say("came back without its disk: copies the log and waits to be admitted")
        self._raft = Raft(
            settings.me, settings.members, meta, self._log, now, random.random, settings.timing,
            confirm=not settings.stale_reads,
        )  # fmt: skip

    def _turn(self) -> None:
        now = time.monotonic()
        if self._raft is None:
            self._turn_birth(now)
        if self._raft is not None:
            self._raft.tick(now)
            self._turn_raft(self._raft)
        for peer, message in self._out:
            if self._linked(peer):
                self._network.send(now, peer, encode(message))
        self._out.clear()

    def _turn_birth(self, now: float) -> None:
        birth = self._birth
        assert birth is not None  # the other machine is not there
        birth.tick(now)
        self._out += birth.take()
        if birth.meta != self._unborn:
            self._disk.save_meta(birth.meta)
            self._unborn = birth.meta
        if birth.meta.formed:
            self._begin(birth.meta)

    def _turn_raft(self, raft: Raft) -> None:
        while True:
            ready = raft.take()
            if ready.meta is not None:
                self._disk.save_meta(ready.meta)
            if ready.first:
                self._disk.write(ready.first, ready.entries)
            raft.persisted()
            self._out += ready.messages
            for index, entry in ready.committed:
                self._apply(index, entry.term, self._store.apply(entry))
            for ticket in ready.reads:
                self._answer_read(self._reads.pop(ticket))
            if raft.role is not Role.LEADER or raft.term != self._led:
                self._refuse_waiting(raft)
                self._led = raft.term
            if not (ready.first or ready.committed or ready.meta):
                break
        self._tell(raft)

    def _tell(self, raft: Raft) -> None:
        if raft.role is Role.LEADER:
            line = f"became leader, term {raft.term}"
        elif raft.role is Role.LEARNER:
            return
        elif raft.leader:
            line = f"follows {raft.leader}, term {raft.term}"
        else:
            line = "has no leader"
        if line != self._said:
            self._said = line
            self._say(line)

    def _on_message(self, message: Message) -> None:
        if message.src not in self._settings.members or not self._linked(message.src):
            return
        if self._raft is None:
            assert self._birth is not None
            self._birth.receive(message)
        elif isinstance(message, Hello | Form):
            roster = self._raft.meta.roster
            assert roster is not None  # it is formed
            self._out.append((message.src, Formed(self._settings.me, roster)))
        else:
            self._raft.receive(time.monotonic(), message)

    # Clients.

    def _on_request(self, connection: Connection, request: dict[str, Any]) -> None:
        if request.get("op") == "status":
            self._answer(connection, request, self._status())
        elif request.get("op") == "stand":
            self._answer(connection, request, self._stand(request.get("seconds")))
        elif (fault := _fault_in(request)) is not None:
            self._answer(connection, request, {"ok": False, "error": fault})
        elif self._raft is None or self._raft.role is not Role.LEADER:
            self._answer(connection, request, self._not_leader())
        elif len(self._writes) + len(self._reads) >= MAX_WAITING:
            self._answer(connection, request, {"ok": False, "error": "busy"})
        elif request["op"] in ("put", "append"):
            body = command(request["client"], request["seq"], request["op"], request["key"], request["value"])
            index = self._raft.propose(body)
            assert index is not None  # it leads
            self._writes[index] = _Waiting(connection, request, self._raft.term)
        else:
            self._tickets += 1
            self._raft.read(self._tickets)
            self._reads[self._tickets] = _Waiting(connection, request, self._raft.term)

    def _stand(self, seconds: object) -> dict[str, Any]:
        if (
            isinstance(seconds, bool)
            or not isinstance(seconds, int | float)
            or not 0 < seconds <= MAX_STAND_S
        ):
            return {"ok": False, "error": f"seconds is not a number above 0, at most {MAX_STAND_S}"}
        if self._raft is None or not self._raft.stand(time.monotonic(), seconds):
            return {"ok": False, "error": "no voter"}
        return {"ok": True, "term": self._raft.term}

    def _apply(self, index: int, term: int, result: dict[str, Any] | None) -> None:
        self._applied = index
        waiting = self._writes.pop(index, None)
        if waiting is not None:
            kept = result if waiting.term == term else None  # else another leader's entry took its place
            self._answer(waiting.connection, waiting.request, kept or self._not_leader())

    def _answer_read(self, waiting: _Waiting) -> None:
        op, key = waiting.request["op"], waiting.request["key"]
        values = self._store.get(key)
        if op == "keys":
            answer: dict[str, Any] = {"ok": True, "keys": self._store.keys()}
        elif op == "last":
            answer = {"ok": True, "n": len(values), "value": values[-1] if values else None}
        else:
            answer = {"ok": True, "values": values}
        self._answer(waiting.connection, waiting.request, answer)

    def _refuse_waiting(self, raft: Raft) -> None:
        """Refuses what came in a term in which this member led and does not lead any more."""
        # Whether these writes will be committed is not known; the session makes asking again safe.
        for requests in (self._writes, self._reads):
            for key, waiting in list(requests.items()):
                if raft.role is not Role.LEADER or waiting.term != raft.term:
                    del requests[key]
                    self._answer(waiting.connection, waiting.request, self._not_leader())

    def _not_leader(self) -> dict[str, Any]:
        leader = self._raft.leader if self._raft is not None else None
        return {"ok": False, "error": "not leader", "leader": leader if leader != self._settings.me else None}

    def _status(self) -> dict[str, Any]:
        raft = self._raft
        if raft is None:
            return {"ok": True, "role": "unborn", "term": 0, "leader": None, "voter": False, "applied": 0}
        granted, refused = raft.votes
        return {
            "ok": True, "role": raft.role.value, "term": raft.term, "leader": raft.leader,
            "voter": raft.meta.voter, "applied": self._applied, "last": self._log.last_index,
            "granted": granted, "refused": refused, "elections": self._store.elections,
        }  # fmt: skip

    def _answer(self, connection: Connection, request: dict[str, Any], answer: dict[str, Any]) -> None:
        line = json.dumps({"id": request.get("id"), **answer}, separators=(",", ":"))
        connection.send(line.encode() + b"\n")


def _fault_in(request: dict[str, Any]) -> str | None:
    """Why a request cannot be used; None when it can."""
    op = request.get("op")
    if op not in ("put", "append", "get", "last", "keys"):
        return f"no operation {op!r}: put, append, get, last, keys, status, stand"
    request.setdefault("key", "")
    names = ("client", "key", "value") if op in ("put", "append") else ("key",)
    for name in names:
        text = request.get(name)
        if not isinstance(text, str) or len(text) > MAX_TEXT:
            return f"{name} is not a text of at most {MAX_TEXT} characters"
    seq = request.get("seq", 1)
    if isinstance(seq, bool) or not isinstance(seq, int) or seq < 1:
        return "seq is not a whole number from 1"
    return None
