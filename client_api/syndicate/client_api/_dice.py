"""Draws that are the same everywhere: SHA-256 in counter mode, whole numbers only.

Python's own generators keep ``random()`` over versions, not ``choice`` or ``shuffle``, and floats of other
machines may differ in their last bit. Here a seed and its labels give the same draws on every version of
Python and every machine, whatever PYTHONHASHSEED says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

_BYTES = 8
_RANGE = 1 << (8 * _BYTES)


class Dice:
    """A stream of draws that belongs to a seed and its labels; streams of other labels are independent."""

    def __init__(self, seed: int, *labels: str | int) -> None:
        self._key = "/".join(["syndicate", str(seed), *map(str, labels)]).encode()
        self._count = 0

    def below(self, bound: int) -> int:
        """A whole number from 0 to ``bound`` - 1, each as likely. Raises ValueError for a bound below 1."""
        if bound < 1:
            raise ValueError(f"nothing is below {bound}")
        least = _RANGE - _RANGE % bound  # what lies above it would make small numbers likelier
        while (drawn := self._next()) >= least:
            pass
        return drawn % bound

    def between(self, least: int, most: int) -> int:
        """A whole number from ``least`` to ``most``, both included."""
        return least + self.below(most - least + 1)

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """The items in an order that is drawn."""
        left = list(items)
        for at in range(len(left) - 1, 0, -1):
            other = self.below(at + 1)
            left[at], left[other] = left[other], left[at]
        return left

    def _next(self) -> int:
        block = hashlib.sha256(self._key + b"/%d" % self._count).digest()
        self._count += 1
        return int.from_bytes(block[:_BYTES], "big")
