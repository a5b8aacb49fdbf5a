"""`syndicate-volunteer doctor`: what this machine lacks, and the command that mends it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .keeper.requirements import Requirement

ALL_MET = 0
SOMETHING_MISSING = 1


def run(
    as_json: bool,
    network: str | None,
    uid_base: int | None = None,
    config: Path | None = None,
    managers: list[str] | None = None,
    keeper_config: Path | None = None,
) -> int:
    """Tries everything that a keeper needs, and the way to the manager, and prints how it went."""
    # The keeper's side of the package is heavy, and nothing else here needs it.
    from .keeper.requirements import Level, unmet

    of_keeper, found = _found(network, uid_base, config, managers or [], keeper_config)
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


def _found(
    network: str | None,
    uid_base: int | None,
    config: Path | None,
    managers: list[str],
    keeper_config: Path | None,
) -> tuple[list[Requirement], list[Requirement]]:
    """What the keeper needs, and all there is: of what is installed, as far as nothing else is said."""
    from . import reach, room
    from .keeper.requirements import check, faults

    keeper, wrong = room.settings_of(keeper_config)
    network = network or (keeper.network if keeper else "fabric")
    if keeper is not None:
        uid_base = keeper.uid_base if uid_base is None else uid_base
        of_keeper = check(keeper.root_fs, network, uid_base, keeper.slots)
    else:
        of_keeper = check(network=network, uid_base=uid_base)
    of_keeper = [*wrong, *of_keeper, *faults(network)]
    settings = reach.settings_of(config, managers)
    if isinstance(settings, list):
        return of_keeper, [*of_keeper, *settings, room.check(keeper, network, "")]
    return of_keeper, [*of_keeper, room.check(keeper, network, settings.prefix), *reach.check(settings)]
