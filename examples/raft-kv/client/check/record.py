"""What happened: every write and read, sorted into the windows between the faults."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Window:
    """A span of the run in which one fault held; times are seconds since the start."""

    name: str
    start: float
    term: int  # the highest term that was known when it opened
    end: float = 0.0
    writes: int = 0
    reads: int = 0
    elections: int = 0


@dataclass(frozen=True)
class StaleRead:
    """A read that did not see what was acknowledged or read before it began."""

    at: float
    window: str
    key: str
    seen: int
    known: int


@dataclass
class Key:
    """One key: who wrote what. Each key has one writer, so its values come in the order of `attempted`."""

    attempted: list[str] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)
    known: int = 0  # so many values it had for sure: an acknowledged write or a read says so


class Record:
    """Everything the workers report. All methods may be called from any thread.

    Args:
        clock: seconds since the start of the run.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self.keys: dict[str, Key] = {}
        self.windows: list[Window] = []
        self.stale: list[StaleRead] = []
        self.unanswered_writes = 0
        self.writes = 0
        self.reads = 0
        self.longest_gap = 0.0  # seconds without a write acknowledged
        self._last_write = clock()

    def open(self, name: str, term: int) -> Window:
        """Begins a window."""
        with self._changed:
            window = Window(name, self._clock(), term)
            self.windows.append(window)
            return window

    def close(self, window: Window) -> None:
        """Ends a window: nothing counts in it any more."""
        with self._changed:
            window.end = self._clock()

    def wait(self, window: Window, successes: int, seconds: float) -> bool:
        """Waits until a window has so many successes of each kind; False when it has not in time."""
        with self._changed:
            return self._changed.wait_for(
                lambda: window.writes >= successes and window.reads >= successes, seconds
            )

    def begin(self) -> Window | None:
        """The open window when an operation starts; give it back with the operation's end."""
        with self._changed:
            last = self.windows[-1] if self.windows else None
            return last if last is not None and not last.end else None

    def attempt(self, key: str, value: str) -> Window | None:
        """A write begins."""
        with self._changed:
            self.keys.setdefault(key, Key()).attempted.append(value)
        return self.begin()

    def wrote(self, key: str, value: str, length: int, window: Window | None) -> None:
        """A write was acknowledged; the key had `length` values then."""
        with self._changed:
            entry = self.keys[key]
            entry.acknowledged.append(value)
            entry.known = max(entry.known, length)
            self.writes += 1
            now = self._clock()
            self.longest_gap = max(self.longest_gap, now - self._last_write)
            self._last_write = now
            if window is not None and not window.end:
                window.writes += 1
                self._changed.notify_all()

    def unanswered(self) -> None:
        """A write was given up; it may have happened."""
        with self._changed:
            self.unanswered_writes += 1

    def known(self, key: str) -> int:
        """How many values a read that begins now must see."""
        with self._changed:
            return self.keys[key].known

    def written_keys(self, last: int) -> list[str]:
        """The keys written last that have something acknowledged."""
        with self._changed:
            return [name for name, key in list(self.keys.items())[-last:] if key.known]

    def read(self, key: str, seen: int, known: int, window: Window | None) -> None:
        """A read was answered with `seen` values; when it began `known` were there."""
        with self._changed:
            self.reads += 1
            entry = self.keys[key]
            entry.known = max(entry.known, seen)
            if seen < known:
                name = window.name if window else "between"
                self.stale.append(StaleRead(self._clock(), name, key, seen, known))
            if window is not None and not window.end:
                window.reads += 1
                self._changed.notify_all()
