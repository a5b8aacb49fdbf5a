"""What `make demo` prints and leaves out."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo.py"


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    """The demo as a module; nothing of it runs by that."""
    spec = importlib.util.spec_from_file_location("syndicate_demo", DEMO)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_lines_of_a_job(demo: ModuleType) -> None:
    """Each has the job's name before it; Redis's own log and advice of no use later are left out."""
    redis = demo.SHOWS[0]
    warning = "  0.03 s   master    | 7:C 21 Nov 2026 08:00:00.000 # WARNING Memory overcommit"

    assert demo.shown(redis, 1, warning) == ""
    assert demo.shown(redis, 1, "  0.31 s   client-0  | 3 keys") == "redis      0.31 s   client-0  | 3 keys"
    assert demo.shown(redis, 1, "job 1      FAILED  fail  3 s  syndicatectl show 1") == (
        "redis    job 1      FAILED  fail  3 s"
    )


def test_a_verdict_as_expected(demo: ModuleType) -> None:
    """The first line of what the checkers said stands there whole."""
    text = 'false: linearizable: get stale returned "old" (process slave-0, 12 ms) after …\n  more'

    right, line = demo.judged(demo.SHOWS[0], {"outcome": "fail", "text": text})

    assert right
    assert line == f"redis    as expected: {text.splitlines()[0]}"


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ({"outcome": "fail", "text": "false: linearizable: get a returned 1"}, "false: linearizable: get a"),
        ({"outcome": "unknown", "text": "unknown: tested: vacuous"}, "unknown: tested: vacuous"),
        ({}, "no verdict"),
    ],
)
def test_another_verdict_than_expected(demo: ModuleType, result: dict[str, str], told: str) -> None:
    """What was expected is named beside what came; a job without a result has no verdict."""
    right, line = demo.judged(demo.SHOWS[1], result)

    assert not right
    assert line.startswith(f"raft-kv  not as expected, which is 'true:': {told}")


def test_the_demo_needs_root(
    demo: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another user is told so at once, and nothing is made."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert demo.main() == 1
    assert capsys.readouterr().err == "error: the demo needs root: sudo make demo\n"
