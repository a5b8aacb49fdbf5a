"""Clocks that are wrong in the ways real ones are: another zero, another speed, another idea of UTC."""

from __future__ import annotations

from dataclasses import dataclass

MS = 1_000_000
SECOND = 1_000_000_000
_UTC_AT_ZERO = 1_700_000_000 * SECOND


@dataclass(frozen=True, slots=True)
class Clock:
    """The boot-time clock of one boot of one machine, as a function of the world's true time.

    `zero_ns` is what it shows at true time 0, `rate_ppb` how much faster than true time it runs in parts per
    10⁹, `utc_skew_ns` how far its UTC is off.
    """

    boot_id: str
    zero_ns: int = 0
    rate_ppb: int = 0
    utc_skew_ns: int = 0

    def monotonic(self, true_ns: int) -> int:
        """What it shows at a true time."""
        return self.zero_ns + true_ns + true_ns * self.rate_ppb // SECOND

    def when(self, monotonic_ns: int) -> int:
        """The first true time at which it shows at least `monotonic_ns`; may lie in the past."""
        wanted = monotonic_ns - self.zero_ns
        guess = wanted * SECOND // (SECOND + self.rate_ppb) - 2
        while self.monotonic(guess) < monotonic_ns:
            guess += 1
        return guess

    def utc(self, true_ns: int) -> int:
        """What it holds for UTC at a true time."""
        return _UTC_AT_ZERO + true_ns + self.utc_skew_ns
