"""What of an instance is on the host, one line for each thing."""

from __future__ import annotations

import os
from collections.abc import Set
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
    thread: int  # of the slot: its mounts are in a namespace of that thread's own


@dataclass(frozen=True)
class Standing:
    """What a sandbox that waits for a task explains: its cgroup, its processes, the mounts of its disk."""

    cgroup: Path
    process: int  # its first; the others are below it
    mounts: frozenset[str]


def things_of(places: SlotPlaces, standing: Standing | None = None) -> list[str]:
    """Processes, cgroups, mounts and files at a slot, but its own folders and what `standing` explains."""
    found = []
    own = _with_all_below(standing.process) if standing else set()
    for cgroup in _with_folders_below(places.cgroup):
        found += [f"process {pid} {_name(pid)}" for pid in Cgroup(cgroup).pids() if pid not in own]
        if cgroup != places.cgroup and (standing is None or cgroup != standing.cgroup):
            found.append(f"cgroup {cgroup}")
    mounted = mounts.mounts_under(places.folder, places.thread)
    found += [f"mount {point}" for point in mounted if standing is None or point not in standing.mounts]
    for folder in (places.folder, places.sockets):
        # What lies within a mount is told with the mount.
        found += [f"file {path}" for path in _entries(folder) if str(path) not in mounted]
    return [one_line(line) for line in found[:_MAX_LINES]]


def strangers(base: Path, slots: int, others: Set[str] = frozenset()) -> list[str]:
    """Cgroups in the instance's own that no slot of this keeper explains, nor `others`."""
    known = {f"slot-{number}" for number in range(slots)} | others
    return [f"cgroup {path}" for path in _folders(base) if path.name not in known]


def _with_folders_below(path: Path) -> list[Path]:
    return sorted(Path(folder) for folder, _, _ in os.walk(path))


def _with_all_below(pid: int) -> set[int]:
    """A process of the keeper's, its children, theirs, and so on."""
    found, ahead = set(), [pid]
    while ahead:
        found.add(parent := ahead.pop())
        try:
            ahead += map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


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
