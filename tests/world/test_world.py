"""The real cores of manager and volunteer keep their promises in 300 small unkind worlds.

A failing seed shows its last steps and the stories of its jobs. `python -m tests.world SEED` plays it again
and prints the whole trace; `python -m tests.world 0-2999` looks through more seeds than the tests do.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .profiles import PROFILES
from .run import simulate

SEEDS_PER_TEST = 10
TESTS = 30
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("first", range(0, TESTS * SEEDS_PER_TEST, SEEDS_PER_TEST))
def test_worlds_hold(first: int) -> None:
    """Ten worlds come to rest with every promise kept."""
    for seed in range(first, first + SEEDS_PER_TEST):
        simulate(seed)


@pytest.mark.parametrize("seed", range(len(PROFILES)))
def test_a_seed_is_a_whole_history(seed: int) -> None:
    """The same seed gives the same trace, step by step."""
    assert simulate(seed, whole_trace=True).digest == simulate(seed, whole_trace=True).digest


def test_hash_randomisation_changes_nothing() -> None:
    """A seed's trace is the same in interpreters that hash strings differently."""
    digests = set()
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-m", "tests.world", "--quiet", str(len(PROFILES) - 1)],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": _python_path()},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        digests.add(done.stdout)
    assert len(digests) == 1


def test_worlds_do_something() -> None:
    """The worlds are not empty: tasks run, jobs end in every way, and faults are answered."""
    simulations = [simulate(seed) for seed in range(3 * len(PROFILES))]
    states = {
        ended.record.state.name
        for s in simulations
        for m in s.managers.values()
        for ended in m.store.ended.values()
    }
    assert {"SUCCEEDED", "FAILED", "UNKNOWN", "CANCELLED", "TIMED_OUT"} <= states
    assert sum(s.truth.execs for s in simulations) > 20 * len(simulations)
    assert sum(reports.answered for s in simulations for reports in s.book.values()) > 5 * len(simulations)
    tasks = [task for s in simulations for task in s.truth.tasks.values()]
    assert any(paused for task in tasks for _, paused, _ in task.sufferings)
    assert any(full for task in tasks for _, _, full in task.sufferings)
    assert any(task.signals for task in tasks)
    assert any(network.reset for task in tasks for _, network in task.networks)
    assert any(network.links for task in tasks for _, network in task.networks)
    lines = [line for s in simulations for m in s.managers.values() for line in m.store.faults()]
    assert {"lease", "client-0", "job end"} <= {line.healed_by for line in lines}
    assert sum(s.suffering for s in simulations) > len(simulations)
    assert sum(s.replayed for s in simulations) > 20


def _python_path() -> str:
    return os.pathsep.join(
        str(ROOT / part) for part in ("manager", "volunteer", "client_api", "cli", "protos")
    )
