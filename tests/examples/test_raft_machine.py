"""Single rules of the Raft machine that random worlds seldom reach: five members, one of them under test."""

from __future__ import annotations

from raftkv.log import Log
from raftkv.raft import Raft, Role
from raftkv.values import (
    Append,
    AppendReply,
    Entry,
    Join,
    Meta,
    Vote,
    VoteReply,
    admit,
    command,
    noop,
)

ME, B, C, D, E = MEMBERS = ("a", "b", "c", "d", "e")
ROSTER = {member: f"{member}1" for member in MEMBERS}
WRITE = command("s", 1, "append", "k", "v")


def _member(term: int, *entries: Entry, voter: bool = True) -> Raft:
    meta = Meta(ROSTER[ME] if voter else "a2", ROSTER, formed=True, voter=voter, term=term)
    return Raft(ME, MEMBERS, meta, Log(entries), now=0.0, jitter=lambda: 0.0)


def _leader(term: int, *entries: Entry) -> Raft:
    """A member that B and C have just made leader of `term`; its first entry is stored."""
    raft = _member(term - 1, *entries)
    raft.tick(10.0)
    for pre in (True, False):
        for voter in (B, C):
            raft.receive(10.0, VoteReply(voter, term, True, pre))
    assert raft.role is Role.LEADER
    _store(raft)
    return raft


def _store(raft: Raft) -> None:
    raft.take()
    raft.persisted()


def _acknowledge(raft: Raft, peer: str, at: int, incarnation: str | None = None, voter: bool = True) -> None:
    disk = incarnation or ROSTER[peer]
    raft.receive(10.0, AppendReply(peer, raft.term, True, at, 0, 0, disk, voter))


def test_an_entry_of_an_older_term_is_not_committed_by_counting() -> None:
    """A majority holds it, but only the leader's own entry behind it commits it (Raft, figure 8)."""
    raft = _leader(4, Entry(2, noop(B)))

    _acknowledge(raft, B, 1)
    _acknowledge(raft, C, 1)
    before = raft.commit
    _acknowledge(raft, B, 2)
    _acknowledge(raft, C, 2)

    assert before == 0
    assert raft.commit == 2


def test_a_leader_counts_itself_only_for_what_is_stored() -> None:
    """Two others hold an entry that the leader has not stored yet: that is no majority."""
    raft = _leader(2)
    index = raft.propose(WRITE)
    assert index is not None
    raft.take()

    _acknowledge(raft, B, index)
    _acknowledge(raft, C, index)
    before = raft.commit
    raft.persisted()

    assert before == index - 1
    assert raft.commit == index


def test_a_follower_commits_no_further_than_it_agrees() -> None:
    """What stands behind the entries a heartbeat speaks of may be another leader's."""
    raft = _member(1, *(Entry(1, noop(B)) for _ in range(3)))

    raft.receive(10.0, Append(C, 2, prev_index=1, prev_term=1, entries=(), commit=3, round=0))

    assert raft.commit == 1


def test_an_admission_is_committed_without_the_admitted() -> None:
    """Neither the lost disk nor the new one counts for it; a majority of the others does."""
    raft = _leader(2)
    for peer in (B, C):
        _acknowledge(raft, peer, 1)
    raft.receive(10.0, Join(E, "e2"))
    _store(raft)

    _acknowledge(raft, B, 2)
    _acknowledge(raft, E, 2, "e1")  # what its lost disk still had under way
    with_lost = raft.commit
    _acknowledge(raft, E, 2, "e2", voter=False)
    with_fresh = raft.commit
    _acknowledge(raft, C, 2)

    assert (with_lost, with_fresh) == (1, 1)
    assert raft.commit == 2


def test_an_admitted_disk_counts_once_it_votes() -> None:
    """When the member has stored that it is a voter, its acknowledgements count like any other's."""
    raft = _leader(2)
    raft.receive(10.0, Join(E, "e2"))
    _store(raft)
    for peer in (B, C):
        _acknowledge(raft, peer, 2)
    raft.propose(WRITE)
    _store(raft)

    _acknowledge(raft, B, 3)
    _acknowledge(raft, E, 3, "e2", voter=False)
    before = raft.commit
    _acknowledge(raft, E, 3, "e2", voter=True)

    assert before == 2
    assert raft.commit == 3


def test_a_join_is_written_once() -> None:
    """A member that asks again while its admission is under way does not fill the log."""
    raft = _leader(2)

    for _ in range(3):
        raft.receive(10.0, Join(E, "e2"))

    assert raft.log.last_index == 2


def test_a_learner_neither_votes_nor_stands() -> None:
    """A disk that is not admitted takes no part in elections, however long it hears nothing."""
    raft = _member(3, voter=False)

    raft.receive(10.0, Vote(B, 4, 0, 0, pre=False))
    raft.tick(1000.0)

    sent = [message for _, message in raft.take().messages]
    assert VoteReply(ME, 4, granted=False, pre=False) in sent
    assert {type(message) for message in sent} == {VoteReply, Join}
    assert raft.role is Role.LEARNER


def test_an_admitted_disk_votes_in_later_terms_only() -> None:
    """The lost disk may have voted in any term up to this one."""
    raft = _member(0, voter=False)
    entries = (Entry(5, noop(B)), Entry(5, admit(ME, "a2")))
    raft.receive(10.0, Append(B, 5, 0, 0, entries, commit=2, round=0))
    admitted = raft.role
    raft.take()

    raft.receive(20.0, Vote(C, 5, 9, 5, pre=False))
    raft.receive(20.0, Vote(C, 6, 9, 5, pre=False))

    replies = [message for _, message in raft.take().messages if isinstance(message, VoteReply)]
    assert admitted is Role.FOLLOWER
    assert [(reply.term, reply.granted) for reply in replies] == [(5, False), (6, True)]


def test_the_admission_of_another_disk_makes_a_learner_of_a_voter() -> None:
    """A late word of a disk that is gone is put right by asking again."""
    raft = _member(5)

    raft.receive(10.0, Append(B, 5, 0, 0, (Entry(5, admit(ME, "a0")),), commit=1, round=0))
    raft.tick(20.0)

    assert raft.role is Role.LEARNER
    assert (B, Join(ME, ROSTER[ME])) in raft.take().messages


def test_a_read_waits_for_the_leaders_own_first_entry() -> None:
    """Until a leader has committed something it does not know what is committed."""
    raft = _leader(2)
    raft.read(7)
    round_ = next(message for _, message in raft.take().messages if isinstance(message, Append)).round
    for peer in (B, C):
        raft.receive(10.0, AppendReply(peer, 2, True, 0, 0, round_, ROSTER[peer], True))
    early = raft.take().reads

    for peer in (B, C):
        raft.receive(10.0, AppendReply(peer, 2, True, 1, 0, round_, ROSTER[peer], True))

    assert early == []
    assert raft.take().reads == [7]


def test_who_is_told_to_stand_asks_at_once_and_without_a_pre_vote() -> None:
    """Leadership transfer: the term is raised now, though a leader is well."""
    raft = _member(3)
    raft.receive(10.0, Append(B, 3, 0, 0, (), 0, 0))
    raft.take()

    stands = raft.stand(10.0, 5.0)

    ready = raft.take()
    assert stands and raft.term == 4
    assert ready.meta is not None and (ready.meta.term, ready.meta.vote) == (4, ME)
    assert [(peer, message) for peer, message in ready.messages if isinstance(message, Vote)] == [
        (peer, Vote(ME, 4, 0, 0, pre=False)) for peer in (B, C, D, E)
    ]


def test_a_candidate_asks_again_whoever_has_not_answered() -> None:
    """Neither who gave a vote nor who refused is asked again; after its time it asks for pre-votes."""
    raft = _member(3)
    raft.stand(10.0, 5.0)
    raft.take()
    raft.receive(10.0, VoteReply(B, 4, True, pre=False))
    raft.receive(10.0, VoteReply(C, 4, False, pre=False))

    due = raft.deadline
    raft.tick(due)
    again = raft.take().messages
    votes = raft.votes
    raft.tick(15.0)

    assert due < 10.2
    assert again == [(peer, Vote(ME, 4, 0, 0, pre=False)) for peer in (D, E)]
    assert votes == ([ME, B], [C])
    assert {message.pre for _, message in raft.take().messages if isinstance(message, Vote)} == {True}
    assert raft.term == 4


def test_votes_that_come_late_make_a_leader() -> None:
    """A candidate that stands long counts all votes of its term, however far apart they come."""
    raft = _member(3)
    raft.stand(10.0, 5.0)

    raft.receive(10.1, VoteReply(B, 4, True, pre=False))
    raft.receive(14.9, VoteReply(C, 4, True, pre=False))

    assert raft.role is Role.LEADER


def test_a_learner_does_not_stand_when_told() -> None:
    """A disk that is not admitted takes no part in elections, also on demand."""
    raft = _member(3, voter=False)

    assert not raft.stand(10.0, 5.0)
    assert raft.term == 3
