"""One task's log file: `logs/<job>/<attempt>/<task>.log`.

A file is a row of records: a 4-byte big-endian length and a `ReadLogsResponse` in protobuf's encoding, just
as `ReadLogs` sends it. Records of later generations follow those of earlier ones. A record that is cut short
at the end (a crash, or a write in progress) counts as not written. Beside a file that reached its cap stands
`<task>.dropped` with what did not go into it. Everything here blocks.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO, Final

from google.protobuf.message import DecodeError
from syndicate.v1 import common_pb2, scheduler_pb2

from ..core.names import is_name

_LENGTH: Final = struct.Struct(">I")
# A piece is at most 256 KiB; names and stamps come on top.
_MAX_RECORD: Final = 1 << 20
_READ: Final = 256 << 10


def log_path(root: Path, job_id: int, attempt: int, task: str) -> Path:
    """Where a task's log is. Raises ValueError for a name that no task has."""
    if not is_name(task):
        raise ValueError(f"{task!r} is no name of a task")
    return root / str(job_id) / str(attempt) / f"{task}.log"


def encode(entry: scheduler_pb2.ReadLogsResponse) -> bytes:
    """One record."""
    body = entry.SerializeToString()
    return _LENGTH.pack(len(body)) + body


class Cursor:
    """Reads a log file on from where it was; the file may grow meanwhile, and need not exist yet."""

    def __init__(self, path: Path) -> None:
        self.position = 0  # of the first byte that is not read yet
        self._path = path
        self._file: BinaryIO | None = None
        self._buffer = b""

    def next(self) -> scheduler_pb2.ReadLogsResponse | None:
        """The next whole record, or None where there is none yet."""
        head = self._peek(_LENGTH.size)
        if head is None:
            return None
        (length,) = _LENGTH.unpack(head)
        if length > _MAX_RECORD:
            # Nobody writes this: the disk lost what was there. What follows cannot be told from noise.
            return None
        record = self._peek(_LENGTH.size + length)
        if record is None:
            return None
        try:
            entry = scheduler_pb2.ReadLogsResponse.FromString(record[_LENGTH.size :])
        except DecodeError:
            return None  # as above
        self._buffer = self._buffer[len(record) :]
        self.position += len(record)
        return entry

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _peek(self, size: int) -> bytes | None:
        if len(self._buffer) < size:
            if self._file is None:
                try:
                    self._file = self._path.open("rb")
                except FileNotFoundError:
                    return None
            self._file.seek(self.position + len(self._buffer))
            self._buffer += self._file.read(max(_READ, size - len(self._buffer)))
        return self._buffer[:size] if len(self._buffer) >= size else None


class LogFile:
    """One task's log as its only writer sees it."""

    def __init__(self, path: Path, cap_bytes: int) -> None:
        self._path = path
        self._cap_bytes = cap_bytes
        self._ends: dict[int, int] = {}  # by generation: all bytes below are stored or dropped
        self._dropped = read_dropped(path)
        self._size = self._recover()

    def append(self, entries: list[scheduler_pb2.ReadLogsResponse]) -> dict[int, int]:
        """Store what is new of the entries; answers the end of each generation in them.

        Raises OSError, and then the entries count as never seen: the next ones will tell of the gap.
        """
        records: list[bytes] = []
        ends_before, dropped_before = dict(self._ends), self._dropped
        size = self._size
        dropped = False
        for entry in entries:
            if not self._trim(entry):
                continue
            record = encode(entry)
            # Once the cap was reached nothing goes in any more: what is kept is a head without holes.
            if self._dropped is not None or size + len(record) > self._cap_bytes:
                self._drop(entry)
                dropped = True
            else:
                records.append(record)
                size += len(record)
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # First: pieces that are written can no longer count as never seen.
            if dropped:
                self._save_dropped()
            if records:
                self._write(b"".join(records))
                self._size = size
        except OSError:
            self._ends, self._dropped = ends_before, dropped_before
            raise
        return {entry.generation: self._ends[entry.generation] for entry in entries}

    def _trim(self, entry: scheduler_pb2.ReadLogsResponse) -> bool:
        """Cut off what is stored already; False when nothing is left. What is missing counts as dropped."""
        piece = entry.piece
        known = self._ends.setdefault(entry.generation, 0)
        end = piece.offset + len(piece.data)
        if end <= known:
            return False
        if piece.offset < known:
            piece.data = piece.data[known - piece.offset :]
            piece.offset = known
        # Also where the volunteer does not know it: bytes that it sent before and a crash here lost.
        piece.dropped_before = piece.offset - known
        self._ends[entry.generation] = end
        return True

    def _drop(self, entry: scheduler_pb2.ReadLogsResponse) -> None:
        piece = entry.piece
        count = piece.dropped_before + len(piece.data)
        if self._dropped is not None:
            count += self._dropped.piece.dropped_before
        self._dropped = scheduler_pb2.ReadLogsResponse(
            task=entry.task,
            generation=entry.generation,
            piece=common_pb2.LogPiece(
                offset=piece.offset + len(piece.data),
                stream=piece.stream,
                read_at=piece.read_at,
                dropped_before=count,
            ),
            at=entry.at,
        )

    def _write(self, data: bytes) -> None:
        with self._path.open("ab", buffering=0) as file:
            # The end of an earlier write that did not succeed whole would make all that follows unreadable.
            file.truncate(self._size)
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]

    def _save_dropped(self) -> None:
        assert self._dropped is not None  # noqa: S101 - narrows the type
        temporary = self._path.with_suffix(".dropped.new")
        temporary.write_bytes(self._dropped.SerializeToString())
        temporary.rename(self._path.with_suffix(".dropped"))

    def _recover(self) -> int:
        cursor = Cursor(self._path)
        try:
            while (entry := cursor.next()) is not None:
                self._ends[entry.generation] = entry.piece.offset + len(entry.piece.data)
        finally:
            cursor.close()
        if self._dropped is not None:
            last = self._dropped
            self._ends[last.generation] = max(self._ends.get(last.generation, 0), last.piece.offset)
        return cursor.position


def read_dropped(path: Path) -> scheduler_pb2.ReadLogsResponse | None:
    """What the cap kept out of a log file: an entry without data, or None."""
    try:
        return scheduler_pb2.ReadLogsResponse.FromString(path.with_suffix(".dropped").read_bytes())
    except FileNotFoundError:
        return None
