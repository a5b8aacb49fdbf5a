"""What the kernel counts of a slot's bounds: how often it ended processes for memory, and denied new ones.

The counters grow as long as the keeper runs; a generation's own is the difference of two readings.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .limits import Limiter


@dataclass(frozen=True)
class Counts:
    """One reading; 0 where the controller is not there."""

    oom_kills: int = 0
    pid_denials: int = 0


class Meter:
    """Reads the counters of one slot; from any thread."""

    def __init__(self, oom: Path | None, pids: Path | None) -> None:
        self._oom = oom
        self._pids = pids

    @classmethod
    def of(cls, limiter: Limiter, slot: int) -> Meter:
        """The slot's, as far as there are controllers."""
        memory, pids = limiter.get("memory"), limiter.get("pids")
        oom = None
        if memory is not None:
            oom = memory.folder(slot) / ("memory.events" if memory.unified else "memory.oom_control")
        return cls(oom, pids.folder(slot) / "pids.events" if pids is not None else None)

    def read(self) -> Counts:
        """The counters now; raises OSError."""
        return Counts(_value(self._oom, "oom_kill"), _value(self._pids, "max"))


def _value(file: Path | None, name: str) -> int:
    """The number behind `name`; 0 where the kernel is too old to count it (oom_kill: before 4.13)."""
    if file is None:
        return 0
    for line in file.read_text().splitlines():
        key, _, number = line.partition(" ")
        if key == name:
            return int(number)
    return 0
