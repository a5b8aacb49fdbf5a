"""Sizes and shares of processors as people write them on a command line."""

from __future__ import annotations

import math
import re
from fractions import Fraction

from syndicate.cli import exit_codes
from syndicate.cli.failure import CliError

_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(?:([kmgt])(i?b)?|b)?", re.ASCII)
_POWERS = {"k": 1, "m": 2, "g": 3, "t": 4}
_MOST = (1 << 63) - 1
"""What the protocol's numbers hold."""


def parse_size(text: str, option: str) -> int:
    """Bytes of ``512M``, ``1.5G``, ``64KiB``, ``1048576``; ``500MB`` counts in thousands, as GNU's tools do.

    Raises CliError for anything else, for 0, and for parts of a byte.
    """
    match = _SIZE.fullmatch(text.strip().lower())
    if match is None:
        raise CliError(
            f"{option} {text!r} is no size", "Write bytes, or 512M, 1.5G, 64K.", code=exit_codes.USAGE
        )
    number, unit, suffix = match.groups()
    exact = Fraction(number) * (1000 if suffix == "b" else 1024) ** _POWERS.get(unit, 0)
    if exact > _MOST:
        raise CliError(f"{option} is too large", code=exit_codes.USAGE)
    if exact < 1:
        raise CliError(f"{option} must be above 0", code=exit_codes.USAGE)
    return int(exact)


def parse_count(number: int, option: str) -> int:
    """A number of things. Raises CliError for 0 and less, and for what the protocol does not hold."""
    if not 0 < number <= _MOST:
        raise CliError(
            f"{option} must be above 0" if number <= 0 else f"{option} is too large", code=exit_codes.USAGE
        )
    return number


def parse_cpus(number: float, option: str) -> int:
    """Thousandths of a processor of ``0.5``, ``2``. Raises CliError for 0 and less, and for no number."""
    millis = round(number * 1000) if math.isfinite(number) else 0
    if not 0 < millis <= _MOST:
        raise CliError(
            f"{option} {number:g} is no number of processors", "Write 2, or 0.5.", code=exit_codes.USAGE
        )
    return millis
