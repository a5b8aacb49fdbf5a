"""A deterministic world for the Raft example: a virtual clock, links that lose, delay, double and reorder.

Members are the real machines (`Birth`, `Raft`) and the real `Store`; only disk, network and clock are made
here. One seed decides everything, so a failing seed is replayed by running it again.
"""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass, field

from raftkv.birth import Birth
from raftkv.log import Log
from raftkv.raft import Raft, Role, Timing
from raftkv.store import Store
from raftkv.values import Entry, Form, Formed, Hello, Message, Meta, command

TIMING = Timing(heartbeat=0.05, election=0.3)


class Unsafe(AssertionError):
    """Something happened that Raft promises will not."""


@dataclass
class Disk:
    """What survives a kill."""

    meta: Meta | None = None
    entries: list[Entry] = field(default_factory=list)


@dataclass
class Member:
    """One member: its disk, and what lives while it runs."""

    name: str
    disk: Disk = field(default_factory=Disk)
    alive: bool = False
    birth: Birth | None = None
    raft: Raft | None = None
    store: Store = field(default_factory=Store)
    applied: int = 0
    writes: dict[int, tuple[int, str]] = field(default_factory=dict)  # index -> (term, value)
    reads: dict[int, frozenset[str]] = field(default_factory=dict)  # ticket -> acknowledged before it began

    @property
    def voter(self) -> bool:
        """Whether its disk may vote."""
        return self.disk.meta is not None and self.disk.meta.voter


class World:
    """Members, links between them, and the promises that are checked at every step.

    Args:
        loss: the share of messages that are lost.
    """

    def __init__(self, seed: int, size: int = 5, loss: float = 0.05) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.loss = loss
        self.names = tuple(f"n{number}" for number in range(size))
        self.members = {name: Member(name) for name in self.names}
        self.cut: set[str] = set()
        self.leaders: dict[int, str] = {}
        self.truth: dict[int, Entry] = {}  # the entry committed at each index, by whoever committed it first
        self.acknowledged: set[str] = set()
        self.answered_reads = 0
        self._queue: list[tuple[float, int, str, Message | None]] = []
        self._order = itertools.count()
        self._fresh = itertools.count(1)
        self._values = itertools.count(1)
        self._tickets = itertools.count(1)
        for name in self.names:
            self.start(name)

    # Faults.

    def start(self, name: str, with_disk: bool = True) -> None:
        """Starts a member that does not run."""
        member = self.members[name]
        if not with_disk:
            member.disk = Disk()
        if member.disk.meta is None:
            member.disk.meta = Meta(incarnation=f"{name}-{next(self._fresh)}")
        member.alive, member.store, member.applied = True, Store(), 0
        member.writes, member.reads = {}, {}
        member.birth = member.raft = None
        self._begin(member)
        self._wake(member)

    def kill(self, name: str) -> None:
        """Ends a member; its disk stays."""
        self.members[name].alive = False

    def leader(self) -> Member | None:
        """The leader of the highest term that is alive and linked."""
        rafts = [m for m in self.members.values() if m.alive and m.raft and m.raft.role is Role.LEADER]
        linked = [m for m in rafts if m.name not in self.cut]
        return max(linked, key=lambda m: m.raft.term if m.raft else 0, default=None)

    # Clients.

    def write(self, name: str) -> str | None:
        """Writes a new value at a member, if it leads; the value."""
        member = self.members[name]
        if not member.alive or member.raft is None or member.raft.role is not Role.LEADER:
            return None
        value = f"v{next(self._values)}"
        index = member.raft.propose(command(value, 1, "append", "k", value))
        assert index is not None
        member.writes[index] = (member.raft.term, value)
        self._turn(member)
        return value

    def read(self, name: str) -> None:
        """Begins a read at a member, if it leads."""
        member = self.members[name]
        if member.alive and member.raft is not None and member.raft.role is Role.LEADER:
            ticket = next(self._tickets)
            member.raft.read(ticket)
            member.reads[ticket] = frozenset(self.acknowledged)
            self._turn(member)

    # Time.

    def run(self, seconds: float) -> None:
        """Lets time pass."""
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            self._step()
        self.now = end

    def run_until(self, reached: object, seconds: float) -> None:
        """Lets time pass until `reached()` is true; fails after so many seconds."""
        assert callable(reached)
        end = self.now + seconds
        while not reached():
            if not self._queue or self._queue[0][0] > end:
                raise Unsafe(f"not reached within {seconds} s: {self.state()}")
            self._step()

    def state(self) -> str:
        """All members in a line each, for a failing test."""
        lines = [
            f"{m.name} alive={m.alive} cut={m.name in self.cut} {m.disk.meta} last={len(m.disk.entries)} "
            f"role={m.raft.role if m.raft else None} applied={m.applied}"
            for m in self.members.values()
        ]
        return "\n".join(["", *lines])

    def _step(self) -> None:
        self.now, _, name, message = heapq.heappop(self._queue)
        member = self.members[name]
        if not member.alive:
            return
        if message is not None:
            self._receive(member, message)
        machine = member.raft or member.birth
        assert machine is not None
        machine.tick(self.now)
        self._turn(member)
        if message is None:
            self._wake(member)

    def _wake(self, member: Member) -> None:
        machine = member.raft or member.birth
        assert machine is not None
        due = max(self.now + 0.001, min(machine.deadline, self.now + 0.05))
        heapq.heappush(self._queue, (due, next(self._order), member.name, None))

    # A member's turn: the order of node.py.

    def _begin(self, member: Member) -> None:
        meta = member.disk.meta
        assert meta is not None
        if meta.formed:
            log = Log(member.disk.entries)
            member.birth = None
            member.raft = Raft(member.name, self.names, meta, log, self.now, self.random.random, TIMING)
        else:
            member.birth = Birth(member.name, self.names, meta, self.now)

    def _receive(self, member: Member, message: Message) -> None:
        if member.raft is None:
            assert member.birth is not None
            member.birth.receive(message)
        elif isinstance(message, Hello | Form):
            assert member.raft.meta.roster is not None
            self._send(member.name, message.src, Formed(member.name, member.raft.meta.roster))
        else:
            member.raft.receive(self.now, message)

    def _turn(self, member: Member) -> None:
        if member.birth is not None:
            messages = member.birth.take()
            member.disk.meta = member.birth.meta
            if member.birth.meta.formed:
                self._begin(member)
            for peer, message in messages:
                self._send(member.name, peer, message)
        while member.alive and member.raft is not None:
            ready = member.raft.take()
            if ready.meta is not None:
                member.disk.meta = ready.meta
            if ready.first:
                del member.disk.entries[ready.first - 1 :]
                member.disk.entries += ready.entries
            member.raft.persisted()
            for peer, message in ready.messages:
                self._send(member.name, peer, message)
            for index, entry in ready.committed:
                self._commit(member, index, entry)
            for ticket in ready.reads:
                self._answer_read(member, member.reads.pop(ticket))
            self._check_leader(member)
            if not (ready.first or ready.committed or ready.meta):
                break

    def _send(self, src: str, dst: str, message: Message) -> None:
        if {src, dst} & self.cut or self.random.random() < self.loss:
            return
        for _ in range(2 if self.random.random() < 0.02 else 1):
            delay = self.random.uniform(0.001, 0.01)
            if self.random.random() < 0.02:
                delay = self.random.uniform(0.01, 1.5)
            heapq.heappush(self._queue, (self.now + delay, next(self._order), dst, message))

    # The promises.

    def _check_leader(self, member: Member) -> None:
        assert member.raft is not None
        if member.raft.role is Role.LEADER:
            known = self.leaders.setdefault(member.raft.term, member.name)
            if known != member.name:
                raise Unsafe(f"{known} and {member.name} both lead term {member.raft.term}")

    def _commit(self, member: Member, index: int, entry: Entry) -> None:
        if index != member.applied + 1:
            raise Unsafe(f"{member.name} applies {index} after {member.applied}")
        if self.truth.setdefault(index, entry) != entry:
            raise Unsafe(f"{member.name} commits another entry {index} than was committed before")
        member.applied = index
        result = member.store.apply(entry)
        term, value = member.writes.pop(index, (0, ""))
        if term == entry.term and result is not None and result["ok"]:
            self.acknowledged.add(value)

    def _answer_read(self, member: Member, before: frozenset[str]) -> None:
        missing = before - set(member.store.get("k"))
        if missing:
            raise Unsafe(
                f"{member.name} answers a read without {sorted(missing)[:3]}, acknowledged before it"
            )
        self.answered_reads += 1
