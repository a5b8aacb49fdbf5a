"""What the machine has and what is free of it: processors, memory, disk."""

from __future__ import annotations

import os
from pathlib import Path

from .core.model import Resources


def total(folder: Path) -> Resources:
    """All of the machine; the disk is the one that holds `folder`."""
    disk = os.statvfs(folder)
    return Resources(os.cpu_count() or 1, _memory("MemTotal:"), disk.f_blocks * disk.f_frsize)


def free(folder: Path) -> Resources:
    """What is free now: processors less the load of the last minute, available memory and disk."""
    disk = os.statvfs(folder)
    idle = max(0, (os.cpu_count() or 1) - round(os.getloadavg()[0]))
    return Resources(idle, _memory("MemAvailable:"), disk.f_bavail * disk.f_frsize)


def _memory(name: str) -> int:
    """A line of /proc/meminfo in bytes; 0 where there is none."""
    with open("/proc/meminfo", encoding="ascii") as lines:
        for line in lines:
            if line.startswith(name):
                return int(line.split()[1]) << 10
    return 0
