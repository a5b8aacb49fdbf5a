"""Takes log pieces from the loop, stores them in one thread, and tells the loop how far each task is stored.

Output is not worth an fsync: what a crash of the machine loses is told as dropped. A crash of the manager
alone loses only what waits here, and that was not acknowledged, so the volunteers send it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from syndicate.v1 import scheduler_pb2

from .files import LogFile, log_path
from .reader import LogReader

# How many tasks' ends are kept in mind; of the others the file is read again when they write.
_KNOWN_FILES: Final = 8192
# Bounds one write to one file.
_GROUP_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class LogKey:
    """Whose output: one generation of one member."""

    job_id: int
    attempt: int
    task: str
    generation: int


@dataclass(frozen=True, slots=True)
class Stored:
    """All bytes of `key` below `offset`, which `origin` sent, are stored or dropped."""

    origin: str
    key: LogKey
    offset: int


@dataclass(frozen=True, slots=True)
class _Waiting:
    origin: str
    key: LogKey
    entry: scheduler_pb2.ReadLogsResponse

    @property
    def end(self) -> int:
        return self.entry.piece.offset + len(self.entry.piece.data)


class LogStore:
    """Owns `root` and the thread that writes there. `cap_bytes` bounds the file of one task.

    At most `max_waiting_bytes` wait for the disk: look at `full` before `append`, and wait for `room`.
    """

    def __init__(self, root: Path, cap_bytes: int = 64 << 20, max_waiting_bytes: int = 32 << 20) -> None:
        self._root = root
        self._cap_bytes = cap_bytes
        self._max_waiting_bytes = max_waiting_bytes
        self._waiting_bytes = 0
        self._appended = 0
        self._written = 0
        # Bytes that came, those that were dropped before they came, and those that could not be written.
        self.received_bytes = 0
        self.dropped_bytes = 0
        self.lost_bytes = 0
        self._progress = asyncio.Event()
        self._files: OrderedDict[Path, LogFile] = OrderedDict()  # used by the thread alone
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def start(
        self, on_stored: Callable[[Sequence[Stored]], None], on_trouble: Callable[[Path, Exception], None]
    ) -> None:
        """Begin to write. Both callbacks run on the loop; trouble means that pieces were dropped."""
        loop = asyncio.get_running_loop()

        def stored_on_loop(stored: Sequence[Stored], pieces: int, size: int) -> None:
            self._waiting_bytes -= size
            self._written += pieces
            self._progress.set()
            on_stored(stored)

        def tell(stored: Sequence[Stored], pieces: int, size: int) -> None:
            loop.call_soon_threadsafe(stored_on_loop, stored, pieces, size)

        def trouble(path: Path, error: Exception) -> None:
            loop.call_soon_threadsafe(on_trouble, path, error)

        self._thread = threading.Thread(
            target=self._run, args=(tell, trouble), name="log-writer", daemon=True
        )
        self._thread.start()

    @property
    def full(self) -> bool:
        """True while too much waits for the disk."""
        return self._waiting_bytes >= self._max_waiting_bytes

    def append(self, origin: str, key: LogKey, entry: scheduler_pb2.ReadLogsResponse) -> None:
        """Queue one piece. `entry.piece` may repeat what is stored: that is left out. Raises ValueError."""
        log_path(self._root, key.job_id, key.attempt, key.task)
        self._appended += 1
        self._waiting_bytes += len(entry.piece.data)
        self.received_bytes += len(entry.piece.data)
        self.dropped_bytes += entry.piece.dropped_before
        self._queue.put(_Waiting(origin, key, entry))

    async def room(self) -> None:
        """Wait until it is not `full`. Ends as fast as the disk writes."""
        while self.full:
            self._progress.clear()
            await self._progress.wait()

    async def flushed(self) -> None:
        """Wait until everything that was appended before is in its file."""
        target = self._appended
        while self._written < target:
            self._progress.clear()
            await self._progress.wait()

    def reader(self, job_id: int, attempt: int, tasks: Sequence[str]) -> LogReader:
        """Reads these tasks' output from the beginning. Raises ValueError for names that no task has."""
        return LogReader([log_path(self._root, job_id, attempt, task) for task in tasks])

    def remove_job(self, job_id: int) -> None:
        """Remove the output of a job whose tasks write no more. Blocks. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._root / str(job_id))

    async def close(self) -> None:
        """Write what waits and end the thread."""
        if self._thread is not None:
            self._queue.put(None)
            await asyncio.get_running_loop().run_in_executor(None, self._thread.join, 30.0)

    # ---- in the thread ----------------------------------------------------------------------------------

    def _run(
        self, tell: Callable[[Sequence[Stored], int, int], None], trouble: Callable[[Path, Exception], None]
    ) -> None:
        item = self._queue.get()
        while item is not None:
            group = [item]
            size = len(item.entry.piece.data)
            while size < _GROUP_BYTES and not self._queue.empty():
                item = self._queue.get()
                if item is None:
                    break
                group.append(item)
                size += len(item.entry.piece.data)
            tell(self._write(group, trouble), len(group), size)
            if item is not None:
                item = self._queue.get()

    def _write(self, group: list[_Waiting], trouble: Callable[[Path, Exception], None]) -> list[Stored]:
        by_file: dict[Path, list[_Waiting]] = {}
        ends: dict[tuple[str, LogKey], int] = {}
        for waiting in group:
            key = waiting.key
            by_file.setdefault(log_path(self._root, key.job_id, key.attempt, key.task), []).append(waiting)
            # Before it is stored: storing cuts off what was known.
            ends[waiting.origin, key] = max(waiting.end, ends.get((waiting.origin, key), 0))
        for path, waiting_here in by_file.items():
            try:
                self._file(path).append([w.entry for w in waiting_here])
            except Exception as error:  # noqa: BLE001 - this thread must go on: others' output waits behind it
                # A full disk costs output, never the job: the pieces count as dropped.
                self.lost_bytes += sum(len(w.entry.piece.data) for w in waiting_here)
                trouble(path, error)
        return [Stored(origin, key, end) for (origin, key), end in ends.items()]

    def _file(self, path: Path) -> LogFile:
        file = self._files.get(path)
        if file is None:
            file = LogFile(path, self._cap_bytes)
            self._files[path] = file
            if len(self._files) > _KNOWN_FILES:
                self._files.popitem(last=False)
        else:
            self._files.move_to_end(path)
        return file
