"""What most tests of the volunteer's core begin with."""

from __future__ import annotations

import pytest
from volunteer_core.harness import Harness


@pytest.fixture
def bench() -> Harness:
    """A volunteer with two slots, welcomed by one manager."""
    harness = Harness()
    harness.attach()
    return harness
