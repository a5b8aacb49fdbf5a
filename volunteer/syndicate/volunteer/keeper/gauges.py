"""What tells that a slot's task met a bound; and whose memory it was that ran out while one was laid."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..local import ErrorCode
from .counters import Meter, Shortage
from .errors import KeeperError, failed
from .oom import OomWatch

_MIB = 1 << 20


@dataclass(frozen=True)
class Gauges:
    """The slot's counters and signals. `disk_full` is asked in the slot's worker; it raises OSError."""

    meter: Meter
    oom: OomWatch
    disk_full: Callable[[], bool]

    @contextmanager
    def blaming(self, memory_bytes: int) -> Iterator[None]:
        """Work on a sandbox under a bound, while no generation runs; what fails for want of memory says so.

        Raises OSError, KeeperError: OUT_OF_MEMORY where the task's own bound was too little, FAILED where it
        was the machine that had none.
        """
        self.oom.forget()
        before = self.meter.begin()
        try:
            yield
        except KeeperError as error:
            shortage = self.meter.read().shortage_since(before, self.oom.was_told)
            if shortage is Shortage.OWN:
                bound = f"{memory_bytes // _MIB} MiB of memory"
                detail = f"its source took more than the task's {bound} to unpack. Ask for more with --memory"
                raise KeeperError(ErrorCode.OUT_OF_MEMORY, detail) from error
            if shortage is Shortage.HOST:
                raise failed("this machine ran out of memory while the task was prepared") from error
            raise
