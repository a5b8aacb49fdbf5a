"""The uids of slots: a range for each keeper of a host, which no other keeper and no user of the host has.

Two slots with one uid could signal each other's processes wherever their namespaces fail, and would share a
keyring and the kernel's counts by user. A keeper holds its range by a lock on those numbers in one file of
the host: see `host_locks`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import host_locks
from .errors import failed

PATH = Path("/run/syndicate-uids")
FIRST = 200_000
_STEP = 1000  # as many slots as a keeper may have
_TRIES = 1000
_UIDS = 1 << 31


@dataclass(frozen=True)
class Reserved:
    """Uids that the host has given away already."""

    uids: range
    whose: str

    def meets(self, uids: range) -> bool:
        """Whether one of these is among them."""
        return max(self.uids.start, uids.start) < min(self.uids.stop, uids.stop)


@dataclass(frozen=True)
class Claim:
    """The range that starts at `base`, until it is closed."""

    base: int
    _descriptor: int

    def close(self) -> None:
        """Let another keeper have it."""
        os.close(self._descriptor)


def claim(base: int | None, slots: int, path: Path = PATH, reserved: Sequence[Reserved] = ()) -> Claim:
    """Take `slots` uids from `base` on; where that is None, from the first that nobody has.

    Raises KeeperError where another keeper has some of them, OSError where the file cannot be had.
    """
    descriptor = host_locks.open_file(path)
    try:
        for start in _starts(base):
            wanted = range(start, start + slots)
            free = base is not None or not any(one.meets(wanted) for one in reserved)
            if free and host_locks.lock(descriptor, wanted):
                return Claim(start, descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    if base is None:
        raise failed(f"other keepers and users have all uids from {FIRST} on: give it a --uid-base")
    raise failed(
        f"another keeper on this host has uids of {base} to {base + slots - 1}: give this one another "
        "--uid-base, or none, and it finds one"
    )


def reserved_of(passwd: Path = Path("/etc/passwd"), subuid: Path = Path("/etc/subuid")) -> list[Reserved]:
    """The uids of local users, and those that they may use in user namespaces; passwd(5), subuid(5)."""
    found = []
    for name, fields in _entries(passwd, 7):
        if fields[1].isascii() and fields[1].isdecimal():
            uid = int(fields[1])
            found.append(Reserved(range(uid, uid + 1), f"{name} of {passwd}"))
    for name, fields in _entries(subuid, 3):
        if all(field.isascii() and field.isdecimal() for field in fields[:2]):
            start, count = int(fields[0]), int(fields[1])
            found.append(Reserved(range(start, start + count), f"{name} of {subuid}"))
    return found


def _entries(path: Path, width: int) -> list[tuple[str, list[str]]]:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:  # a host without it has given away nothing in it
        return []
    split = (line.split(":") for line in lines)
    return [(fields[0], fields[1:]) for fields in split if len(fields) >= width]


def _starts(base: int | None) -> range:
    return range(FIRST, min(FIRST + _TRIES * _STEP, _UIDS), _STEP) if base is None else range(base, base + 1)
