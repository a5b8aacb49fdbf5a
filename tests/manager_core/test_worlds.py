"""Random worlds keep their promises, in whatever order things happen."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from manager_core.worlds import Worlds

TestWorlds = Worlds.TestCase
TestWorlds.settings = settings(
    max_examples=100,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
