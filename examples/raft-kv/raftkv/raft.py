"""Raft as a machine without I/O: messages and time in; things to store, send and apply out.

Rules, in the order in which they are needed:

1. `take` returns what changed. Its `meta` and `entries` must be on disk before its `messages` leave and
   before `persisted` is called. A leader counts itself only for what is persisted.
2. Terms only grow. A vote is stored with its term. A member grants it to one candidate at most whose log is
   at least as up to date as its own.
3. Before it raises its term a member asks whether it would be elected (pre-vote), so that one that was cut
   off does not depose a working leader when it comes back.
4. An entry is committed when a majority of all members that count holds it and it is of the leader's term.
5. A read is answered when a majority has confirmed, after it arrived, that the leader still leads, and all
   that was committed by then is applied.
6. A leader that hears no majority for an election timeout steps down.
7. A candidate asks those that have not answered again and again until its time is over, as a lost question
   would cost an election. How long that is (`stand`) is nothing that safety rests on.
8. A member whose disk was lost neither votes nor counts before a majority of the *others* has committed its
   admission (`rejoin`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from raftkv.log import Log
from raftkv.progress import Progress
from raftkv.rejoin import counted_disk, standing
from raftkv.values import (
    Append,
    AppendReply,
    Entry,
    Join,
    Message,
    Meta,
    Vote,
    VoteReply,
    admit,
    noop,
)


class Role(Enum):
    """What a member does at the moment."""

    FOLLOWER = "follower"
    CANDIDATE = "candidate"  # asks for votes or, first, for pre-votes
    LEADER = "leader"
    LEARNER = "learner"  # its disk was lost: it copies the log and waits to be admitted


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. The election timeout is drawn between `election` and twice that."""

    heartbeat: float = 0.06
    election: float = 0.45


@dataclass(slots=True)
class Ready:
    """What to do now, in the order of the fields."""

    meta: Meta | None = None
    first: int = 0  # entries from here on replace what is stored; 0 for no change
    entries: tuple[Entry, ...] = ()
    messages: list[tuple[str, Message]] = field(default_factory=list)
    committed: list[tuple[int, Entry]] = field(default_factory=list)
    reads: list[int] = field(default_factory=list)  # tickets that may be answered, after `committed`


@dataclass(slots=True)
class _Read:
    ticket: int
    index: int
    round: int


class Raft:
    """One member of a formed cluster. Times are seconds of one clock that never goes back.

    Args:
        jitter: draws a number in [0, 1); spreads the election timeouts.
        confirm: False makes a leader answer reads and keep its office without a majority. That is the bug
            STALE_READS, which exists to be found.
    """

    def __init__(
        self,
        me: str,
        members: tuple[str, ...],
        meta: Meta,
        log: Log,
        now: float,
        jitter: Callable[[], float],
        timing: Timing | None = None,
        confirm: bool = True,
    ) -> None:
        self.me = me
        self.log = log
        self.meta = meta
        self.role = Role.FOLLOWER if meta.voter else Role.LEARNER
        self.leader: str | None = None
        self.commit = 0
        self.majority = len(members) // 2 + 1
        self._peers = tuple(member for member in members if member != me)
        self._timing = timing or Timing()
        self._jitter = jitter
        self._confirm = confirm
        self._now = now
        self._heard_leader = float("-inf")
        self._election_at = 0.0
        self._beat_at = now
        self._pre = True
        self._granted: set[str] = set()
        self._refused: set[str] = set()
        self._progress: dict[str, Progress] = {}
        self._saved = log.last_index
        self._unsaved = 0
        self._meta_saved = meta
        self._hot = False  # entries or reads wait to be sent
        self._office_index = 0  # of the noop of this term, while leader
        self._round = 0
        self._new_reads: list[int] = []
        self._reads: list[_Read] = []
        self._out = Ready()
        self._set_election_timer()
        if not self._peers and meta.voter:
            self._election_at = now

    # What the owner calls.

    @property
    def term(self) -> int:
        """The current term."""
        return self.meta.term

    @property
    def deadline(self) -> float:
        """When `tick` has something to do, if nothing happens before."""
        if self.role in (Role.LEADER, Role.LEARNER):
            return self._beat_at
        return min(self._beat_at, self._election_at) if self._stands else self._election_at

    @property
    def votes(self) -> tuple[list[str], list[str]]:
        """Who has voted for this candidate, itself included, and who has refused; empty for others."""
        return (sorted(self._granted), sorted(self._refused)) if self._stands else ([], [])

    def propose(self, body: dict[str, object]) -> int | None:
        """Appends a write and returns its index; None when not leader."""
        if self.role is not Role.LEADER:
            return None
        self._hot = True
        return self._append(Entry(self.term, body))

    def read(self, ticket: int) -> bool:
        """Asks for a linearizable read; its ticket comes out of `take`. False when not leader.

        When leadership is lost the ticket never comes; the owner sees `role` change.
        """
        if self.role is not Role.LEADER:
            return False
        self._new_reads.append(ticket)
        return True

    def stand(self, now: float, seconds: float) -> bool:
        """Stands for election at once, without a pre-vote, and for `seconds`; False for a learner.

        This is the leadership transfer of the dissertation (3.10, TimeoutNow): as if the election timeout had
        run out now. An operator moves the leader with it, and a test gets the election that it wants.
        """
        if self.role is Role.LEARNER:
            return False
        self._now = now
        self._follow(self.term, None)
        self._campaign(pre=False)
        self._election_at = now + seconds
        return True

    def tick(self, now: float) -> None:
        """Does what is due at `now`."""
        self._now = now
        if self.role is Role.LEADER:
            if self._confirm and not self._hears_majority():
                self._follow(self.term, None)
            elif now >= self._beat_at:
                self._send_all(beat=True)
        elif self.role is Role.LEARNER:
            if now >= self._beat_at:
                self._beat_at = now + self._timing.heartbeat * 2
                self._tell_all(Join(self.me, self.meta.incarnation))
        elif now >= self._election_at:
            self._campaign(pre=True)
        elif self._stands and now >= self._beat_at:
            self._ask_votes()

    def receive(self, now: float, message: Message) -> None:
        """Takes in a message of a peer."""
        self._now = now
        match message:
            case Append():
                self._on_append(message)
            case AppendReply():
                self._on_append_reply(message)
            case Vote():
                self._on_vote(message)
            case VoteReply():
                self._on_vote_reply(message)
            case Join(src, incarnation):
                self._on_join(src, incarnation)

    def take(self) -> Ready:
        """What is to be done since the last call."""
        if self.role is Role.LEADER:
            self._open_read_round()
            if self._hot:
                self._send_all(beat=False)
        ready, self._out = self._out, Ready()
        if self.meta != self._meta_saved:
            ready.meta = self._meta_saved = self.meta
        if self._unsaved:
            ready.first = self._unsaved
            ready.entries = self.log.slice(self._unsaved, self.log.last_index + 1)
            self._unsaved = 0
        ready.reads = self._confirmed_reads()
        return ready

    def persisted(self) -> None:
        """All that `take` returned is on disk."""
        self._saved = self.log.last_index
        self._advance_commit()

    # Elections.

    def _tell_all(self, message: Message) -> None:
        self._out.messages += [(peer, message) for peer in self._peers]

    def _set_election_timer(self) -> None:
        self._election_at = self._now + self._timing.election * (1 + self._jitter())

    @property
    def _stands(self) -> bool:
        return self.role is Role.CANDIDATE and not self._pre

    def _follow(self, term: int, leader: str | None) -> None:
        if term > self.term:
            self.meta = self.meta._replace(term=term, vote=None)
        self.role = Role.FOLLOWER if self.meta.voter else Role.LEARNER
        self.leader = leader
        self._granted.clear()
        self._progress.clear()
        self._new_reads.clear()
        self._reads.clear()
        self._hot = False
        self._beat_at = self._now
        self._set_election_timer()

    def _campaign(self, pre: bool) -> None:
        self.role, self.leader, self._pre = Role.CANDIDATE, None, pre
        if not pre:
            self.meta = self.meta._replace(term=self.term + 1, vote=self.me)
        self._granted, self._refused = {self.me}, set()
        self._set_election_timer()
        self._ask_votes()
        self._count_votes()

    def _ask_votes(self) -> None:
        self._beat_at = self._now + self._timing.heartbeat
        term = self.term + 1 if self._pre else self.term
        ask = Vote(self.me, term, self.log.last_index, self.log.last_term, self._pre)
        answered = self._granted | self._refused
        self._out.messages += [(peer, ask) for peer in self._peers if peer not in answered]

    def _count_votes(self) -> None:
        if len(self._granted) >= self.majority:
            if self._pre:
                self._campaign(pre=False)
            else:
                self._lead()

    def _on_vote(self, ask: Vote) -> None:
        if not ask.pre and ask.term > self.term:
            self._follow(ask.term, None)
        current = (ask.last_term, ask.last_index) >= (self.log.last_term, self.log.last_index)
        if ask.pre:
            content = self.role is Role.LEADER or self._now - self._heard_leader < self._timing.election
            granted = ask.term > self.term and not content
        else:
            granted = ask.term == self.term and self.meta.vote in (None, ask.src)
        granted = granted and current and self.meta.voter
        if granted and not ask.pre:
            self.meta = self.meta._replace(vote=ask.src)
            self._set_election_timer()
        reply = VoteReply(self.me, ask.term if granted else self.term, granted, ask.pre)
        self._out.messages.append((ask.src, reply))

    def _on_vote_reply(self, reply: VoteReply) -> None:
        if not reply.granted and reply.term > self.term:
            self._follow(reply.term, None)
            return
        asked = self.term + 1 if self._pre else self.term
        if self.role is not Role.CANDIDATE or (reply.pre, reply.term) != (self._pre, asked):
            return
        if reply.granted:
            self._granted.add(reply.src)
            self._count_votes()
        else:
            self._refused.add(reply.src)

    def _lead(self) -> None:
        self.role, self.leader = Role.LEADER, self.me
        self._progress = {
            peer: Progress(next=self.log.last_index + 1, heard=self._now) for peer in self._peers
        }
        self._round = 0
        self._office_index = self._append(Entry(self.term, noop(self.me)))
        self._send_all(beat=True)

    # The leader's side of the log.

    def _append(self, entry: Entry) -> int:
        index = self.log.append(entry)
        self._unsaved = min(self._unsaved or index, index)
        return index

    def _send_all(self, beat: bool) -> None:
        self._hot = False
        if beat:
            self._beat_at = self._now + self._timing.heartbeat
        for peer in self._peers:
            self._send(peer, beat)

    def _send(self, peer: str, beat: bool) -> None:
        progress = self._progress[peer]
        span = progress.range(self.log.last_index, beat)
        if span is None:
            return
        before = span[0] - 1
        entries = self.log.slice(*span)
        message = Append(
            self.me, self.term, before, self.log.term_at(before), entries, self.commit, self._round
        )
        progress.sent(message)
        self._out.messages.append((peer, message))

    def _on_append_reply(self, reply: AppendReply) -> None:
        if reply.term > self.term:
            self._follow(reply.term, None)
        if self.role is not Role.LEADER or reply.term != self.term:
            return
        progress = self._progress[reply.src]
        if reply.incarnation != progress.incarnation:
            progress.renew(reply.incarnation, self.log.last_index)
        progress.heard, progress.voter = self._now, reply.voter
        progress.round = max(progress.round, reply.round)
        if reply.ok:
            progress.accepted(reply)
            self._advance_commit()
        else:
            same = self.log.last_of_term(reply.hint_term, below=progress.next) if reply.hint_term else 0
            progress.rejected(same + 1 if same else reply.at)
        self._send(reply.src, beat=False)

    def _on_join(self, src: str, incarnation: str) -> None:
        if self.role is Role.LEADER and counted_disk(src, self.log, self.meta) != incarnation:
            self._append(Entry(self.term, admit(src, incarnation)))
            self._hot = True

    def _counting(self) -> list[Progress]:
        return [p for peer, p in self._progress.items() if p.counts(counted_disk(peer, self.log, self.meta))]

    def _hears_majority(self) -> bool:
        since = self._now - self._timing.election * 2
        return 1 + sum(p.heard >= since for p in self._progress.values()) >= self.majority

    def _advance_commit(self) -> None:
        if self.role is not Role.LEADER:
            return
        held = sorted([self._saved, *(p.match for p in self._counting())], reverse=True)
        if len(held) < self.majority:
            return
        index = held[self.majority - 1]
        if index > self.commit and self.log.term_at(index) == self.term:
            self._commit_to(index)

    def _commit_to(self, index: int) -> None:
        entries = self.log.slice(self.commit + 1, index + 1)
        self._out.committed += list(enumerate(entries, self.commit + 1))
        self.commit = index
        meta = standing(self.me, self.log, index, self.meta)
        if meta != self.meta:
            self.meta = meta
            self._follow(self.term, self.leader if self.leader != self.me else None)

    # The follower's side of the log.

    def _on_append(self, message: Append) -> None:
        if message.term < self.term:
            self._answer(message, False, 0, 0)
            return
        if message.term > self.term or self.role is Role.CANDIDATE or self.leader != message.src:
            self._follow(message.term, message.src)
        self._heard_leader = self._now
        self._set_election_timer()
        if not self.log.agrees(message.prev_index, message.prev_term):
            if message.prev_index > self.log.last_index:
                self._answer(message, False, self.log.last_index + 1, 0)
            else:
                first = self.log.first_of_term(message.prev_index)
                self._answer(message, False, first, self.log.term_at(message.prev_index))
            return
        self._copy(message.prev_index + 1, message.entries)
        last = message.prev_index + len(message.entries)
        if min(message.commit, last) > self.commit:
            self._commit_to(min(message.commit, last))
        self._answer(message, True, last, 0)

    def _copy(self, index: int, entries: tuple[Entry, ...]) -> None:
        for at, entry in enumerate(entries, index):
            if self.log.agrees(at, entry.term):
                continue
            if at <= self.log.last_index:
                if at <= self.commit:
                    raise AssertionError(f"entry {at} is committed and would be replaced")
                self.log.truncate(at)
                self._unsaved = min(self._unsaved or at, at)
            self._append(entry)

    def _answer(self, ask: Append, ok: bool, index: int, hint_term: int) -> None:
        reply = AppendReply(
            self.me, self.term, ok, index, hint_term, ask.round, self.meta.incarnation, self.meta.voter
        )
        self._out.messages.append((ask.src, reply))

    # Reads.

    def _open_read_round(self) -> None:
        if not self._new_reads:
            return
        self._round += 1
        index = max(self.commit, self._office_index)
        self._reads += [_Read(ticket, index, self._round) for ticket in self._new_reads]
        self._new_reads.clear()
        self._send_all(beat=True)

    def _confirmed_reads(self) -> list[int]:
        rounds = sorted([self._round, *(p.round for p in self._counting())], reverse=True)
        confirmed = rounds[self.majority - 1] if len(rounds) >= self.majority else -1
        if not self._confirm:
            confirmed = self._round
        done = [read for read in self._reads if read.round <= confirmed and read.index <= self.commit]
        if done:
            self._reads = [read for read in self._reads if read not in done]
        return [read.ticket for read in done]
