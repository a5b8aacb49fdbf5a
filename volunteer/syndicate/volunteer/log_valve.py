"""Keeps a log readable while lines of it are provoked: so many of a kind in a while, the others counted."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from dataclasses import dataclass

MOST_LINES = 20
WINDOW_SECONDS = 60.0
_MOST_KINDS = 4096  # more than a thousand slots have; further ones count as one
_OTHER = "other"


@dataclass
class _Window:
    until: float
    passed: int = 0
    held: int = 0
    before: int = 0  # what windows before this one held, of which nobody was told yet


class LogValve:
    """Counts lines by kind; from any thread. Times are seconds of one monotonic clock."""

    def __init__(self, most: int = MOST_LINES, seconds: float = WINDOW_SECONDS) -> None:
        self._most = most
        self._seconds = seconds
        self._windows: dict[Hashable, _Window] = {}
        self._lock = threading.Lock()

    def passes(self, kind: Hashable, now: float) -> bool:
        """Whether a line of this kind may be written; one that may not is counted."""
        with self._lock:
            window = self._windows.get(kind)
            if window is None and len(self._windows) >= _MOST_KINDS:
                kind = _OTHER
                window = self._windows.get(kind)
            if window is None:
                window = self._windows[kind] = _Window(now + self._seconds)
            if now >= window.until:
                window.before += window.held
                window.until, window.passed, window.held = now + self._seconds, 0, 0
            if window.passed < self._most:
                window.passed += 1
                return True
            window.held += 1
            return False

    @property
    def holds(self) -> bool:
        """Whether lines were not written of which nobody was told yet."""
        with self._lock:
            return any(window.held or window.before for window in self._windows.values())

    def held(self, now: float, *, end: bool = False) -> list[tuple[Hashable, int]]:
        """What was not written in windows that are over, or with `end` in any; told once."""
        told: list[tuple[Hashable, int]] = []
        with self._lock:
            for kind, window in list(self._windows.items()):
                more, window.before = window.before, 0
                if end or now >= window.until:
                    more += window.held
                    del self._windows[kind]
                if more:
                    told.append((kind, more))
        return told
