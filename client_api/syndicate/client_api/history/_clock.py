"""How the clock of a history stands to the manager's, over the whole of its time.

A reading holds for certain at its own moment only: between readings two clocks drift apart, so what is known
of the offset widens with the distance to each reading, and what several readings say is intersected.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from syndicate.client_api.history._error import HistoryError

# Two crystals of ±100 ppm each, the worst that computers are sold with; the manager reckons with the same.
DRIFT_PPM = 200


@dataclass(frozen=True, slots=True)
class ClockReading:
    """At one moment a machine's clock minus the manager's was `offset_ns` ± `error_ns`."""

    boot_id: str
    """The machine."""
    at_ns: int
    """The moment, on that machine's clock."""
    offset_ns: int
    """Its clock minus the manager's."""
    error_ns: int
    """Never less than 0."""
    manager_boot_id: str = ""
    """The manager's machine; empty where it was not told."""


class Offsets:
    """The offsets that several readings of one machine leave possible at any moment."""

    def __init__(self, readings: Sequence[ClockReading], drift_ppm: int = DRIFT_PPM) -> None:
        """Raises HistoryError where there is no reading, or where two contradict each other."""
        if not readings:
            raise HistoryError("there is no reading of the clock")
        ordered = sorted(readings, key=lambda reading: reading.at_ns)
        self._ppm = drift_ppm
        self._at = [reading.at_ns for reading in ordered]
        self._low = [reading.offset_ns - reading.error_ns for reading in ordered]
        self._high = [reading.offset_ns + reading.error_ns for reading in ordered]
        count = len(ordered)
        # What each knows is carried to its neighbour, forwards and then backwards: so each knows what all do.
        for here, there in [(n, n - 1) for n in range(1, count)] + [
            (n, n + 1) for n in range(count - 2, -1, -1)
        ]:
            drift = self._drift(self._at[here] - self._at[there])
            self._low[here] = max(self._low[here], self._low[there] - drift)
            self._high[here] = min(self._high[here], self._high[there] + drift)
            if self._low[here] > self._high[here]:
                raise HistoryError(
                    f"the clock's reading at {self._at[here]} ns contradicts another one:"
                    f" at a drift of {drift_ppm} ppm it is off by {self._low[here] - self._high[here]} ns"
                )

    def at(self, local_ns: int) -> tuple[int, int]:
        """The least and the greatest offset at a moment of the machine's own clock."""
        right = bisect_right(self._at, local_ns)
        if right == 0:
            return self._from(0, local_ns)
        low, high = self._from(right - 1, local_ns)
        if right < len(self._at):
            later_low, later_high = self._from(right, local_ns)
            low, high = max(low, later_low), min(high, later_high)
        return low, high

    def _from(self, index: int, local_ns: int) -> tuple[int, int]:
        drift = self._drift(local_ns - self._at[index])
        return self._low[index] - drift, self._high[index] + drift

    def _drift(self, distance_ns: int) -> int:
        return -(-abs(distance_ns) * self._ppm // 1_000_000)
