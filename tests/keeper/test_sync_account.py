"""What a sync server tells is an account, or ends it: it has parsed what tasks sent."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from syndicate.volunteer import frames
from syndicate.volunteer.keeper.sync_account import BadAccount, told
from syndicate.volunteer.local import BarrierEnd, BarrierTask, EventFrame, Stamp, TaskId
from syndicate.volunteer.sync.core.barriers import Standing
from syndicate.volunteer.sync.core.effects import Came, Initialised, Opened
from syndicate.volunteer.sync.core.rounds import Rounds
from syndicate.volunteer.sync.core.transitions import BarrierState
from syndicate.volunteer.sync.notices import account

TASK = TaskId("c1", 7, 1, "master")
NOW = Stamp("0" * 8, 1_000, 5_000)
NAMES = {"10.0.0.1": "master", "10.0.0.2": "slave-0"}


def a_document(name: bytes = b"start") -> dict[str, Any]:
    """As the server's own code tells it."""
    rounds = Rounds()
    rounds.take(Initialised(name, "10.0.0.1", 1, True, 1), 300)
    rounds.take(Came(name, "10.0.0.2", 0), 400)
    rounds.take(Opened(name, 3, {"10.0.0.1": 1, "10.0.0.9": 2}), 400)
    waits = Standing(name, BarrierState.GATHERING, -1, 0, {}, {"10.0.0.2": 1}, {"10.0.0.9": 3})
    return account(rounds.account(set(), 500), [(waits, 450)], 2, NAMES)


def line_of(document: object) -> bytes:
    """One line of JSON."""
    return json.dumps(document).encode()


def test_an_account_is_taken_as_it_was_told() -> None:
    """By the keeper's own clocks; who is no member is known by the address."""
    found = told(line_of(a_document()), 3, TASK, NOW)

    assert found is not None
    (ended,) = found.rounds
    assert (ended.barrier, ended.end, ended.error, ended.rounds) == ("start", BarrierEnd.OPENED, 3, 1)
    assert (ended.began_at.monotonic_ns, ended.began_at.utc_ns) == (300, 4_300)
    assert ended.tasks == (BarrierTask("master", 1), BarrierTask("10.0.0.9", 2))
    (waits,) = found.open
    assert (waits.remaining, waits.tasks, waits.missing) == (-1, (BarrierTask("slave-0", 1),), ("master",))
    assert waits.held == (BarrierTask("10.0.0.9", 3),)
    assert (found.slot, found.task, found.total, found.more_open) == (3, TASK, 1, 2)


def test_a_server_that_is_full_is_trouble() -> None:
    """In the keeper's own words, however often it says so."""
    found = told(line_of({**a_document(), "full": ["tcp", "barriers", *["udp"] * 1000]}), 0, TASK, NOW)

    assert found is not None
    assert found.trouble == (
        "the sync server has no room for more who wait over TCP: they get 76 until somebody leaves, and "
        "no room for more barriers: who names another gets 76 until one has ended, and "
        "no room for more who wait over UDP: they are not heard until somebody leaves"
    )


@pytest.mark.parametrize(
    ("why", "shown"),
    [
        ("RuntimeError('it is broken')", "\"RuntimeError('it is broken')\""),
        ("\n\x1b\ud800é" * 1000, "'\\n\\x1b\\ud800\\xe9"),
        (["x"], "['x']"),
    ],
)
def test_why_a_server_fails_is_told_in_one_printable_line(why: object, shown: str) -> None:
    """Its last words, of which nothing is believed either."""
    with pytest.raises(BadAccount) as failed:
        told(line_of({"event": "failed", "why": why}), 0, TASK, NOW)
    said = str(failed.value)
    assert said.startswith(f"the sync server failed, all its barriers are gone: {shown}")
    assert said.isascii() and said.isprintable() and len(said) < 300


def test_an_instant_of_the_future_is_now() -> None:
    """The server's clock is the keeper's: it can tell of the past alone."""
    document = a_document()
    document["rounds"][0]["ended_ns"] = 1 << 60

    found = told(line_of(document), 0, TASK, NOW)

    assert found is not None
    assert found.rounds[0].ended_at == NOW


def test_other_events_are_no_accounts() -> None:
    """They say nothing that the keeper asks for."""
    assert told(b'{"event":"ready","port":16534}', 0, TASK, NOW) is None


@given(st.binary(min_size=1, max_size=64))
def test_any_barriers_name_can_be_told(name: bytes) -> None:
    """Whatever bytes a task takes for one."""
    found = told(line_of(a_document(name)), 0, TASK, NOW)

    assert found is not None
    assert frames.encode(EventFrame(found))


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("rounds", 0, "barrier"), "a\nb"),
        (("rounds", 0, "end"), "exploded"),
        (("rounds", 0, "began_ns"), "0"),
        (("rounds", 0, "error"), 256),
        (("rounds", 0, "rounds"), -1),
        (("rounds", 0, "tasks"), {"../etc": 1}),
        (("rounds", 0, "tasks"), ["master"]),
        (("open", 0, "missing"), ["root"]),
        (("open", 0, "remaining"), 1 << 70),
        (("open", 0, "abandoned"), 1),
        (("open", 0, "held"), {"root": 1}),
        (("total",), 1.5),
        (("total",), True),
        (("open",), None),
        (("full",), ["everything"]),
        (("full",), "tcp"),
        (("event",), ["rounds"]),
    ],
)
def test_what_no_server_of_ours_tells_is_refused(where: tuple[str | int, ...], value: object) -> None:
    """One field is enough."""
    document: Any = a_document()
    place = document
    for step in where[:-1]:
        place = place[step]
    place[where[-1]] = value

    if where == ("event",):
        assert told(line_of(document), 0, TASK, NOW) is None
    else:
        with pytest.raises(BadAccount):
            told(line_of(document), 0, TASK, NOW)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.binary(max_size=60) | _JSON.map(line_of))
def test_garbage_is_refused(line: bytes) -> None:
    """By nothing but BadAccount."""
    try:
        told(line, 0, TASK, NOW)
    except BadAccount:
        return


@given(st.sampled_from(["rounds", "open", "total", "more_open"]), _JSON)
def test_damaged_accounts_are_refused_or_valid(field: str, value: object) -> None:
    """What passes can be told to the volunteer."""
    try:
        found = told(line_of({**a_document(), field: value}), 0, TASK, NOW)
    except BadAccount:
        return
    assert found is not None
    assert frames.encode(EventFrame(found))
