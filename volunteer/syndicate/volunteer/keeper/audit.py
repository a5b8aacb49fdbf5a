"""What of an instance is on the host, one line for each thing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from . import mounts
from .cgroups import Cgroup
from .errors import one_line

_MAX_LINES = 1000  # of one slot: an answer is one frame


@dataclass(frozen=True)
class SlotPlaces:
    """Where a slot's things are."""

    cgroup: Path
    folder: Path
    sockets: Path


def things_of(places: SlotPlaces) -> list[str]:
    """Processes, cgroups, mounts and files at a slot; its own standing folders are not listed."""
    found = []
    for cgroup in _folders(places.cgroup):
        found += [f"process {pid} {_name(pid)}" for pid in Cgroup(cgroup).pids()]
        found.append(f"cgroup {cgroup}")
    mounted = mounts.mounts_under(places.folder)
    found += [f"mount {point}" for point in mounted]
    for folder in (places.folder, places.sockets):
        # What lies within a mount is told with the mount.
        found += [f"file {path}" for path in _entries(folder) if str(path) not in mounted]
    return [one_line(line) for line in found[:_MAX_LINES]]


def strangers(base: Path, slots: int) -> list[str]:
    """Cgroups in the instance's own that no slot of this keeper explains."""
    known = {f"slot-{number}" for number in range(slots)}
    return [f"cgroup {path}" for path in _folders(base) if path.name not in known]


def _folders(path: Path) -> list[Path]:
    return sorted(entry for entry in _entries(path) if entry.is_dir())


def _entries(path: Path) -> list[Path]:
    try:
        return sorted(path / name for name in os.listdir(path))
    except FileNotFoundError:
        return []


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return "(gone)"
