"""`make bench` and `make bench-check`: what is printed, what is chosen, what is past its limit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench import __main__ as bench
from tests.bench.figure import Figure, of, p99
from tests.support.cluster import ROOT
from tests.support.make import dry_run

KEYS = ["name", "value", "unit", "p99", "against", "against_value", "ratio", "n"]
LIMITS = tomllib.loads(Path(bench.__file__).with_name("limits.toml").read_text())
FIGURE = Figure("disconnect", 2.0, "ms", 3.0, "empty call", 1.0, 100)

Run = Callable[..., int]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `make bench` with measurements that give these figures."""

    def run(figures: list[Figure], *words: str) -> int:
        def measure() -> Iterator[Figure]:
            yield from figures

        names = tuple(figure.name for figure in figures)
        monkeypatch.setattr(bench, "MEASUREMENTS", ((names, measure),))
        monkeypatch.setattr(sys, "argv", ["bench", *words])
        return bench.main()

    return run


def test_each_line_is_one_object_of_exactly_these_keys(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output holds nothing else, and `ratio` is value / against_value."""
    alone = Figure("manager_rss", 86.4321, "MB", None, "", None, 1)
    assert run([FIGURE, alone]) == 0
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert list(first) == list(second) == KEYS
    assert first == dict(zip(KEYS, ("disconnect", 2.0, "ms", 3.0, "empty call", 1.0, 2.0, 100), strict=True))
    assert second == dict(zip(KEYS, ("manager_rss", 86.43, "MB", None, "", None, None, 1), strict=True))


def test_a_figure_is_the_median_with_its_99th_percentile() -> None:
    """Of its samples and of those it stands beside, each for itself."""
    figure = of("x", "ms", [5.0, 1.0, 100.0], "others", [2.0, 4.0, 60.0, 0.0])
    assert (figure.value, figure.p99, figure.against_value, figure.n) == (5.0, 100.0, 3.0, 3)
    assert p99([float(n) for n in range(1, 201)]) == 199.0


def test_only_measures_and_prints_what_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A measurement without a figure that is wanted is not run; a name stands for all that begin with it."""
    ran = []

    def measuring(*names: str) -> tuple[tuple[str, ...], Callable[[], Iterator[Figure]]]:
        def measure() -> Iterator[Figure]:
            ran.append(names)
            yield from (replace(FIGURE, name=name) for name in names)

        return names, measure

    several = (measuring("ping", "kill4_keeper", "kill4_caller"), measuring("gang4"), measuring("submit64"))
    monkeypatch.setattr(bench, "MEASUREMENTS", several)
    monkeypatch.setattr(sys, "argv", ["bench", "--only", "kill4,gang4"])
    assert bench.main() == 0
    printed = [json.loads(line)["name"] for line in capsys.readouterr().out.splitlines()]
    assert printed == ["kill4_keeper", "kill4_caller", "gang4"]
    assert ran == [("ping", "kill4_keeper", "kill4_caller"), ("gang4",)]


def test_a_name_stands_for_its_figure_alone() -> None:
    """`disconnect` is the one in clear text; that with TLS is asked for by its own name."""
    known = [name for names, _ in bench.MEASUREMENTS for name in names]
    assert bench.chosen("disconnect", known) == ["disconnect"]
    assert bench.chosen("submit64", known) == ["submit64"]
    assert bench.chosen("submit64_tls", known) == ["submit64_tls"]
    assert bench.chosen("kill4", known) == ["kill4_keeper", "kill4_caller", "kill4_calls"]


@pytest.mark.parametrize("only", ["disconect", "disconnect,", "disc", "disconnect,kill5"])
def test_a_name_that_is_none_is_refused(run: Run, capsys: pytest.CaptureFixture[str], only: str) -> None:
    """Before anything is measured; the line tells the names that there are."""
    assert run([FIGURE], "--only", only) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("error: no figure ") and "disconnect" in said.err
    assert "measuring" not in said.err


@pytest.mark.parametrize(
    ("figure", "past"),
    [
        (replace(FIGURE, value=2.5), ""),
        (replace(FIGURE, value=2.51), "disconnect: ratio 2.51 is more than 2.5"),
        (replace(FIGURE, against_value=None), "disconnect: ratio None is more than 2.5"),
        (replace(FIGURE, name="kill4_keeper", value=5.0), ""),
        (replace(FIGURE, name="kill4_keeper", value=5.01), "kill4_keeper: 5.01 ms is more than 5"),
        (replace(FIGURE, name="submit64", value=0.6), ""),
        (replace(FIGURE, name="submit64", value=0.59), "submit64: ratio 0.59 is less than 0.6"),
        (replace(FIGURE, name="submit64", against_value=None), "submit64: ratio None is less than 0.6"),
        (replace(FIGURE, name="disconnect_tls", value=2.51), "disconnect_tls: ratio 2.51 is more than 2.5"),
        (replace(FIGURE, name="submit64_tls", value=0.59), "submit64_tls: ratio 0.59 is less than 0.6"),
        (replace(FIGURE, name="history_events", value=1e5, against_value=4e5), ""),
        (
            replace(FIGURE, name="history_events", value=99_999.0, unit="events/s", against_value=1e5),
            "history_events: 99999.00 events/s is less than 100000",
        ),
        (
            replace(FIGURE, name="history_events", value=2e5, against_value=1e6),
            "history_events: ratio 0.2 is less than 0.25",
        ),
        (replace(FIGURE, name="barrier_rounds", value=2500.0), ""),
        (
            replace(FIGURE, name="barrier_rounds", value=2499.0),
            "barrier_rounds: 2499.00 ms is less than 2500",
        ),
        (replace(FIGURE, name="something", value=1e9), ""),
    ],
)
def test_each_kind_of_limit_is_held(figure: Figure, past: str) -> None:
    """At the limit is within it; a ratio that is not there holds none."""
    assert bench.excess(figure, LIMITS) == past


def test_check_ends_with_1_past_a_limit(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """One figure past its limit is enough; all are printed all the same. Without `--check` none is held."""
    figures = [replace(FIGURE, value=9.0), replace(FIGURE, name="gang4", value=29.0)]
    assert run(figures, "--check") == 1
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 2 and "past its limit: disconnect" in said.err
    assert run(figures) == 0
    assert run(figures, "--check", "--only", "gang4") == 0


def test_the_limits_are_those_that_were_set() -> None:
    """Each limit has a figure; each figure a limit, but those which are there to compare with."""
    assert LIMITS == {
        "disconnect": {"ratio": 2.5},
        "reconnect": {"ratio": 2.5},
        "kill4_keeper": {"value": 5.0},
        "kill4_caller": {"value": 12.0},
        "gang4": {"value": 30.0},
        "sandbox": {"value": 6.0},
        "revive_empty": {"value": 15.0},
        "submit64": {"least": 0.6},
        "manager_rss": {"value": 120.0},
        "volunteer_rss": {"value": 120.0},
        "disconnect_tls": {"ratio": 2.5},
        "submit64_tls": {"least": 0.6},
        "register_mtls": {"value": 2.0},
        "disconnect20": {"ratio": 2.0},
        "disconnect20_p99": {"ratio": 3.0},
        "disconnect20_answered": {"ratio": 3.0},
        "partition20": {"ratio": 3.0},
        "pause": {"ratio": 2.5},
        "pause_answered": {"ratio": 3.0},
        "barrier1000": {"value": 20.0},
        "barrier10000": {"value": 250.0},
        "barrier_memory": {"value": 4096.0},
        "barrier_rounds": {"floor": 2500.0},
        "barrier_spread": {"value": 5.0},
        "history_events": {"floor": 100000, "least": 0.25},
        "checker_good": {"value": 0.5},
        "checker_bad": {"value": 1.0},
        "checker_exploding": {"ratio": 1.1},
    }
    compared = {"kill4_calls", "disconnect20_p99_of_median"}
    assert {*LIMITS} | compared == {name for names, _ in bench.MEASUREMENTS for name in names}


def test_make_passes_only_on() -> None:
    """`make bench ONLY=a,b`, and the same with limits."""
    for target, words in (("bench", "--only a,b"), ("bench-check", "--check --only a,b")):
        done = dry_run(target, "-o", "setup", "-o", "system-packages", "ONLY=a,b")
        assert done.stdout.splitlines()[-1] == f".venv/bin/python -m tests.bench {words}"


@pytest.mark.system
def test_a_figure_is_measured_for_real() -> None:
    """The manager's memory, on a cluster that the command brings up and takes down again."""
    command = [sys.executable, "-m", "tests.bench", "--check", "--only", "manager_rss"]
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    figure = json.loads(line)
    assert list(figure) == KEYS
    assert (figure["name"], figure["unit"]) == ("manager_rss", "MB") and 20 < figure["value"] <= 120
