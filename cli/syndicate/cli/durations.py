"""Durations as people write them on a command line."""

from __future__ import annotations

import math
import re

from syndicate.cli import exit_codes
from syndicate.cli.failure import CliError

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(text: str, option: str) -> float:
    """Seconds of ``90``, ``90s``, ``5m``, ``1h30m``. Raises CliError for anything else, and for 0."""
    clean = text.strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", clean):
        seconds = float(clean)
    elif re.fullmatch(f"(?:{_PART.pattern})+", clean):
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(clean))
    else:
        raise CliError(
            f"{option} {text!r} is no duration", "Write seconds, or 90s, 5m, 1h30m.", code=exit_codes.USAGE
        )
    if not math.isfinite(seconds):
        raise CliError(f"{option} is too long", code=exit_codes.USAGE)
    if seconds <= 0:
        raise CliError(f"{option} must be above 0", code=exit_codes.USAGE)
    return seconds
