"""What lasts is told when it begins, and then once a minute, so that a log says it and is not full of it."""

from __future__ import annotations

from typing import Final

MINUTE_S: Final = 60.0


class Retelling:
    """One thing that is as it should be, or not in one way or another. Times are seconds of any clock."""

    def __init__(self, every_s: float = MINUTE_S) -> None:
        self._every_s = every_s
        self._kind = ""
        self._since = self._told = 0.0

    def is_due(self, kind: str, now: float) -> bool:
        """Whether it would be told now."""
        return kind != self._kind or now - self._told >= self._every_s

    def tell(self, kind: str, now: float) -> int | None:
        """For how many seconds it has been so where that is to be told now, 0 at first; else None."""
        if not self.is_due(kind, now):
            return None
        if kind != self._kind:
            self._kind, self._since = kind, now
        self._told = now
        return round(now - self._since)

    def over(self) -> None:
        """It is as it should be."""
        self._kind = ""
