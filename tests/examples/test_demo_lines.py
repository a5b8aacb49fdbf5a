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


def test_what_was_found(demo: ModuleType) -> None:
    """Numbers where something was lost, `no` where nothing was."""
    names = demo.SHOWS[0].because
    found = {"stale_reads": 500.0, "lost_writes": 12.0}
    assert demo.counted(found, names) == "500 stale reads, 12 lost writes"
    assert demo.counted({}, names) == "no stale read, no lost write"


def test_the_demo_needs_root(
    demo: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another user is told so at once, and nothing is made."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert demo.main() == 1
    assert capsys.readouterr().err == "error: the demo needs root: sudo make demo\n"
