"""How long to try, and how long to pause between two tries. Pure: the clock and the dice are arguments."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential back-off with jitter. All times are seconds."""

    first_pause_s: float = 0.02
    longest_pause_s: float = 1.0
    per_try_s: float = 10.0
    """One try may wait so long: a relay that lost its manager mid-call would hold the call until the end."""
    retries: bool = True
    """False: the first failure is final."""

    def pause_s(self, tries: int, dice: float) -> float:
        """The pause after so many failed tries; ``dice`` is a random number in [0, 1)."""
        ceiling = min(self.longest_pause_s, self.first_pause_s * 2.0 ** min(tries - 1, 30))
        return ceiling * (0.5 + 0.5 * dice)

    def try_timeout_s(self, now: float, deadline: float) -> float:
        """How long the next try may take."""
        return max(0.001, min(self.per_try_s, deadline - now))
