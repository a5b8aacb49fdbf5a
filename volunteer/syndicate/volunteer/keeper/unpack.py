"""Unpacking a source inside its sandbox, and judging where it should lie.

The usual source lies at `/`. Only after unpacking is it known whether it brings a name of the sandbox's own
(then it belongs at /job) or wraps everything in one folder (then that folder is its root). Such a source is
unpacked again on a fresh disk, and the layout is remembered by digest.
"""

from __future__ import annotations

import os
import signal
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .box import Box
from .disk import Disk
from .sandbox import RESERVED, Layout

_MAKEFILES = ("GNUmakefile", "makefile", "Makefile")
_MAX_STRIP = 2  # `./project/…` is two folders deep
_REMEMBERED = 256
# tar's last words, which say nothing.
_PHRASES = (
    "Exiting with failure status",
    "Error is not recoverable",
    "Child returned status",
    "Removing leading",
    "Skipping to next header",
)
_ENDED_BY_FILE_SIZE = f"unpacked {128 + signal.SIGXFSZ}"  # one file may be as large as the disk
_FULL = ("Wrote only", "No space left on device")


@dataclass(frozen=True)
class Unpacked:
    """How unpacking went: `error` is empty, or the line that says what was wrong with the source.

    `full` says that it did not fit on the disk.
    """

    error: str
    full: bool = False


def unpack(box: Box, source: int, deadline: float, meanwhile: Callable[[], None] = lambda: None) -> Unpacked:
    """Stream the file `source` into `box`, which has its orders, and do `meanwhile` while tar works on it.

    Raises TimeoutError, Cancelled, KeeperError, and what `meanwhile` raises.
    """
    box.feed(source, lambda: box.has_report(b"unpacked "), deadline)
    meanwhile()
    complaints: list[str] = []
    while (line := box.next_report(deadline)) is not None and not line.startswith("unpacked "):
        complaints.append(line)
    told = [each for each in complaints if each and not any(phrase in each for phrase in _PHRASES)]
    if line is None:
        return Unpacked(told[-1] if told else "the sandbox ended while it unpacked the source")
    unpacked = line == "unpacked 0" and not any(_is_decompressors(each) for each in complaints)
    full = line == _ENDED_BY_FILE_SIZE or any(phrase in each for each in complaints for phrase in _FULL)
    if not unpacked and full:
        return Unpacked("the source does not fit on the task's disk", full=True)
    return Unpacked("" if unpacked else _clearest(told) or f"tar: it ended with status {line.split()[-1]}")


def _is_decompressors(line: str) -> bool:
    # The shell speaks where the decompressor is not there; a pipeline's status is tar's alone.
    return line.startswith(("gzip: ", "zstd: ", "sh: ")) and "trailing garbage ignored" not in line


def _clearest(told: list[str]) -> str:
    """The decompressor knows better than tar why a stream ended."""
    own = [line for line in told if _is_decompressors(line)]
    return (own or told or [""])[-1]


def better_layout(tried: Layout, outcome: Unpacked, disk: Disk) -> Layout | None:
    """Where the source should be unpacked instead, or None if it should stay as it is."""
    if tried.place == "/" and (outcome.error or _brings_reserved(disk)):
        return Layout("/job", tried.strip)
    if outcome.error:
        return None
    top = disk.upper if tried.place == "/" else disk.upper / "job"
    if tried.strip < _MAX_STRIP and _is_wrapped(top):
        return Layout("/", tried.strip + 1)
    return None


def _brings_reserved(disk: Disk) -> bool:
    # usr, dev, proc and run are not writable, so tar failed on them; tmp went to the disk's own /tmp.
    return bool(os.listdir(disk.tmp)) or any(name in RESERVED for name in os.listdir(disk.upper))


def _is_wrapped(top: Path) -> bool:
    """One folder is all there is, and the Makefile is in it."""
    names = os.listdir(top)
    if len(names) != 1 or not os.path.isdir(top / names[0]) or os.path.islink(top / names[0]):
        return False
    return any(os.path.lexists(top / names[0] / name) for name in _MAKEFILES)


class Layouts:
    """Remembers the layout of the last sources by digest; used under the keeper's own threads."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Layout] = OrderedDict()

    def of(self, digest: str) -> Layout:
        """The layout to try first."""
        return self._known.get(digest, Layout())

    def remember(self, digest: str, layout: Layout) -> None:
        """Keep a layout that worked, forgetting the oldest."""
        self._known[digest] = layout
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
