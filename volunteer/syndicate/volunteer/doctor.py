"""`syndicate-volunteer doctor`: what this machine lacks, and the command that mends it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ALL_MET = 0
SOMETHING_MISSING = 1


def run(
    as_json: bool,
    network: str,
    uid_base: int | None = None,
    config: Path | None = None,
    managers: list[str] | None = None,
) -> int:
    """Tries everything that a keeper needs, and the way to the manager, and prints how it went."""
    # The keeper's side of the package is heavy, and nothing else here needs it.
    from .keeper.requirements import Level, check, faults, unmet
    from .reach import check as reach

    of_keeper = [*check(network=network, uid_base=uid_base), *faults(network)]
    found = [*of_keeper, *reach(config, managers or [])]
    if as_json:
        lines = [
            {
                "name": one.name,
                "level": str(one.level),
                "detail": one.detail,
                "remedy": one.remedy,
                "isolation": one.yields,
            }
            for one in found
        ]
        sys.stdout.write(json.dumps(lines) + "\n")
    else:
        width = max((len(one.name) for one in found), default=0)
        for one in found:
            sys.stdout.write(f"{one.level!s:<9} {one.name:<{width}}  {one.detail}\n")
            if one.remedy:
                sys.stdout.write(f"{'':<9} {'':<{width}}  mend it:  {one.remedy}\n")
        if unmet(of_keeper) is not None:
            without = (
                "" if unmet(of_keeper, unsafe=True) else ", but with --unsafe, which isolates tasks less"
            )
            sys.stdout.write(f"\nA keeper does not start here{without}.\n")
    missing = any(one.level is Level.MISSING for one in found)
    return SOMETHING_MISSING if missing else ALL_MET
