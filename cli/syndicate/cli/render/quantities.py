"""Numbers with units, in the fewest digits that say enough."""

from __future__ import annotations

from decimal import Decimal

from syndicate.v1 import common_pb2

_NS = 1_000_000_000
_EXACT = 1 << 53
"""Whole numbers below it are exact in a float."""


def bytes_text(count: int) -> str:
    """``812 B``, ``14.2 KB``, ``3.1 MB``."""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("KB", "MB", "GB"):
        value /= 1000
        if value < 999.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} TB"


def binary_text(count: int) -> str:
    """``512 MiB``, ``1.5 GiB``, ``1,000,000 B``: never rounded, since these are bounds."""
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count >= 1 << power and count * 10 % (1 << power) == 0:
            return f"{count / (1 << power):,.10g} {unit}"
    return f"{count:,} B"


def figure_text(value: float) -> str:
    """A figure of a client's: ``42310``, ``0.9712``, ``0.0003215``, ``1234.6``.

    A whole number, such as a seed, has all of its digits and nothing between them; of others some four say
    enough. JSON has the rest.
    """
    if value.is_integer() and abs(value) < _EXACT:
        return f"{value:.0f}"
    if 1000 <= abs(value) < _EXACT:
        return f"{value:.1f}"
    text = f"{value:.4g}"
    return format(Decimal(text), "f") if 1e-9 < abs(value) < 1 else text


def duration_text(seconds: float) -> str:
    """``19 ms``, ``15.4 s``, ``4 min 10 s``, ``2 h 5 min``, ``3 d 4 h``."""
    if seconds < 0.9995:
        millis = seconds * 1000
        return f"{millis:.1f} ms" if millis < 9.95 else f"{millis:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return _two_units(whole, (60, "min"), (1, "s"))
    if whole < 86400:
        return _two_units(whole, (3600, "h"), (60, "min"))
    return _two_units(whole, (86400, "d"), (3600, "h"))


def _two_units(seconds: int, large: tuple[int, str], small: tuple[int, str]) -> str:
    rest = seconds % large[0] // small[0]
    text = f"{seconds // large[0]} {large[1]}"
    return f"{text} {rest} {small[1]}" if rest else text


def age_text(seconds: float) -> str:
    """``5s``, ``12m``, ``3h``, ``4d``: the age of something in a table."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"


def seconds_between(start: common_pb2.Stamp, end: common_pb2.Stamp) -> float:
    """Seconds from one stamp to another: by the monotonic clock of one boot, else by the time of day."""
    if start.boot_id == end.boot_id:
        return (end.monotonic_ns - start.monotonic_ns) / _NS
    return (end.utc_ns - start.utc_ns) / _NS


def plural(count: int, one: str, many: str = "") -> str:
    """``1 process``, ``4 processes``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
