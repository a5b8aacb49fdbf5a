"""How much time and memory a check may take, and what it has taken so far."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

MIB = 2**20
_STATM = Path("/proc/self/statm")  # Linux alone has it, and with it what is left below RLIMIT_AS


class Exhausted(Exception):
    """The budget is used up; the text says which part of it."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Bounds of one check. What does not fit in them is answered with unknown.

    Attributes:
        seconds: of `clock`.
        bytes: of what the check remembers while it searches, beside the history itself. Less is taken where
            the address space of the process (RLIMIT_AS) has less than twice as much left.
        clock: a monotonic clock in seconds.
    """

    seconds: float = 60.0
    bytes: int = 192 * MIB
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)

    def __post_init__(self) -> None:
        """Raise ValueError for a bound that is no positive number."""
        for name, value in (("seconds", self.seconds), ("bytes", self.bytes)):
            if not value > 0:
                raise ValueError(f"a budget's {name} must be positive, not {value!r}")

    def begin(self) -> Meter:
        """Start to count."""
        return Meter(self, min(self.bytes, _room() // 2))

    def text(self) -> str:
        """For people."""
        return f"{self.seconds:g} s and {self.bytes / MIB:g} MiB"


class Meter:
    """What is left of a budget since `Budget.begin`.

    Memory is what the searches say that they hold: entries counted, each with the size that was measured for
    its sort. It is not the resident size of the process, in which other threads' data and freed memory stand
    too.
    """

    def __init__(self, budget: Budget, limit: int) -> None:
        self.clock = budget.clock
        self.end = budget.clock() + budget.seconds
        self.limit = limit
        self.used = 0
        self._budget = budget

    def left(self) -> float:
        """Seconds; not below 0."""
        return max(0.0, self.end - self.clock())

    def late(self) -> bool:
        """Whether the time is over."""
        return self.clock() >= self.end

    def full(self) -> bool:
        """Whether the memory is used up."""
        return self.used >= self.limit

    def check(self) -> None:
        """Raise Exhausted where nothing is left."""
        if self.late():
            raise Exhausted(self.time_text())
        if self.full():
            raise Exhausted(self.memory_text())

    def time_text(self) -> str:
        """Why a check ends without an answer."""
        return f"not decided within {self._budget.seconds:.3g} s"

    def memory_text(self) -> str:
        """Why a check ends without an answer."""
        return f"not decided within {self.limit / MIB:.0f} MiB"


def _room() -> int:
    """Bytes of address space that this process may still take."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY or not _STATM.exists():
        return 2**62
    pages = int(_STATM.read_text().split()[0])
    return max(2 * MIB, limit - pages * resource.getpagesize())
