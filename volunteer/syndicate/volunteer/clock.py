"""This machine's clock, for volunteer and keeper alike."""

from __future__ import annotations

import time
from pathlib import Path

from .local import Stamp


class Clock:
    """Makes stamps. The boot id is read once: a process does not outlive its boot."""

    def __init__(self) -> None:
        self.boot_id: str = Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    def now_ns(self) -> int:
        """CLOCK_BOOTTIME in nanoseconds: it counts while the machine sleeps, so that leases run out."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def stamp(self) -> Stamp:
        """This instant, in CLOCK_BOOTTIME and UTC."""
        return Stamp(self.boot_id, self.now_ns(), time.time_ns())
