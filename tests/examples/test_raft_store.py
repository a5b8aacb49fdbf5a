"""The replicated state of the Raft example: a repeated write happens once."""

from __future__ import annotations

import pytest
from raftkv import store
from raftkv.store import Store
from raftkv.values import Entry, command, noop


def _do(state: Store, client: str, seq: int, value: str, op: str = "append") -> object:
    return state.apply(Entry(1, command(client, seq, op, "k", value)))


def test_values_of_a_key_keep_their_order() -> None:
    """Appends add up; a put replaces them."""
    state = Store()
    _do(state, "c", 1, "a")
    _do(state, "c", 2, "b")
    before = list(state.get("k"))

    _do(state, "c", 3, "z", op="put")

    assert before == ["a", "b"]
    assert state.get("k") == ["z"]


def test_a_repeated_write_gets_its_first_answer() -> None:
    """The same request of a session is done once, whatever came between."""
    state = Store()
    first = _do(state, "c", 1, "a")
    _do(state, "d", 1, "b")

    again = _do(state, "c", 1, "a")

    assert again == first == {"ok": True, "n": 1}
    assert state.get("k") == ["a", "b"]


def test_an_older_write_than_the_last_is_refused() -> None:
    """A write that was given up and arrives late does not undo the order of its session."""
    state = Store()
    _do(state, "c", 2 - 1, "a")
    _do(state, "c", 2, "b")

    assert _do(state, "c", 1, "a") == {"ok": False, "error": "superseded"}
    assert state.get("k") == ["a", "b"]


def test_a_session_that_was_forgotten_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound the idlest session goes; its later writes are refused, not done twice."""
    monkeypatch.setattr(store, "MAX_SESSIONS", 2)
    state = Store()
    for client in ("a", "b", "c"):
        _do(state, client, 1, client)

    assert _do(state, "a", 2, "x") == {"ok": False, "error": "no session"}
    assert state.get("k") == ["a", "b", "c"]


def test_elections_are_what_leaders_committed() -> None:
    """Each leader's first entry names its term."""
    state = Store()
    for term, leader in ((1, "a"), (4, "b")):
        state.apply(Entry(term, noop(leader)))

    assert state.elections == [(1, "a"), (4, "b")]
