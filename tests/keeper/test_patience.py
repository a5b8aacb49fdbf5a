"""Waiting that is not cut short by a machine that stood still."""

from __future__ import annotations

import pytest
from syndicate.volunteer.keeper.patience import Patience


class Clock:
    """A clock that goes where it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_looks_in_time_use_up_what_passed() -> None:
    """Then it is a deadline as any other."""
    clock = Clock()
    patience = Patience(5.0, 0.25, clock)

    found = []
    for _ in range(3):
        clock.now += 0.1
        found.append(patience.left())

    assert found == pytest.approx([4.9, 4.8, 4.7])


def test_a_machine_that_stood_still_uses_up_little() -> None:
    """However late a look comes; and who goes on looking is told the end all the same."""
    clock = Clock()
    patience = Patience(1.0, 0.25, clock)

    found = []
    for _ in range(4):
        clock.now += 0.3
        found.append(patience.left())

    assert found == pytest.approx([0.75, 0.5, 0.25, 0.0])


def test_no_wait_lasts_much_longer_than_was_meant() -> None:
    """One that is always late ends by the clock: somebody waits for it who has a bound too."""
    clock = Clock()
    patience = Patience(5.0, 0.25, clock)

    found = []
    for _ in range(3):
        clock.now += 4.0
        found.append(patience.left() > 0)

    assert found == [True, True, False]
