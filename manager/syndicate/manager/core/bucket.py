"""A token bucket that keeps what was taken, so that its rate and size may change while it is in use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Bucket:
    """What was taken and has not come back yet, as of `at_ns` on any one monotonic clock."""

    used: float = 0.0
    at_ns: int = 0

    def left(self, now_ns: int, per_s: float, burst: float) -> float:
        """How much may be taken now."""
        self._settle(now_ns, per_s)
        return max(burst - self.used, 0.0)

    def take(self, now_ns: int, per_s: float, burst: float, amount: float = 1.0) -> float:
        """Takes an amount if there is as much; else takes nothing, and says in how many seconds there is."""
        self._settle(now_ns, per_s)
        missing = self.used + amount - burst
        if missing <= 1e-9:  # what a sum of fractions is off by
            self.used += amount
            return 0.0
        return missing / per_s if per_s > 0 else float("inf")

    def owe(self, now_ns: int, per_s: float, burst: float, amount: float) -> float:
        """Takes an amount in any case, and says how many seconds to wait before the next."""
        self._settle(now_ns, per_s)
        self.used += amount
        return max(self.used - burst, 0.0) / per_s

    def _settle(self, now_ns: int, per_s: float) -> None:
        passed_s = max(now_ns - self.at_ns, 0) / 1e9
        self.used = max(self.used - passed_s * per_s, 0.0)
        self.at_ns = max(now_ns, self.at_ns)
