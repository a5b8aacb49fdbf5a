"""What survives: `meta.json`, replaced whole, and `log`, appended to; both are synced at once.

A log record is `length crc payload`: two big-endian 32-bit words and JSON. The checksum of a record continues
that of the one before, so a record that is left over from a tail that was cut off never fits in again. What a
crash left of an unfinished write ends the log when it is loaded: nothing of it was acknowledged. Damage to
what was synced is outside of what this store survives.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from raftkv.values import Entry, Meta

_HEAD = struct.Struct(">II")
MAX_RECORD = 1 << 24  # bytes; more is no record


class Disk:
    """The directory of one member. Everything it is told is on disk when the call returns."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._meta = folder / "meta.json"
        self._fd = os.open(folder / "log", os.O_RDWR | os.O_CREAT, 0o600)
        self._ends = [0]  # where each record ends; index 0 is the empty log
        self._crcs = [0]

    def load(self) -> tuple[Meta | None, list[Entry]]:
        """What is stored; no meta for a disk that was never used.

        Raises:
            ValueError: `meta.json` is damaged, which no crash does.
        """
        try:
            meta = Meta(**json.loads(self._meta.read_text()))
        except FileNotFoundError:
            os.ftruncate(self._fd, 0)  # a log without its meta is nobody's
            return None, []
        entries = list(self._records())
        os.ftruncate(self._fd, self._ends[-1])
        return meta, entries

    def save_meta(self, meta: Meta) -> None:
        """Replaces the meta."""
        fresh = self._folder / "meta.new"
        with open(fresh, "wb") as file:
            file.write(json.dumps(meta._asdict()).encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, self._meta)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def write(self, first: int, entries: Iterable[Entry]) -> None:
        """Drops the entries from index `first` on, and puts these in their place."""
        if first < len(self._ends):
            del self._ends[first:]
            del self._crcs[first:]
            os.ftruncate(self._fd, self._ends[-1])
        if first != len(self._ends):
            raise AssertionError(f"entry {first} would leave a gap after {len(self._ends) - 1}")
        data = bytearray()
        start = self._ends[-1]
        for entry in entries:
            payload = json.dumps(entry, separators=(",", ":")).encode()
            crc = zlib.crc32(payload, self._crcs[-1])
            data += _HEAD.pack(len(payload), crc) + payload
            self._ends.append(start + len(data))
            self._crcs.append(crc)
        written = 0
        while written < len(data):
            written += os.pwrite(self._fd, data[written:], start + written)
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Gives the file back."""
        os.close(self._fd)

    def _records(self) -> Iterator[Entry]:
        data = os.pread(self._fd, os.fstat(self._fd).st_size, 0)
        at = 0
        while at + _HEAD.size <= len(data):
            length, crc = _HEAD.unpack_from(data, at)
            payload = data[at + _HEAD.size : at + _HEAD.size + length]
            if length > MAX_RECORD or len(payload) < length or zlib.crc32(payload, self._crcs[-1]) != crc:
                return
            at += _HEAD.size + length
            self._ends.append(at)
            self._crcs.append(crc)
            yield Entry(*json.loads(payload))
