"""One measured figure, and how it is made of samples."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """A value in a unit, beside what it is compared to (`against`, of the same unit); `n` samples each."""

    name: str
    value: float
    unit: str
    p99: float | None
    against: str
    against_value: float | None
    n: int

    @property
    def ratio(self) -> float | None:
        """value / against_value."""
        return None if not self.against_value else self.value / self.against_value

    def line(self) -> dict[str, object]:
        """The JSON object of `make bench`."""
        return {
            "name": self.name,
            "value": rounded(self.value),
            "unit": self.unit,
            "p99": rounded(self.p99),
            "against": self.against,
            "against_value": rounded(self.against_value),
            "ratio": rounded(self.ratio),
            "n": self.n,
        }


def rounded(value: float | None) -> float | None:
    """Four significant digits: more would be noise."""
    return None if value is None else float(f"{value:.4g}")


def p99(samples: Sequence[float]) -> float:
    """The 99th percentile, by the nearest rank."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


def of(name: str, unit: str, samples: Sequence[float], against: str, others: Sequence[float]) -> Figure:
    """Medians of samples and of those they are compared to."""
    other = statistics.median(others) if others else None
    return Figure(name, statistics.median(samples), unit, p99(samples), against, other, len(samples))
