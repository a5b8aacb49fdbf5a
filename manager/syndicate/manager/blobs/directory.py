"""A directory of blobs addressed by SHA-256: `blobs/ab/cd/<64 digits>`, and `blobs/incoming/` for what
arrives.

Whatever has its digest for a name is whole: it was written elsewhere, checked, fsynced and renamed. So a
crash leaves at most a file in `incoming/`, which the next start removes. Methods block unless they say
otherwise.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

from ..core.errors import BadRequest, Exhausted
from ..core.model import Source

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_KNOWN_SIZES: Final = 65_536


def is_digest(text: str) -> bool:
    """Whether it is a SHA-256 in 64 lower-case hexadecimal digits."""
    return _DIGEST.fullmatch(text) is not None


class BlobDirectory:
    """Owns `root`. `max_bytes` bounds one blob."""

    def __init__(self, root: Path, max_bytes: int = 10 << 20) -> None:
        self.max_bytes: int = max_bytes
        self._root = root
        self._incoming = root / "incoming"
        self._incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in self._incoming.iterdir():
            left.unlink()
        # Blobs are never changed or removed, so what was seen once need not be asked of the disk again. The
        # least recently used go first.
        self._sizes: OrderedDict[str, int] = OrderedDict()

    def known_size(self, sha256: str) -> int | None:
        """Bytes of a blob that was used lately, without touching the disk; None says nothing."""
        return self._sizes.get(sha256)

    def size(self, sha256: str) -> int | None:
        """Bytes of a blob; None where there is none."""
        known = self._sizes.get(sha256)
        if known is not None:
            self._sizes.move_to_end(sha256)
            return known
        if not is_digest(sha256):
            return None
        try:
            size = self._path(sha256).stat().st_size
        except FileNotFoundError:
            return None
        self._remember(sha256, size)
        return size

    def open(self, sha256: str) -> BinaryIO:
        """Open a blob for reading. Raises FileNotFoundError."""
        if not is_digest(sha256):
            raise FileNotFoundError(sha256)
        return self._path(sha256).open("rb")

    def begin(self, sha256: str, size: int) -> Upload:
        """Begin to take a blob. `sha256` and `size` are what its bytes will be held to. Does not block.

        Raises BadRequest (BAD_FIELD) and Exhausted (SOURCE_TOO_LARGE).
        """
        if not is_digest(sha256):
            raise BadRequest("BAD_FIELD", "header.sha256 is not 64 lower-case hexadecimal digits")
        if size < 0:
            raise BadRequest("BAD_FIELD", "header.size is negative")
        if size > self.max_bytes:
            raise _too_large(self.max_bytes)
        return Upload(self, sha256, size, self._incoming)

    def _path(self, sha256: str) -> Path:
        return self._root / sha256[:2] / sha256[2:4] / sha256

    def _remember(self, sha256: str, size: int) -> None:
        self._sizes[sha256] = size
        if len(self._sizes) > _KNOWN_SIZES:
            self._sizes.popitem(last=False)

    def _take(self, temporary: Path, source: Source) -> None:
        target = self._path(source.sha256)
        made = [p for p in (target.parent.parent, target.parent) if not p.exists()]
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.rename(target)
        # A name is durable when the directory that holds it is; that goes for the new directories too.
        for directory in {target.parent, *(p.parent for p in made)}:
            _fsync_directory(directory)
        self._remember(source.sha256, source.size)


class Upload:
    """One blob that arrives. Owns its temporary file until `finish` or `abandon`, one of which must be
    called.

    `add` counts a running total and refuses at the first byte too many, so that no more than `max_bytes` are
    ever held. `add`, `finish` and `abandon` block.
    """

    def __init__(self, directory: BlobDirectory, sha256: str, size: int, incoming: Path) -> None:
        self._directory = directory
        self._sha256 = sha256
        self._size = size
        self._incoming = incoming
        self._total = 0
        self._hash = hashlib.sha256()
        self._path: Path | None = None
        self._file: BinaryIO | None = None

    def add(self, chunk: bytes) -> None:
        """Take the next bytes. Raises Exhausted (SOURCE_TOO_LARGE) and BadRequest (DIGEST_MISMATCH)."""
        self._total += len(chunk)
        if self._total > self._directory.max_bytes:
            raise _too_large(self._directory.max_bytes)
        if self._total > self._size:
            raise BadRequest("DIGEST_MISMATCH", f"more bytes came than the {self._size} that the header says")
        if self._file is None:
            handle, name = tempfile.mkstemp(dir=self._incoming)
            self._path = Path(name)
            self._file = os.fdopen(handle, "w+b")
        self._hash.update(chunk)
        self._file.write(chunk)

    def finish(self, check: Callable[[BinaryIO], None]) -> Source:
        """Hold the bytes to digest and size, `check` them, and make them durable under their digest.

        Raises BadRequest (EMPTY_SOURCE, DIGEST_MISMATCH) and whatever `check` raises.
        """
        if self._file is None or self._path is None:
            raise BadRequest("EMPTY_SOURCE", "the source is empty: not a byte came")
        found = self._hash.hexdigest()
        if found != self._sha256:
            raise BadRequest(
                "DIGEST_MISMATCH", f"{self._total} bytes came whose SHA-256 is {found}, not {self._sha256}"
            )
        source = Source(found, self._total)
        self._file.seek(0)
        check(self._file)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._directory._take(self._path, source)
        return source

    def abandon(self) -> None:
        """Forget what came; harmless after `finish`."""
        if self._file is not None:
            self._file.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def _too_large(max_bytes: int) -> Exhausted:
    return Exhausted(
        "SOURCE_TOO_LARGE",
        f"the source is larger than the {max_bytes:,} bytes that this manager takes",
        max_source_bytes=str(max_bytes),
    )


def _fsync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
