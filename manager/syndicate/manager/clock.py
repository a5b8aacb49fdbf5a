"""This machine's clock."""

from __future__ import annotations

import time
from pathlib import Path

from .core.model import Stamp


class Clock:
    """Makes stamps. The boot id is read once: a process does not outlive its boot."""

    def __init__(self) -> None:
        self.boot_id: str = Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    def now(self) -> Stamp:
        """This instant."""
        return Stamp(self.boot_id, time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns())
