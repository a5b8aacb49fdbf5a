"""Denied calls in the audit log: each kind is told, a flood of them makes few lines."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st
from syndicate.manager.core.audit import MOST_KINDS, WINDOW_NS, Denials
from syndicate.manager.core.user_events import Audited


def denial(peer: str = "10.0.0.9", subject: str = "", reason: str = "BAD_TOKEN") -> Audited:
    """One denied call."""
    return Audited("", "", peer, "Submit", subject, False, reason)


def test_the_first_is_told_at_once_and_the_rest_in_one_line() -> None:
    """Two lines for a thousand calls of one kind in a minute."""
    denials = Denials()
    first = denials.note(denial(subject="job 7"), 0)
    rest = [denials.note(denial(subject=f"job {n}"), n) for n in range(1, 1000)]
    assert first == [denial(subject="job 7")]
    assert all(lines == [] for lines in rest)
    assert denials.due(WINDOW_NS - 1) == []
    assert [line.subject for line in denials.due(WINDOW_NS)] == ["job 999, and 999 more like this"]
    assert denials.due(2 * WINDOW_NS) == []


def test_another_kind_is_told_too() -> None:
    """Another caller, method or reason is not hidden behind a flood."""
    denials = Denials()
    denials.note(denial(), 0)
    assert denials.note(denial(peer="10.0.0.10"), 1) == [denial(peer="10.0.0.10")]
    assert denials.note(denial(reason="TOKEN_EXPIRED"), 2) == [denial(reason="TOKEN_EXPIRED")]


def test_what_is_left_is_told_at_the_end() -> None:
    """A manager that stops loses no count."""
    denials = Denials()
    denials.note(denial(), 0)
    denials.note(denial(), 1)
    assert [line.subject for line in denials.rest()] == ["1 more like this"]
    assert denials.rest() == []


def calls_in(line: Audited) -> int:
    """How many calls a line is about."""
    found = re.search(r"([0-9,]+) more like this$", line.subject)
    return int(found[1].replace(",", "")) if found else 1


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 10**9)), max_size=400))
def test_lines_a_minute_are_bounded_and_none_is_lost(calls: list[tuple[int, int]]) -> None:
    """However many hosts try: at most two lines a kind and minute, and every call is in one of them."""
    denials, now, lines = Denials(), 0, []
    for host, gap in calls:
        now += gap
        lines += denials.note(denial(peer=f"host-{host}"), now)
    lines += denials.rest()
    minutes = now // WINDOW_NS + 1
    assert len(lines) <= 2 * (MOST_KINDS + 1) * minutes
    counted = sum(
        int(line.subject.split("and ")[-1].split(" more")[0].replace(",", ""))
        if "more like" in line.subject
        else 1
        for line in lines
    )
    assert counted == len(calls)
