"""The volunteer's log under who provokes lines of it: some are written, the others counted."""

from __future__ import annotations

import asyncio

import pytest
import structlog
from syndicate.volunteer.log_setup import Form, Restraint, form_for
from syndicate.volunteer.log_valve import MOST_LINES, WINDOW_SECONDS


class Bench:
    """A restraint with a clock that goes where it is told, and what it told."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.told: list[tuple[str, int]] = []
        self.restraint = Restraint(lambda event, more: self.told.append((event, more)), lambda: self.now)

    def writes(self, event: str) -> bool:
        """Whether a line of this event is written."""
        try:
            self.restraint(None, "warning", {"event": event})
        except structlog.DropEvent:
            return False
        return True


@pytest.fixture
def bench() -> Bench:
    """A restraint on a bench."""
    return Bench()


async def test_some_lines_of_an_event_are_written_and_the_others_counted(bench: Bench) -> None:
    """Each event for itself, and the count when its minute is over."""
    written = sum(bench.writes("relay.failed") for _ in range(1000))

    assert written == MOST_LINES
    assert bench.writes("link.down")
    bench.now += WINDOW_SECONDS
    bench.restraint.settle()
    assert bench.told == [("relay.failed", 1000 - MOST_LINES)]
    assert bench.writes("relay.failed")


async def test_count_is_told_by_a_timer_of_the_loop(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing more need be logged for it."""
    timers: list[float] = []
    monkeypatch.setattr(
        asyncio.get_running_loop(), "call_later", lambda seconds, *_: timers.append(seconds) or object()
    )

    for _ in range(100):
        bench.writes("relay.failed")

    assert timers == [WINDOW_SECONDS]
    bench.now += 1.0
    bench.restraint.settle()  # too early for it: it is armed again
    assert (bench.told, timers) == ([], [WINDOW_SECONDS] * 2)


def test_line_of_no_loop_is_counted_all_the_same(bench: Bench) -> None:
    """A thread's flood is held back as well."""
    assert sum(bench.writes("relay.failed") for _ in range(100)) == MOST_LINES


@pytest.mark.parametrize(
    ("wanted", "is_terminal", "form"),
    [
        ("auto", True, "console"),
        ("auto", False, "json"),
        ("json", True, "json"),
        ("console", False, "console"),
    ],
)
def test_the_form_follows_who_reads(wanted: Form, is_terminal: bool, form: str) -> None:
    """People at a terminal, or what keeps lines; and the operator's word before both."""
    assert form_for(wanted, is_terminal) == form
