"""The bounded store of one generation's output: a head on disk, the last part in memory, the middle counted.

Both streams share one sequence of offsets, in the order in which they were read. The head file holds records
of a header (stream, stamp, length) and data; headers count as well, so that a task that writes single bytes
gets no more disk than another. What comes after the head goes into a ring; when the generation ends the ring
is written to a second file.
"""

from __future__ import annotations

import os
import struct
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ..local import LogPiece, LogRead, LogStream, Stamp

_HEADER = struct.Struct(">BQQI")
_INDEX_EVERY = 64 * 1024
_PIECE_COST = 150  # what a piece costs in memory besides its data
_MAX_PIECES = 256  # of one answer: each has a cost all the way to the manager's disk
_TOGETHER_NS = 5_000_000  # what one stream wrote within this time is told as one piece
_LARGEST_TOGETHER = 64 * 1024
_EXCERPT = 4096
_STREAMS = (LogStream.STDOUT, LogStream.STDERR)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the file the record at a log offset begins."""

    offset: int
    position: int


class _Records:
    """One file of records, with a sparse index. It is open while it is written, and then for each read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = 0
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._index: list[_Place] = []

    def append(self, piece: LogPiece) -> None:
        if not self._index or self.bytes - self._index[-1].position >= _INDEX_EVERY:
            self._index.append(_Place(piece.offset, self.bytes))
        number = _STREAMS.index(piece.stream)
        header = _HEADER.pack(number, piece.at.monotonic_ns, piece.at.utc_ns, len(piece.data))
        os.pwritev(self._fd, [header, piece.data], self.bytes)
        self.bytes += len(header) + len(piece.data)

    def seal(self) -> None:
        """Nothing more is written."""
        descriptor, self._fd = self._fd, -1
        if descriptor >= 0:
            os.close(descriptor)  # gone also where this fails

    def read(self, offset: int, boot_id: str) -> Iterator[LogPiece]:
        """Records from the one that holds `offset` on."""
        known = bisect_right(self._index, offset, key=lambda place: place.offset) - 1
        if known < 0:
            return
        at, position = self._index[known].offset, self._index[known].position
        source = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while position < self.bytes:
                number, monotonic_ns, utc_ns, length = _HEADER.unpack(
                    os.pread(source, _HEADER.size, position)
                )
                if at + length > offset:
                    data = os.pread(source, length, position + _HEADER.size)
                    yield LogPiece(at, _STREAMS[number], Stamp(boot_id, monotonic_ns, utc_ns), data)
                at += length
                position += _HEADER.size + length
        finally:
            os.close(source)

    def close(self) -> None:
        """Nothing is left of it. Idempotent; raises OSError."""
        self.seal()
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Excerpt:
    """The first and the last of all output, and how much there was."""

    head: bytes
    tail: bytes
    total: int


def _together(first: LogPiece, second: LogPiece) -> bool:
    """Whether a piece that follows another may be told as a part of it."""
    apart_ns = second.at.monotonic_ns - first.at.monotonic_ns
    small = len(first.data) + len(second.data) <= _LARGEST_TOGETHER
    return first.stream is second.stream and 0 <= apart_ns < _TOGETHER_NS and small


class LogStore:
    """One generation's output; written by the pump's thread, read by others."""

    def __init__(self, folder: Path, generation: int, boot_id: str, head_bytes: int, tail_bytes: int) -> None:
        self._lock = threading.Lock()
        self._boot_id = boot_id
        self._head_bytes = head_bytes
        self._tail_bytes = tail_bytes
        self._head = _Records(folder / f"log-{generation}.head")
        self._tail_path = folder / f"log-{generation}.tail"
        self._tail_file: _Records | None = None
        self._head_end = 0  # log offset at which the head ends
        self._head_full = False
        self._dropped = False
        self._ring: deque[LogPiece] = deque()
        self._ring_cost = 0
        self._tail_start = 0
        self._first = b""
        self._last = b""
        self._total = 0
        self._ended = False
        self._closed = False

    @property
    def total(self) -> int:
        """Bytes of output so far, both streams."""
        return self._total

    @property
    def head_file_bytes(self) -> int:
        """What the head takes on the disk."""
        return self._head.bytes

    @property
    def overflows(self) -> bool:
        """Whether the head is full: what comes now is kept for a while only."""
        return self._head_full

    @property
    def dropped(self) -> bool:
        """Whether output was dropped because there was more than is kept."""
        return self._dropped

    def append(self, stream: LogStream, at: Stamp, data: bytes) -> None:
        """Take a piece as it was read."""
        with self._lock:
            if self._ended:
                return
            if len(self._first) < _EXCERPT:
                self._first = (self._first + data)[:_EXCERPT]
            self._last = data[-_EXCERPT:] if len(data) >= _EXCERPT else (self._last + data)[-_EXCERPT:]
            piece = LogPiece(self._total, stream, at, data)
            self._total += len(data)
            self._push(self._fill_head(piece))

    def _fill_head(self, piece: LogPiece) -> LogPiece | None:
        """Put what fits into the head; the rest comes back."""
        room = self._head_bytes - self._head.bytes - _HEADER.size
        if self._head_full or room <= 0:
            self._head_full = True
            return piece
        fitting = piece.data[:room]
        try:
            self._head.append(replace(piece, data=fitting))
        except OSError:  # the state folder's disk is full: what comes now counts as beyond the head
            self._head_full = True
            return piece
        self._head_end = piece.offset + len(fitting)
        if len(fitting) == len(piece.data):
            return None
        self._head_full = True
        return replace(piece, offset=self._head_end, data=piece.data[room:])

    def _push(self, piece: LogPiece | None) -> None:
        if piece is None:
            return
        self._ring.append(piece)
        self._ring_cost += len(piece.data) + _PIECE_COST
        while self._ring and self._ring_cost > self._tail_bytes:
            gone = self._ring.popleft()
            self._dropped = True
            self._ring_cost -= len(gone.data) + _PIECE_COST

    def finish(self) -> Excerpt:
        """No more output comes; the ring goes to the disk."""
        with self._lock:
            if not self._ended:
                self._ended = True
                self._tail_start = self._ring[0].offset if self._ring else self._total
                self._store_ring()
                self._head.seal()
            return Excerpt(self._first, self._last, self._total)

    def _store_ring(self) -> None:
        if not self._ring:
            return
        try:
            self._tail_file = _Records(self._tail_path)
            for piece in self._ring:
                self._tail_file.append(piece)
        except OSError:  # the state folder's disk is full: the rest counts as dropped
            self._tail_start = self._total
        finally:
            if self._tail_file is not None:
                self._tail_file.seal()
        self._ring.clear()

    def read(self, offset: int, limit: int) -> LogRead:
        """Pieces from `offset` on, at most `limit` bytes of them."""
        with self._lock:
            if self._closed:
                return LogRead((), offset, True)
            if offset >= self._head_end and not self._ended:
                return LogRead((), offset, False)
            pieces: list[LogPiece] = []
            left, at = limit, offset
            for piece in self._stored(offset):
                skip = max(0, at - piece.offset)
                data = piece.data[skip : skip + left]
                dropped = piece.offset - at if piece.offset > at else 0
                if pieces and not dropped and _together(pieces[-1], piece):
                    pieces[-1] = replace(pieces[-1], data=pieces[-1].data + data)
                else:
                    pieces.append(LogPiece(piece.offset + skip, piece.stream, piece.at, data, dropped))
                at = piece.offset + skip + len(data)
                left -= len(data)
                if left <= 0 or len(pieces) >= _MAX_PIECES:
                    break
            else:
                at = max(at, self._total) if self._ended else at
            return LogRead(tuple(pieces), at, self._ended and at >= self._total)

    def _stored(self, offset: int) -> Iterator[LogPiece]:
        if offset < self._head_end:
            yield from self._head.read(offset, self._boot_id)
        if self._tail_file is not None:
            yield from self._tail_file.read(max(offset, self._tail_start), self._boot_id)

    def close(self) -> None:
        """Remove the files. Idempotent; raises OSError, and is to be called again then."""
        with self._lock:
            self._ended = self._closed = True
            self._ring.clear()
            self._head.close()
            if self._tail_file is not None:
                self._tail_file.close()
