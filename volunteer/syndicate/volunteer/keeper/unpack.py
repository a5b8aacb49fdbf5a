"""Unpacking a source inside its sandbox, and judging where it should lie.

The usual source lies at `/`. Only after unpacking is it known whether it brings a name of the sandbox's own
(then it belongs at /job) or wraps everything in one folder (then that folder is its root). Such a source is
unpacked again on a fresh disk, and the layout is remembered by digest.
"""

from __future__ import annotations

import os
import signal
import stat
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..local import ErrorCode
from .box import Box
from .disk import Disk, DiskSize
from .errors import KeeperError, failed, one_line
from .sandbox import RESERVED, Layout

_MAKEFILES = ("GNUmakefile", "makefile", "Makefile")
_MAX_STRIP = 2  # `./project/…` is two folders deep
_REMEMBERED = 256
_MIB = 1 << 20
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


def open_source(cache: Path, digest: str) -> int:
    """The tarball, held open: the cache may forget it while the task may yet be revived.

    Raises KeeperError.
    """
    # The folder is the volunteer's: a pipe in it would else hold the slot until somebody writes.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        try:  # decompressed ahead by the volunteer, where it could: a program less in each sandbox
            source = os.open(cache / f"{digest}.tar", flags)
        except FileNotFoundError:
            source = os.open(cache / digest, flags)
    except OSError as error:
        raise failed(f"the source {digest[:12]}… is not in the cache: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(source).st_mode):
        os.close(source)
        raise failed(f"the source {digest[:12]}… is not a file")
    return source


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


def refused(outcome: Unpacked, size: DiskSize) -> KeeperError:
    """What is told of a source that could not be unpacked."""
    if outcome.full:
        room = f"{size.size_bytes // _MIB} MiB and {size.inodes:,} files"
        detail = f"its source does not fit on the task's disk of {room}. Ask for more with --disk or --inodes"
        return KeeperError(ErrorCode.DISK_FULL, detail)
    return KeeperError(ErrorCode.BAD_SOURCE, one_line(outcome.error, 300))


def note_of(layout: Layout) -> str:
    """What is told of where a source lies; empty where it lies as sources do."""
    if layout.place == "/":
        return ""
    return "syndicate: the source brings names that the sandbox needs at /: it is laid at /job\n"


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
