"""Packing the disk of a task that has ended, piece by piece, in a sandbox of its own.

Nothing is kept on the way: what packs waits at its pipe until the next piece is asked for. It is bounded in
bytes and in time, both from its beginning, and beside that as the task was: its memory, its processors, its
uid. What it cannot do is told as `missing`; the disk is the same after it as before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from ..local import DiskRead, ErrorCode
from .box import Box, Cancelled
from .errors import KeeperError, failed, one_line

_MIB = 1 << 20
_LONGEST_WORDS = 200
# tar's last words where the archive is cut short.
_CUT_SHORT = "not recoverable"
_COULD_NOT_READ = 2  # tar's status where some of it could not be read, and the rest is there


@dataclass(frozen=True)
class PackBounds:
    """Bytes of a packed disk, and seconds until it is packed and was read."""

    most_bytes: int = 64 << 20
    seconds: float = 20.0


class Packing:
    """One packing under way. Used in the slot's worker thread; `close` must be called."""

    def __init__(self, box: Box, bounds: PackBounds) -> None:
        self.offset = 0
        self._box = box
        self._bounds = bounds
        self._deadline = time.monotonic() + bounds.seconds
        box.go()

    def read(self, limit: int) -> DiskRead:
        """The next piece, of at most `limit` bytes. Raises Cancelled, OSError."""
        try:
            data = self._fill(limit)
            self.offset += len(data)
            if self.offset > self._bounds.most_bytes:
                return _missing(f"packed it is larger than {self._bounds.most_bytes / _MIB:g} MiB")
            if len(data) == limit:
                return DiskRead(data, end=False)
            why = self._why_cut_short()
            return _missing(why) if why else DiskRead(data, end=True)
        except TimeoutError:
            return _missing(f"packing it took longer than {self._bounds.seconds:g} s")

    def close(self) -> None:
        """End it and leave nothing; raises KeeperError."""
        self._box.destroy()

    def _fill(self, limit: int) -> bytes:
        data = bytearray()
        if time.monotonic() >= self._deadline:  # else it would never end while there is something to read
            raise TimeoutError
        while len(data) < limit and (piece := self._box.read_packed(limit - len(data), self._deadline)):
            data += piece
        return bytes(data)

    def _why_cut_short(self) -> str:
        """Why what came to its end is not the whole disk; empty where it is."""
        said = self._box.last_reports(self._deadline)
        ends = [line.removeprefix("packed ") for line in said if line.startswith("packed ")]
        status = int(ends[-1]) if ends and ends[-1].isdecimal() else None
        words = [line for line in said if not line.startswith(("packed ", "compressed "))]
        if any(_CUT_SHORT in line for line in words) and len(words) > 1:
            words = [line for line in words if _CUT_SHORT not in line]
        elif status is not None and status <= _COULD_NOT_READ and "compressed 0" in said:
            return ""
        told = f": {one_line(words[-1], _LONGEST_WORDS)}" if words else ""
        return f"what packed it ended before it was done{told}"


class DiskReading:
    """Reads a packed disk: `begin` begins its packing, at the disk's first piece. Used as Packing is."""

    def __init__(self, begin: Callable[[], Packing]) -> None:
        self._begin = begin
        self._packing: Packing | None = None

    def read(self, offset: int, limit: int) -> DiskRead:
        """The next piece, or the first again.

        Raises KeeperError (WRONG_STATE), Cancelled; nothing of the packing is left then, nor at its end.
        """
        try:
            if offset == 0:
                self.drop()
                self._packing = self._begin()
            if self._packing is None or self._packing.offset != offset:
                raise KeeperError(ErrorCode.WRONG_STATE, f"the disk is not being read at {offset}")
            piece = self._packing.read(limit)
        except OSError as error:
            self.drop()
            return _refusal(failed(f"cannot pack the disk: {error}"))
        except (KeeperError, Cancelled) as error:
            self.drop()
            if isinstance(error, KeeperError) and error.code is ErrorCode.FAILED:
                return _refusal(error)
            raise
        if piece.end:
            self.drop()
        return piece

    def drop(self) -> None:
        """End a packing that is under way; raises KeeperError. Idempotent."""
        packing, self._packing = self._packing, None
        if packing is not None:
            packing.close()


def _refusal(error: KeeperError) -> DiskRead:
    """What is told where packing could not begin."""
    return _missing(one_line(error.detail, _LONGEST_WORDS))


def _missing(why: str) -> DiskRead:
    return DiskRead(b"", end=True, missing=why)
