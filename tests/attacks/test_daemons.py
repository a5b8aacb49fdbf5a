"""Attacks on the daemons themselves: the keeper's socket, the manager's doors, the volunteer's relay."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.attacks import on_doors, on_keeper, on_users_door, outside
from tests.attacks.arena import Arena, limits
from tests.attacks.attack import Attack, Ran, each, each_shown
from tests.attacks.weak import WeakArena

pytestmark = pytest.mark.system

_SCRIPTS = Path(__file__).with_name("daemons")
_DONE = ("done",)
_QUOTA = 20  # jobs of a student that may wait
_STREAMS = 64  # of a student, open at once


def script(name: str) -> str:
    """One of the scripts of this group."""
    return (_SCRIPTS / f"{name}.py").read_text()


def grew(ran: Ran) -> str:
    """By how much a daemon grew, if that is too much."""
    size = ran.facts["grown"]
    return f"it grew by {size:,} bytes" if size > outside.MUCH else ""


def not_refused(ran: Ran) -> str:
    """What the keeper did with what is no source."""
    return "; ".join(said for said in ran.facts["said"] if not said.startswith("refused"))


def silent(ran: Ran) -> str:
    """Connections that nobody closed, and users who stand outside."""
    still = ran.facts["open"]
    found = [f"{still} connections stay open"] if still > on_users_door.SILENT else []
    return "; ".join(found + ([] if ran.facts["got_in"] else ["users do not get in"]))


ATTACKS = (
    Attack(
        id="keeper-garbage",
        tries="garbage, half frames, contradictory ones, of slots that are none, and one of 4 GiB, "
        "from a stranger and from the volunteer",
        held_by="a strict decoder, and a bound of a frame's length that is known before the frame is read",
        run=on_keeper.keeper_garbage,
        got=grew,
        ends=_DONE,
        without="daemons/frame-length",
    ),
    Attack(
        id="keeper-crowd",
        tries="60 connections to the keeper that say half a word, so that nobody else gets in",
        held_by="the oldest connection that says nothing gives up its place",
        run=on_keeper.keeper_crowd,
        got=lambda ran: "" if ran.facts["answered"] else "the keeper takes no question any more",
        ends=_DONE,
        without="daemons/oldest-goes",
    ),
    Attack(
        id="keeper-stranger",
        tries="another user of the machine who asks the keeper",
        held_by="the modes of the socket and its folder, and the peer's uid as the kernel tells it",
        run=on_keeper.keeper_stranger,
        got=lambda ran: "it was answered" if ran.facts["answered"] else "",
        ends=_DONE,
        without="daemons/peer",
    ),
    Attack(
        id="keeper-cache",
        tries="a volunteer that lays pipes, links, folders and devices where the keeper looks for sources",
        held_by="sources are opened without following links and without waiting, and must be plain files",
        run=on_keeper.keeper_cache,
        got=not_refused,
        ends=_DONE,
        without="daemons/open-source",
    ),
    Attack(
        id="wrong-door",
        tries="a user's token at the volunteers' door and the reverse, none, a beginning of one, a student's "
        "where more is needed",
        held_by="each door has tokens of its own, and a table of who may call what",
        run=on_doors.wrong_door,
        got=lambda ran: "; ".join(ran.facts["opened"]),
        ends=_DONE,
        without="daemons/volunteers-token",
    ),
    Attack(
        id="volunteers-token-for-users",
        tries="the same, where what opens is the users' door",
        held_by="each door has tokens of its own",
        run=on_doors.wrong_door,
        got=lambda ran: "; ".join(ran.facts["opened"]),
        ends=_DONE,
        without="daemons/users-token",
    ),
    Attack(
        id="claim-slots",
        tries="a volunteer with the true token that calls itself another, speaks for another's client, and "
        "reports ends and logs of another's tasks",
        held_by="a volunteer speaks for what it holds by the manager's books, under an id of its own",
        master="import time\ntime.sleep(600)\n",
        client="import time\ntime.sleep(600)\n",
        run=on_doors.claim_slots,
        got=lambda ran: "; ".join(ran.facts["got"]),
        ends=("cancelled",),
        without="daemons/attestation",
    ),
    Attack(
        id="huge-message",
        tries="a message of one gigabyte",
        held_by="a bound of messages, which is known before the message is read",
        run=on_users_door.huge_message,
        got=grew,
        ends=_DONE,
        without="daemons/message",
    ),
    Attack(
        id="endless-headers",
        tries="headers of a call that never end",
        held_by="gRPC's bound of metadata",
        run=on_users_door.endless_headers,
        got=grew,
        ends=_DONE,
        because="where that bound is taken away gRPC ends the connection all the same, after some 3 MB",
    ),
    Attack(
        id="slow-uploads",
        tries="uploads of one byte a second, and ones that never say what they are",
        held_by="a time until the header, and a least rate after that",
        run=on_users_door.slow_uploads,
        got=lambda ran: f"{ran.facts['open']} uploads stay open" if ran.facts["open"] else "",
        ends=_DONE,
        without="daemons/upload-rate",
    ),
    Attack(
        id="silent-connections",
        tries="9,000 connections that say nothing",
        held_by="a bound of connections, and a time until they must have said something",
        run=on_users_door.silent_connections,
        got=silent,
        ends=_DONE,
        without="daemons/handshake",
    ),
    Attack(
        id="idle-streams",
        tries="10,000 streams of one student, through one connection and through a hundred",
        held_by="a user's bounds of streams and of calls a second",
        run=on_users_door.idle_streams,
        got=lambda ran: f"{ran.facts['open']} streams" if ran.facts["open"] > _STREAMS else "",
        ends=_DONE,
        without="daemons/use",
    ),
    Attack(
        id="submit-flood",
        tries="jobs of one student without end",
        held_by="a user's quota of jobs that wait, and a queue that takes users in turn",
        run=on_users_door.submit_flood,
        got=lambda ran: (
            (f"{ran.facts['taken']} jobs wait" if ran.facts["taken"] > _QUOTA else "")
            or ("" if ran.facts["turn"] else "nobody else has a turn")
        ),
        ends=_DONE,
        without="daemons/quota",
    ),
    Attack(
        id="relay-abuse",
        tries="600 connections, 3,000 calls, messages of 4 MiB on a client's own socket",
        held_by="bounds of connections, calls and messages of that socket",
        client=script("relay"),
        run=outside.watching_volunteer,
        limits=limits(open_files=4096),
        got=outside.overloaded,
        ends=("",),
        without="daemons/relay",
    ),
)


@each(ATTACKS)
def test_attack_is_repelled(arena: Arena, attack: Attack) -> None:
    """It gets nothing, and all beside it is unharmed."""
    arena.assert_repelled(attack)


@each_shown(ATTACKS)
def test_attack_succeeds_without_its_defence(weak_arena: WeakArena, attack: Attack) -> None:
    """It gets what it is after where its defence is gone, so that it is a real attack."""
    weak_arena.assert_succeeds(attack)
