"""Times, rates, percentages and signals as people write them, made the numbers that go over the wire."""

from __future__ import annotations

import math
import re
from datetime import timedelta

Duration = timedelta | float | str
"""A timedelta, seconds, or a text such as ``"50ms"``, ``"1.5s"``, ``"2m"``."""

LEAST_LEASE_S = 0.001
MOST_LEASE_S = 86_400.0
_NAMES = (
    "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN "
    "TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS"
)
SIGNALS = {name: number for number, name in enumerate(_NAMES.split(), 1)}
"""Linux's numbers: those of the volunteers, whatever machine the caller has."""

_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"
_DURATION = re.compile(_NUMBER + r"\s*(ms|s|m|h)?")
_RATE = re.compile(_NUMBER + r"\s*(?:([kmg]?)(?:bit(?:/s)?|bps))?", re.IGNORECASE)
_PERCENT = re.compile(_NUMBER + r"\s*%?")
_OF_A_SECOND = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_OF_A_BIT = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}


def seconds(value: Duration, what: str) -> float:
    """A time in seconds. Raises ValueError for what is none, which names ``what``."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, str):
        found = _DURATION.fullmatch(value.strip())
        if found is None:
            raise ValueError(f"{what} is {value!r}: a time is written 50ms, 1.5s, 2m")
        return float(found[1]) * _OF_A_SECOND[found[2] or "s"]
    return _number(value, what, "seconds")


def lease_s(lease: Duration | None) -> float | None:
    """A lease in seconds; None for none. Raises ValueError for one that is not above 0, or too long."""
    if lease is None:
        return None
    value = seconds(lease, "lease")
    if not LEAST_LEASE_S <= value <= MOST_LEASE_S:
        raise ValueError(f"lease is {value:g} s: it must be {LEAST_LEASE_S:g} to {MOST_LEASE_S:,.0f} s")
    return value


def milliseconds(value: Duration, what: str) -> float:
    """A time in milliseconds. Raises ValueError."""
    # Rounded, so that 0.05 s is 50 ms and not 50.000000000000004.
    return round(seconds(value, what) * 1e3, 6)


def bits_a_second(value: float | str, what: str = "rate") -> int:
    """A rate in bits a second; a text may say ``"1Mbit"``. Raises ValueError."""
    if isinstance(value, str):
        found = _RATE.fullmatch(value.strip())
        if found is None:
            raise ValueError(f"{what} is {value!r}: a rate is written 500kbit, 1.5Mbit, 8000 (bits a second)")
        return round(float(found[1]) * _OF_A_BIT[(found[2] or "").lower()])
    return round(_number(value, what, "bits a second"))


def percent(value: float | str, what: str) -> float:
    """A percentage; a text may end in ``%``. Raises ValueError for what is no number."""
    if isinstance(value, str):
        found = _PERCENT.fullmatch(value.strip())
        if found is None:
            raise ValueError(f"{what} is {value!r}: a percentage is written 10 or 10%")
        return float(found[1])
    return _number(value, what, "percent")


def signal_number(value: int | str) -> int:
    """The number of a signal, also of ``"QUIT"`` and ``"SIGQUIT"``. Raises ValueError for an unknown name."""
    if not isinstance(value, str):
        return int(value)
    text = value.strip().upper().removeprefix("SIG")
    if text.isdecimal():
        return int(text)
    if text not in SIGNALS:
        raise ValueError(f"{value!r} is no signal: there are {', '.join(SIGNALS)}, and numbers")
    return SIGNALS[text]


def signal_name(number: int) -> str:
    """``QUIT``; a number where it has no name."""
    return next((name for name, known in SIGNALS.items() if known == number), str(number))


def _number(value: float, what: str, unit: str) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{what} is {value!r}: a finite number of {unit} is needed")
    return number
