"""`make bench`: measures and prints one JSON object a line; `--check` also holds the figures to limits.toml.

Each figure is a median of interleaved runs, beside what it is compared to. Standard output holds nothing but
the lines; what goes on is told on standard error.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench import (
    barrier,
    chaos,
    checkers,
    faults,
    gang,
    history,
    memory,
    register,
    revive,
    sandbox,
    submit,
)
from tests.bench.figure import Figure

# What gives which figures; one measurement may give several.
MEASUREMENTS: tuple[tuple[tuple[str, ...], Callable[[], Iterator[Figure]]], ...] = (
    (faults.NAMES, faults.measure),
    (chaos.NAMES, chaos.measure),
    (gang.NAMES, gang.measure),
    (sandbox.NAMES, sandbox.measure),
    (revive.NAMES, revive.measure),
    (submit.NAMES, submit.measure),
    (memory.NAMES, memory.measure),
    (faults.NAMES_TLS, faults.measure_tls),
    (submit.NAMES_TLS, submit.measure_tls),
    (register.NAMES, register.measure),
    (barrier.NAMES, barrier.measure),
    (barrier.NAMES_SPREAD, barrier.measure_spread),
    (history.NAMES, history.measure),
    (checkers.NAMES, checkers.measure),
)


def excess(figure: Figure, limits: dict[str, dict[str, float]]) -> str:
    """Why a figure is past its limit; empty where it is not, or where it has none."""
    limit = limits.get(figure.name, {})
    ratio = figure.ratio
    if "value" in limit and figure.value > limit["value"]:
        return f"{figure.name}: {figure.value:.2f} {figure.unit} is more than {limit['value']:g}"
    if "floor" in limit and figure.value < limit["floor"]:
        return f"{figure.name}: {figure.value:.2f} {figure.unit} is less than {limit['floor']:g}"
    if "ratio" in limit and (ratio is None or ratio > limit["ratio"]):
        return f"{figure.name}: ratio {ratio} is more than {limit['ratio']:g}"
    if "least" in limit and (ratio is None or ratio < limit["least"]):
        return f"{figure.name}: ratio {ratio} is less than {limit['least']:g}"
    return ""


def chosen(word: str, known: list[str]) -> list[str]:
    """The figures that a word stands for: a name for its own, `kill4` for all that begin with `kill4_`."""
    return [word] if word in known else [name for name in known if name.startswith(f"{word}_")]


def main() -> int:
    """Exit status 1 where `--check` finds a figure past its limit, 2 for a name that is none."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", default="", help="names, separated by commas")
    parser.add_argument("--check", action="store_true", help="exit 1 where a figure is past its limit")
    wish = parser.parse_args()
    known = [name for names, _ in MEASUREMENTS for name in names]
    words = wish.only.split(",") if wish.only else known
    if strange := [word for word in words if not chosen(word, known)]:
        print(f"error: no figure {strange[0]!r}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    only = {name for word in words for name in chosen(word, known)}
    limits = tomllib.loads(Path(__file__).with_name("limits.toml").read_text())
    past = []
    for names, measure in MEASUREMENTS:
        if not set(names) & only:
            continue
        print(f"measuring {', '.join(names)}", file=sys.stderr)
        for figure in measure():
            if figure.name in only:
                print(json.dumps(figure.line()), flush=True)
                past.append(excess(figure, limits))
    for line in filter(None, past):
        print(f"past its limit: {line}", file=sys.stderr)
    return 1 if wish.check and any(past) else 0


if __name__ == "__main__":
    sys.exit(main())
