"""Plays seeds: `python -m tests.world SEED [SEED | FIRST-LAST …]`; a single seed with its whole trace."""

from __future__ import annotations

import argparse
import sys
import time

from .run import Simulation
from .world import Violation


def main() -> int:
    """Exit status 0 when every seed held, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.world", description=__doc__)
    parser.add_argument("seeds", nargs="+", help="a seed, or FIRST-LAST")
    parser.add_argument("--quiet", action="store_true", help="no trace, only the digest")
    options = parser.parse_args()
    seeds = [seed for text in options.seeds for seed in _seeds(text)]
    if len(seeds) == 1:
        return _one(seeds[0], options.quiet)
    failed = []
    began = time.perf_counter()
    for seed in seeds:
        try:
            Simulation(seed).run()
        except Violation as violation:
            failed.append(seed)
            _say("\n".join(str(violation).splitlines()[:2]))
    _say(f"{len(seeds)} seeds, {len(failed)} failed in {time.perf_counter() - began:.1f} s: {failed}")
    return 1 if failed else 0


def _one(seed: int, quiet: bool) -> int:
    simulation = Simulation(seed, whole_trace=True)
    try:
        simulation.run()
    except Violation as violation:
        if not quiet:
            _say(simulation.world.trace.tail(1_000_000))
        sys.stderr.write(f"{violation}\n")
        return 1
    if not quiet:
        _say(simulation.world.trace.tail(1_000_000))
    _say(f"seed {seed} held: {simulation.world.steps} steps, trace {simulation.world.trace.digest()}")
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _seeds(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


if __name__ == "__main__":
    sys.exit(main())
