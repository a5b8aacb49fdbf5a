"""What the kernel counts of a slot's bounds: ends for want of memory and whose want it was, denied processes.

The counters grow as long as the keeper runs; a generation's own is the difference of two readings.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from .limits import Limiter

_NEAR = 16  # of a bound, this part of it
# With swap, where the kernel counts it, the bound of both is met first.
_PEAKS = ("memory.max_usage_in_bytes", "memory.memsw.max_usage_in_bytes")


class Shortage(StrEnum):
    """Whose memory had run out when the kernel ended a process of a slot."""

    NONE = ""  # it ended none
    OWN = "memory"  # the slot's, which was at its bound
    HOST = "host-memory"  # the machine's, or that of a cgroup above: no fault of the task


@dataclass(frozen=True)
class Counts:
    """One reading; 0 where the controller is not there."""

    oom_kills: int = 0  # of the slot's processes, by whichever out-of-memory killer
    bound_hits: int = 0  # how often the slot's own bound was met; on version 1 at most once
    pid_denials: int = 0

    def shortage_since(self, before: Counts, told: bool = True) -> Shortage:
        """Why the kernel ended processes of the slot since `before`, if it did.

        On version 2 a bound counts as met where nothing could be reclaimed. On version 1 also where something
        could, such as the page cache; there `told` says whether an out-of-memory of the slot or of a cgroup
        above it was signalled, which the machine's own is not.
        """
        if self.oom_kills <= before.oom_kills:
            return Shortage.NONE
        return Shortage.OWN if told and self.bound_hits > before.bound_hits else Shortage.HOST


class Meter:
    """Reads the counters of one slot; from any thread."""

    def __init__(self, memory: Path | None, unified: bool, pids: Path | None) -> None:
        self._memory = memory
        self._unified = unified
        self._pids = pids

    @classmethod
    def of(cls, limiter: Limiter, slot: int) -> Meter:
        """The slot's, as far as there are controllers."""
        memory, pids = limiter.get("memory"), limiter.get("pids")
        denials = pids.folder(slot) / "pids.events" if pids is not None else None
        if memory is None:
            return cls(None, False, denials)
        return cls(memory.folder(slot), memory.unified, denials)

    @classmethod
    def apart(cls, limiter: Limiter, name: str) -> Meter:
        """That of a cgroup of the instance that is no slot's: see Limiter.bound_apart."""
        memory = limiter.get("memory")
        return cls(None, False, None) if memory is None else cls(memory.base / name, memory.unified, None)

    def begin(self) -> Counts:
        """The counters from which what follows is counted; raises OSError."""
        if self._memory is None or self._unified:
            return self.read()
        for name in _PEAKS:
            if (self._memory / name).exists():
                (self._memory / name).write_text("0")  # the most since now
        return replace(self.read(), bound_hits=0)

    def read(self) -> Counts:
        """The counters now; raises OSError."""
        denials = _value(self._pids, "max") if self._pids is not None else 0
        if self._memory is None:
            return Counts(pid_denials=denials)
        if self._unified:
            # The one counts what befell the slot and all below it, the other only what its own bound caused.
            kills = _value(self._memory / "memory.events", "oom_kill")
            return Counts(kills, _value(self._memory / "memory.events.local", "oom"), denials)
        kills = _value(self._memory / "memory.oom_control", "oom_kill")
        return Counts(kills, int(self._was_at_bound(self._memory)), denials)

    def _was_at_bound(self, folder: Path) -> bool:
        """The kernel's failcnt would say it, but Linux 6.18 does not count there."""
        peaks = [_number(folder / name) for name in _PEAKS if (folder / name).exists()]
        return max(peaks, default=0) >= near(_number(folder / "memory.limit_in_bytes"))


def near(bound: int) -> int:
    """From how much memory on a slot counts as at its bound: the last of it is asked for in pieces."""
    return bound - bound // _NEAR


def _number(file: Path) -> int:
    return int(file.read_text())


def _value(file: Path, name: str) -> int:
    """The number behind `name`; 0 where the kernel is too old to count it (oom_kill: before 4.13)."""
    for line in file.read_text().splitlines():
        key, _, number = line.partition(" ")
        if key == name:
            return int(number)
    return 0
