"""The values of the protocol: what is stored, and what members say to each other."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

# Node addresses stand for the nodes. An incarnation names one disk: it is drawn when a disk is first used.
Roster = dict[str, str]

# Stands in `Meta.vote` where no candidate may have this term's vote.
BARRED = "-"


class Entry(NamedTuple):
    """One entry of the log; `body` is one of the three shapes that the functions below make."""

    term: int
    body: dict[str, Any]


def noop(leader: str) -> dict[str, Any]:
    """What a new leader writes first, so that it can commit what older terms left (Raft 5.4.2)."""
    return {"kind": "noop", "leader": leader}


def admit(node: str, incarnation: str) -> dict[str, Any]:
    """Makes a member whose disk is new a voter again (`rejoin`)."""
    return {"kind": "admit", "node": node, "incarnation": incarnation}


def command(client: str, seq: int, op: str, key: str, value: str) -> dict[str, Any]:
    """A write of a client's session."""
    return {"kind": "do", "client": client, "seq": seq, "op": op, "key": key, "value": value}


class Meta(NamedTuple):
    """What a member must never forget, besides its log."""

    incarnation: str
    roster: Roster | None = None  # the incarnations the cluster was born with, once known
    formed: bool = False  # whether the cluster is known to be born
    voter: bool = False  # whether this disk may vote and count
    term: int = 0
    vote: str | None = None  # in `term`; BARRED for nobody


class Hello(NamedTuple):
    """Says that a member has not heard yet that the cluster is born."""

    src: str
    incarnation: str


class Form(NamedTuple):
    """Asks a member to pin these incarnations as the cluster's first."""

    src: str
    roster: Roster


class Pinned(NamedTuple):
    """The sender holds this roster on disk and will never pin another."""

    src: str
    roster: Roster


class Formed(NamedTuple):
    """All members have pinned this roster."""

    src: str
    roster: Roster


class Join(NamedTuple):
    """Asks the leader to admit a disk that is not the one the member was known by."""

    src: str
    incarnation: str


class Vote(NamedTuple):
    """Asks for a vote; with `pre` only whether one would be given."""

    src: str
    term: int
    last_index: int
    last_term: int
    pre: bool


class VoteReply(NamedTuple):
    """`term` is the asked term where it is granted, else the sender's own."""

    src: str
    term: int
    granted: bool
    pre: bool


class Append(NamedTuple):
    """Entries after `prev_index`; without entries a heartbeat. `round` numbers confirmations of reads."""

    src: str
    term: int
    prev_index: int
    prev_term: int
    entries: tuple[Entry, ...]
    commit: int
    round: int


class AppendReply(NamedTuple):
    """Where `ok`, the logs agree up to index `at`; else the leader may look again from there."""

    src: str
    term: int
    ok: bool
    at: int
    hint_term: int  # the term of the entry that does not agree; 0 where the log is too short
    round: int
    incarnation: str
    voter: bool


Message = Hello | Form | Pinned | Formed | Join | Vote | VoteReply | Append | AppendReply
_KINDS: dict[str, Any] = {
    kind.__name__: kind for kind in (Hello, Form, Pinned, Formed, Join, Vote, VoteReply, Append, AppendReply)
}


def encode(message: Message) -> bytes:
    """One line of JSON: the kind, then the fields in order."""
    return json.dumps([type(message).__name__, *message], separators=(",", ":")).encode() + b"\n"


def decode(parts: list[Any]) -> Message:
    """The message in a line that `encode` made.

    Raises:
        ValueError: it is no such message.
    """
    try:
        kind = _KINDS[parts[0]]
        message: Message = kind(*parts[1:])
        if isinstance(message, Append):
            return message._replace(entries=tuple(Entry(*entry) for entry in message.entries))
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"not a message: {error}") from error
    return message
