"""Denied calls in the audit log: each kind is told, a flood of them makes few lines."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from syndicate.manager.core.audit import KINDS_A_DAY, MOST_KINDS, MOST_SUBJECTS, WINDOW_NS, Denials
from syndicate.manager.core.user_events import Audited


def denial(
    peer: str = "10.0.0.9",
    subject: str = "",
    reason: str = "BAD_TOKEN",
    who: str = "",
    method: str = "Submit",
) -> Audited:
    """One denied call."""
    return Audited(who, "", peer, method, subject, False, reason)


def test_the_first_is_told_at_once_and_the_rest_in_one_line() -> None:
    """Two lines for a thousand calls of one kind in a minute."""
    denials = Denials()
    first = denials.note(denial(subject="job 7"), 0)
    rest = [denials.note(denial(subject=f"job {n}"), n) for n in range(1, 1000)]
    assert first == [denial(subject="job 7")]
    assert all(lines == [] for lines in rest)
    assert denials.due(WINDOW_NS - 1) == []
    (line,) = denials.due(WINDOW_NS)
    assert line.subject.startswith("job 999, and 999 more like this, also of job 1, ")
    assert denials.due(2 * WINDOW_NS) == []


@pytest.mark.parametrize(
    ("tried", "told"),
    [
        (["job 8"], "job 8, and 1 more like this"),
        (["job 8"] * 40, "job 8, and 40 more like this"),
        (["job 8", "job 9"], "job 9, and 2 more like this, also of job 8"),
        (["job 9", "", "job 8", "job 8"], "job 8, and 4 more like this, also of job 9"),
        (["job 9", ""], "2 more like this, also of job 9"),
        (
            [f"job {n}" for n in (4, 3, 2, 4, 1, 9)],
            "job 9, and 6 more like this, also of job 4, job 3, job 2 and 1 other",
        ),
        (
            [f"job {n}" for n in range(MOST_SUBJECTS - 1)],
            f"job {MOST_SUBJECTS - 2}, and {MOST_SUBJECTS - 1} more like this, "
            f"also of job 0, job 1, job 2 and {MOST_SUBJECTS - 5} others",
        ),
        (
            [f"job {n}" for n in range(5000)],
            "job 4999, and 5,000 more like this, "
            f"also of job 0, job 1, job 2 and at least {MOST_SUBJECTS - 3} others",
        ),
    ],
)
def test_what_is_told_in_one_line_is_told_of_what(tried: list[str], told: str) -> None:
    """Some by name, the others by their number; however many there are the line is short, and one line."""
    denials = Denials()
    denials.note(denial(subject="job 7"), 0)
    assert [line for subject in tried for line in denials.note(denial(subject=subject), 1)] == []
    assert denials.due(WINDOW_NS) == [denial(subject=told)]


def test_who_tries_one_job_after_another_does_not_hide_what_else_he_tries() -> None:
    """Another method is a kind of its own, as long as there is room for kinds: jobs take none of it."""
    denials = Denials()
    for number in range(2 * MOST_KINDS):
        denials.note(denial(who="alice", subject=f"job {number}", method="GetJob"), number)
    other = denial(who="alice", method="PutUsers", reason="ROLE_TOO_LOW")
    assert denials.note(other, 2 * MOST_KINDS) == [other]


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


def test_nobody_hides_what_somebody_else_was_denied() -> None:
    """Whoever has no credential makes as many kinds as he likes; a user's denial is told with the name."""
    denials = Denials()
    for host in range(2 * MOST_KINDS):
        denials.note(denial(peer=f"host-{host}"), host)
    theirs = denial(who="alice", reason="ROLE_TOO_LOW")
    assert denials.note(theirs, 2 * MOST_KINDS) == [theirs]


def test_what_is_of_too_many_kinds_still_tells_whose_it_is() -> None:
    """The line has no method and no host, but the caller."""
    denials = Denials()
    for number in range(MOST_KINDS):
        denials.note(denial(who="alice", method=f"m{number}"), 0)
    (line,) = denials.note(denial(who="alice", method="another"), 1)
    assert (line.who, line.peer, line.method, line.subject) == ("alice", "", "", "of many kinds")


def test_nobody_pushes_others_out_of_the_log() -> None:
    """Hosts without end, all day long: no more lines than a student's calls make, and two a minute."""
    denials, lines, minutes = Denials(), 0, 24 * 60
    for minute in range(minutes):
        for host in range(MOST_KINDS + 1):
            for _ in range(2):
                lines += len(denials.note(denial(peer=f"{minute}-{host}"), minute * WINDOW_NS))
    lines += len(denials.rest())
    assert lines <= 2 * 2 * KINDS_A_DAY + 2 * minutes


def calls_in(line: Audited) -> int:
    """How many calls a line is about."""
    found = re.search(r"([0-9,]+) more like this\b", line.subject)
    return int(found[1].replace(",", "")) if found else 1


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 10**9)), max_size=400))
def test_lines_a_minute_are_bounded_and_none_is_lost(calls: list[tuple[int, int]]) -> None:
    """However many hosts try: at most two lines a kind and minute, and every call is in one of them."""
    denials, now, lines = Denials(), 0, []
    for host, gap in calls:
        now += gap
        lines += denials.note(denial(peer=f"host-{host}", subject=f"job {gap}"), now)
    lines += denials.rest()
    minutes = now // WINDOW_NS + 1
    assert len(lines) <= 2 * (MOST_KINDS + 1) * minutes
    assert sum(map(calls_in, lines)) == len(calls)
