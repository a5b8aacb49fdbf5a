"""Counts and histograms in plain numbers: one thread counts, readers may be a moment late."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field

# Distinct labels of one count; what comes beyond them counts as OTHER.
MOST_LABELS = 64
OTHER = "OTHER"


@dataclass(slots=True, eq=False)
class Histogram:
    """How often what was seen; `bounds` ascend and belong to their buckets, the last is for all above."""

    bounds: tuple[float, ...]
    counts: list[int] = field(init=False)
    total: float = 0.0

    def __post_init__(self) -> None:
        """Nothing was seen."""
        self.counts = [0] * (len(self.bounds) + 1)

    def see(self, value: float) -> None:
        """Counts one value; a negative one, as of clocks that differ, as 0."""
        value = max(value, 0.0)
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def seen(self) -> int:
        """How many values were seen."""
        return sum(self.counts)


@dataclass(slots=True, eq=False)
class Count:
    """Whole numbers by label."""

    by_label: dict[str, int] = field(default_factory=dict)

    def add(self, label: str, number: int = 1) -> None:
        """Counts for a label, which is a constant of the program and never a user's text."""
        if label not in self.by_label and len(self.by_label) >= MOST_LABELS:
            label = OTHER
        self.by_label[label] = self.by_label.get(label, 0) + number

    def read(self) -> Mapping[str, int]:
        """The numbers as they stand."""
        return dict(self.by_label)
