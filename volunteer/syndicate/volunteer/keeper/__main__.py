"""`syndicate-keeper`: settles its settings, checks its needs, and becomes the serving process.

The settings library and what the checks use take more memory than all the rest, and are needed once: so the
serving process is another program, exec'd in the same process.
"""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Sequence
from importlib.metadata import version

from pydantic import ValidationError
from pydantic_settings import SettingsError

from ..toml_lines import wrong
from . import rebooting
from .errors import one_line
from .requirements import Level, Requirement, check, lacking, unmet
from .settings import KeeperSettings, config_of, load, stands_at
from .trials import OK, try_faults
from .usage import HELP

EXIT_UNMET = 78  # EX_CONFIG of sysexits.h: an operator must mend something, a restart does not help

# The slots' threads allocate little; an arena for each would keep what it once had.
_MEMORY = {"MALLOC_ARENA_MAX": "2", "MALLOC_TRIM_THRESHOLD_": "131072"}


def main(argv: Sequence[str] | None = None) -> int:
    """Check and become the keeper; returns only the exit status of what is not met."""
    given = sys.argv[1:] if argv is None else argv
    if "-h" in given or "--help" in given:
        sys.stdout.write(HELP)
        return 0
    if "--version" in given:
        sys.stdout.write(f"syndicate-keeper {version('syndicate-cluster')}\n")
        return 0
    try:
        settings = load(given)
    except ValidationError as error:
        for mistake in error.errors():
            field = "-".join(map(str, mistake["loc"])).replace("_", "-")
            said = wrong(mistake, KeeperSettings.model_fields, "SYNDICATE_KEEPER_")
            where = stands_at(given, mistake["loc"])
            name = f"{where}{'.'.join(map(str, mistake['loc']))}" if where else f"--{field}"
            _complain(f"{name}: {said}" if field else said, "all settings: syndicate-keeper --help")
        return EXIT_UNMET
    except SettingsError as error:
        # Of a setting that is a list, in the environment, whose text is JSON; its name stands in quotes.
        named = str(error).split('"')[1:2] or ["…"]
        _complain(f"SYNDICATE_KEEPER_{named[0].upper()}: it is no JSON, as a list is to be there", "")
        return EXIT_UNMET
    except (tomllib.TOMLDecodeError, OSError) as error:
        _complain(f"{config_of(given)}: {error}", "")
        return EXIT_UNMET
    if settings.after_job == "reboot" and not rebooting.is_possible():
        _complain("after_job: this machine was not booted by systemd, which would boot it again", "")
        return EXIT_UNMET
    requirements = check(settings.root_fs, settings.network, settings.uid_base, settings.slots)
    missing = unmet(requirements, settings.unsafe)
    if missing is not None:
        _complain(f"{missing.name}: {missing.detail}", missing.remedy)
        return EXIT_UNMET
    degraded = [each for each in requirements if each.level is Level.DEGRADED]
    for each in degraded:
        _complain(f"{each.name}: {each.detail}", each.remedy)
    without = lacking(requirements)
    if without:
        _warn(without)
    tried = try_faults()
    config = settings.settled(
        tuple(each.name for each in degraded),
        tuple(each.name for each in without),
        tuple(name for name, said in tried.items() if said == OK),
        tuple((name, said) for name, said in tried.items() if said != OK),
    )
    sys.stderr.flush()
    # -P: a root process must not import from the folder that it happens to be started in.
    serve = [sys.executable, "-P", "-m", "syndicate.volunteer.keeper.serve", config.encode()]
    os.execve(sys.executable, serve, {**os.environ, **_MEMORY})  # noqa: S606 - a list made here, no shell is meant


def _warn(without: list[Requirement]) -> None:
    names = ", ".join(each.name for each in without)
    sys.stderr.write(f"syndicate-keeper: UNSAFE: this machine lacks {names}\n")
    sys.stderr.write("  Its tasks can harm it and each other: run none that you do not trust.\n")
    sys.stderr.write("  What mends it:  syndicate-volunteer doctor\n")


def _complain(what: str, remedy: str) -> None:
    sys.stderr.write(f"syndicate-keeper: {one_line(what)}\n")
    if remedy:
        sys.stderr.write(f"  {remedy}\n")


if __name__ == "__main__":
    sys.exit(main())
