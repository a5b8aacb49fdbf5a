"""The keeper's log under who provokes lines of it: some are written, the others counted."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from keeper.harness import SECONDS, KeeperProcess, network_instance
from syndicate.volunteer.keeper.log import Log
from syndicate.volunteer.log_valve import MOST_LINES, LogValve

_FLOOD = 300


class Clock:
    """A clock that goes where it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock of the test's own."""
    return Clock()


def _lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_valve_lets_some_of_a_kind_through_and_counts_the_others() -> None:
    """So many in a window, told once after it; the next window begins anew."""
    valve = LogValve(most=3, seconds=10.0)

    passed = [valve.passes("a", now=1.0) for _ in range(5)]

    assert passed == [True, True, True, False, False]
    assert (valve.held(now=10.9), valve.holds) == ([], True)
    assert (valve.held(now=11.0), valve.holds) == ([("a", 2)], False)
    assert valve.passes("a", now=12.0)


def test_valve_forgets_no_count_while_nobody_asks() -> None:
    """A window that follows takes over what the one before held."""
    valve = LogValve(most=1, seconds=10.0)

    passed = [valve.passes("a", now) for now in (0.0, 1.0, 20.0, 21.0)]

    assert passed == [True, False, True, False]
    assert valve.held(now=30.0) == [("a", 2)]


def test_valve_tells_of_a_flood_that_does_not_end() -> None:
    """The next window begins with the flood's next line: what the last one held is told all the same."""
    valve = LogValve(most=1, seconds=10.0)

    for tenth in range(250):
        valve.passes("a", now=tenth / 10)

    assert valve.held(now=25.0) == [("a", 2 * 99)]
    assert (valve.held(now=25.0), valve.holds) == ([], True)
    assert valve.held(now=30.0) == [("a", 49)]


def test_valve_bounds_the_kinds_that_it_remembers() -> None:
    """Who invents kinds shares one with all that came too late."""
    valve = LogValve(most=1)

    passed = sum(valve.passes(kind, now=0.0) for kind in range(10_000))

    assert passed < 5_000
    assert sum(more for _, more in valve.held(now=0.0, end=True)) == 10_000 - passed


def test_one_slots_flood_hides_no_other_slots_line(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """Each slot has its own count, told with its number."""
    log = Log(clock)

    for _ in range(1234 + MOST_LINES):
        log.warning("slot.trouble", slot=0, detail="x")
    log.warning("slot.trouble", slot=1, detail="y")
    clock.now += 61.0
    log.settle()

    lines = _lines(capsys.readouterr().err)
    assert [line["slot"] for line in lines] == [0] * MOST_LINES + [1, 0]
    last = lines[-1]
    assert (last["event"], last["of"], last["detail"]) == ("log.held_back", "slot.trouble", "and 1,234 more")


def test_long_fields_are_cut(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """A line is a line, whatever is in it."""
    Log(clock).warning("slot.trouble", slot=0, detail="x\n" * 1_000_000)

    text = capsys.readouterr().err
    assert len(text) < 4000
    assert len(text.splitlines()) == 1


def test_flood_of_bad_frames_writes_few_lines(folder: Path) -> None:
    """Connections that speak garbage are refused one by one, and told in some lines and a number."""
    keeper = KeeperProcess(folder, network_instance(), slots=1)
    keeper.start()
    try:
        for _ in range(_FLOOD):
            with socket.socket(socket.AF_UNIX) as link:
                link.settimeout(SECONDS)
                link.connect(str(keeper.socket))
                link.sendall(b"\xff" * 64)
                while link.recv(4096):  # until it is closed
                    pass
    finally:
        assert keeper.stop() == 0

    lines = _lines(keeper.errors.read_text())
    assert len([line for line in lines if line["event"] == "connection.malformed"]) == MOST_LINES
    (held,) = [line for line in lines if line["event"] == "log.held_back"]
    assert (held["of"], held["detail"]) == ("connection.malformed", f"and {_FLOOD - MOST_LINES} more")
