"""A folder of kept disks: `disks/<job>/<task>.tar.gz`, or `<task>.missing` with why there is none.

What arrives lies in `disks/incoming/` until it is whole; it is fsynced and renamed then. So a crash leaves at
most a file there, which the next start removes. Nobody looks into a disk here: what is in it is its task's.

Three bounds: of a disk, of all disks of a job, and of all there are. Beyond the last one the disks of the
oldest jobs go. Methods block unless they say otherwise, and may be called from any thread.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from ..core.errors import Exhausted
from ..core.names import is_name
from ..core.words import size as size_in_words

_MOST_WHY: Final = 500
_GONE: Final = "it was removed: the disks of newer jobs needed the room"


@dataclass(frozen=True, slots=True)
class DiskBounds:
    """Bytes of one disk, of those of one job, and of all."""

    disk_bytes: int = 64 << 20
    job_bytes: int = 512 << 20
    all_bytes: int = 8 << 30


@dataclass(frozen=True, slots=True)
class Kept:
    """What there is of a task's disk: its bytes, or why there is none."""

    size: int = 0
    missing: str = ""


class DiskStore:
    """Owns `root`. Which task may hand a disk over is not its matter."""

    def __init__(self, root: Path, bounds: DiskBounds) -> None:
        self.bounds: DiskBounds = bounds
        self._root = root
        self._incoming = root / "incoming"
        self._incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in self._incoming.iterdir():
            left.unlink()
        self._lock = threading.Lock()
        # Bytes by job: of what is kept, and of what arrives.
        self._kept: dict[int, int] = {}
        self._arriving: dict[int, int] = {}
        for folder in root.iterdir():
            if folder.name.isdecimal() and (total := _bytes_in(folder)):
                self._kept[int(folder.name)] = total

    @property
    def total(self) -> int:
        """Bytes of all that is kept. Does not block."""
        return sum(self._kept.values())

    def look(self, job_id: int, task: str) -> Kept | None:
        """What there is of a task's disk; None where nothing was ever said of it. Raises ValueError."""
        disk, missing = self._paths(job_id, task)
        try:
            return Kept(disk.stat().st_size)
        except FileNotFoundError:
            pass
        try:
            return Kept(missing=missing.read_text(errors="replace"))
        except FileNotFoundError:
            return None

    def open(self, job_id: int, task: str) -> BinaryIO:
        """Open a disk for reading. Raises FileNotFoundError, ValueError."""
        return self._paths(job_id, task)[0].open("rb")

    def miss(self, job_id: int, task: str, why: str) -> None:
        """Write down why there is none, unless there is one; the first reason stands.

        Raises OSError, ValueError.
        """
        disk, missing = self._paths(job_id, task)
        if not disk.exists() and not missing.exists():
            disk.parent.mkdir(mode=0o700, exist_ok=True)
            line = "".join(each if each.isprintable() else "?" for each in why[:_MOST_WHY])
            self._write_whole(missing, line)

    def begin(self, job_id: int, task: str) -> DiskUpload:
        """Begin to take a disk. Does not block. Raises ValueError."""
        disk, _ = self._paths(job_id, task)
        return DiskUpload(self, job_id, disk, self._incoming)

    def remove_job(self, job_id: int) -> None:
        """Remove all of a job. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._root / str(job_id))
        with self._lock:
            self._kept.pop(job_id, None)

    # ---- for uploads ------------------------------------------------------------------------------------

    def _reserve(self, job_id: int, more: int, so_far: int) -> None:
        """Room for so many bytes more of a disk. Raises Exhausted (DISK_TOO_LARGE), OSError."""
        bounds = self.bounds
        if so_far + more > bounds.disk_bytes:
            raise _too_large(bounds.disk_bytes, "of a disk")
        with self._lock:
            job = self._kept.get(job_id, 0) + self._arriving.get(job_id, 0) + more
            if job > bounds.job_bytes:
                raise _too_large(bounds.job_bytes, "of the disks of a job")
            while self.total + sum(self._arriving.values()) + more > bounds.all_bytes:
                oldest = min((other for other in self._kept if other < job_id), default=None)
                if oldest is None:
                    raise _too_large(bounds.all_bytes, "of all disks")
                self._let_go(oldest)
            self._arriving[job_id] = self._arriving.get(job_id, 0) + more

    def _let_go(self, job_id: int) -> None:
        """The disks of a job make room; that they were there stays written."""
        for disk in sorted((self._root / str(job_id)).glob("*.tar.gz")):
            self._write_whole(disk.with_name(disk.name.removesuffix(".tar.gz") + ".missing"), _GONE)
            disk.unlink(missing_ok=True)
        del self._kept[job_id]

    def _give_back(self, job_id: int, arrived: int) -> None:
        with self._lock:
            self._arrived(job_id, arrived)

    def _arrived(self, job_id: int, arrived: int) -> None:
        left = self._arriving.get(job_id, 0) - arrived
        if left > 0:
            self._arriving[job_id] = left
        else:
            self._arriving.pop(job_id, None)

    def _take(self, job_id: int, temporary: Path, disk: Path, arrived: int) -> None:
        with self._lock:
            disk.parent.mkdir(mode=0o700, exist_ok=True)
            before = disk.stat().st_size if disk.exists() else 0
            temporary.rename(disk)
            # In one step: counted as both, it would take the room of another that still arrives.
            self._kept[job_id] = self._kept.get(job_id, 0) + arrived - before
            self._arrived(job_id, arrived)

    def _settle(self, disk: Path) -> None:
        """Make what was taken outlive a crash of the machine."""
        disk.with_name(disk.name.removesuffix(".tar.gz") + ".missing").unlink(missing_ok=True)
        for folder in (disk.parent, self._root):
            _fsync_folder(folder)

    def _write_whole(self, path: Path, text: str) -> None:
        handle, name = tempfile.mkstemp(dir=self._incoming)
        with os.fdopen(handle, "w") as file:
            file.write(text)
        Path(name).rename(path)

    def _paths(self, job_id: int, task: str) -> tuple[Path, Path]:
        if not is_name(task):
            raise ValueError(f"{task!r} is no name of a task")
        folder = self._root / str(job_id)
        return folder / f"{task}.tar.gz", folder / f"{task}.missing"


class DiskUpload:
    """One disk that arrives. Owns its temporary file until `finish` or `abandon`: one must be called.

    All block.
    """

    def __init__(self, store: DiskStore, job_id: int, target: Path, incoming: Path) -> None:
        self._store = store
        self._job_id = job_id
        self._target = target
        self._incoming = incoming
        self._temporary: Path | None = None
        self._file: BinaryIO | None = None
        self.size: int = 0

    def add(self, chunk: bytes) -> None:
        """Take the next bytes. Raises Exhausted (DISK_TOO_LARGE), OSError."""
        self._store._reserve(self._job_id, len(chunk), self.size)
        self.size += len(chunk)
        self._opened()[1].write(chunk)

    def finish(self) -> None:
        """It is whole: keep it. Raises OSError."""
        temporary, file = self._opened()
        file.flush()
        os.fsync(file.fileno())
        file.close()
        self._store._take(self._job_id, temporary, self._target, self.size)
        self.size = 0
        self._store._settle(self._target)

    def abandon(self) -> None:
        """Forget what came; nothing of it after `finish`. Idempotent."""
        if self._file is not None:
            self._file.close()
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)
        self._store._give_back(self._job_id, self.size)
        self.size = 0

    def _opened(self) -> tuple[Path, BinaryIO]:
        if self._temporary is None or self._file is None:
            handle, name = tempfile.mkstemp(dir=self._incoming)
            self._temporary, self._file = Path(name), os.fdopen(handle, "wb")
        return self._temporary, self._file


def _bytes_in(folder: Path) -> int:
    return sum(disk.stat().st_size for disk in folder.glob("*.tar.gz"))


def _too_large(most: int, what: str) -> Exhausted:
    text = f"larger than the {size_in_words(most)} {what} that this manager keeps"
    return Exhausted("DISK_TOO_LARGE", text, most=str(most))


def _fsync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
