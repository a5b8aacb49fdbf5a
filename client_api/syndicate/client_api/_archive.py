"""Looks into an archive before it is sent: is it one, is it whole, where is its Makefile."""

from __future__ import annotations

import tarfile
import zlib
from typing import IO, cast

from syndicate.client_api._errors import NoMakefile, PackError
from syndicate.client_api._makefile import MAKEFILE_NAMES, MAX_MAKEFILE_BYTES

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_OTHERS = {b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip", b"Rar!": "rar", b"7z\xbc\xaf": "7-Zip"}
_TAR_BLOCK = 512
# A source this small that unpacks to more is left to the manager and its sandbox to judge.
_MAX_UNPACKED = 1 << 30
_REMEDY = "A source is a folder, or a .tar, .tar.gz, .tgz or .tar.zst file."


def inspect_archive(file: IO[bytes], label: str) -> str | None:
    """Returns the text of the archive's Makefile, or None where that cannot be told (zstd, or huge unpacked).

    Raises PackError for what is no archive or a part of one, NoMakefile where there is none at its root.
    Where all of it lies in one folder, as in the archives that GitHub makes, that folder is its root, as it
    is for the manager and the volunteers.
    """
    start = file.read(_TAR_BLOCK)
    file.seek(0)
    if start.startswith(_ZSTD):
        return None  # the standard library has no zstd: the manager looks
    for magic, kind in _OTHERS.items():
        if start.startswith(magic):
            raise PackError(f"{label} is a {kind} file", _REMEDY)
    bounded = _Bounded(file, gunzip=start.startswith(_GZIP))
    try:
        return _makefile_of(bounded, label)
    except _TooMuch:
        return None
    except (EOFError, zlib.error, tarfile.ReadError) as error:
        if bounded.unpacked >= _TAR_BLOCK and bounded.seemed_tar:
            raise PackError(f"{label} is cut short or damaged ({error})", "Pack it again.") from None
        raise PackError(f"{label} is not a tar archive", _REMEDY) from None


def _makefile_of(bounded: _Bounded, label: str) -> str | None:
    # By the folder at the top that they lie in, "" for the root itself.
    found: dict[str, dict[str, str | None]] = {"": {}}
    tops: set[str] = set()
    # A stream, so that nothing has to seek and the bound holds.
    with tarfile.open(fileobj=cast("IO[bytes]", bounded), mode="r|") as tar:
        for entry in tar:
            path = entry.name.removeprefix("./").strip("/")
            if not path or path == ".":
                continue
            top, _, rest = path.partition("/")
            tops.add(top)
            folder, name = (top, rest) if rest else ("", path)
            if name in MAKEFILE_NAMES and not entry.isdir():
                # With a second folder at the top, neither is the root.
                wanted = not folder or len(tops) == 1
                found.setdefault(folder, {})[name] = _text_of(tar, entry) if wanted else None
    bounded.drain()
    if not tops:
        raise PackError(f"{label} is an empty archive", _REMEDY)
    below = [folder for folder in found if folder]
    root = found[""] or (found[below[0]] if below and len(tops) == 1 else {})
    for name in MAKEFILE_NAMES:
        if name in root:
            return root[name]
    if len(below) == 1:
        raise NoMakefile(
            f"{label} has its Makefile in the folder `{below[0]}`, not at its root",
            f"Submit the folder itself, or pack it with:  tar -C {below[0]} -czf {label} .",
        )
    raise NoMakefile(f"{label} has no Makefile", "A source needs a Makefile at its root.")


def _text_of(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> str | None:
    content = tar.extractfile(entry) if entry.isreg() and entry.size <= MAX_MAKEFILE_BYTES else None
    return None if content is None else content.read().decode(errors="replace")


class _TooMuch(Exception):
    """More was unpacked than is looked at."""


class _Bounded:
    """A file to read from, unzipped on the way, that ends the reading past a bound.

    Not gzip.GzipFile: this one tells a torn end from a clean one by itself, and counts.
    """

    def __init__(self, file: IO[bytes], gunzip: bool) -> None:
        self.unpacked = 0
        self.seemed_tar = False
        self._file = file
        self._gunzip = gunzip
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16) if gunzip else None
        self._ready = b""
        self._ended = False

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes, fewer only at the end."""
        while len(self._ready) < size and not self._ended:
            self._more()
        piece, self._ready = self._ready[:size], self._ready[size:]
        if self.unpacked == 0 and len(piece) >= 262:
            self.seemed_tar = piece[257:262] == b"ustar"
        self.unpacked += len(piece)
        if self.unpacked > _MAX_UNPACKED:
            raise _TooMuch
        return piece

    def drain(self) -> None:
        """Reads what stands behind the archive's end, so that a torn tail is noticed."""
        while self.read(1 << 16):
            pass

    def _more(self) -> None:
        if self._inflate is None:
            block = self._file.read(1 << 16)
            self._ended = not block
            self._ready += block
            return
        if self._inflate.eof:
            rest = self._inflate.unused_data or self._file.read(1 << 16)
            if not rest.startswith(_GZIP):  # zero padding, as gzip itself allows
                self._ended = True
                return
            self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
        else:
            rest = self._inflate.unconsumed_tail or self._file.read(1 << 14)
        if not rest:
            raise EOFError("the compressed data ends early")
        self._ready += self._inflate.decompress(rest, 1 << 16)
