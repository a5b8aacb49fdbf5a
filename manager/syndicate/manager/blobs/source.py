"""Looks at an uploaded source before anyone runs it: is it a whole tarball with a Makefile?

Only names are read, nothing is unpacked. What passes here can still be refused by the volunteer that unpacks
it; this check is there so that the common mistakes are told at once, to the person who made them.
"""

from __future__ import annotations

import tarfile
import zlib
from typing import BinaryIO, Final, cast

from ..core.errors import BadRequest, CoreError, Exhausted

MAX_EXPANDED_BYTES: Final = 1 << 30
# Each costs a check about 12 µs of one thread, and the interpreter with it.
MAX_ENTRIES: Final = 50_000

# The names that GNU make looks for.
_MAKEFILES: Final = frozenset({"Makefile", "makefile", "GNUmakefile"})
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_BLOCK: Final = 512
_READ: Final = 256 << 10
# Headers that carry a long name or attributes of the next entry.
_EXTENSIONS: Final = frozenset(
    {
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
    }
)
_MAX_EXTENSION_BYTES: Final = 64 << 10
_MAX_EXTENSIONS_BYTES: Final = 16 << 20


def check_source(
    file: BinaryIO, max_expanded_bytes: int = MAX_EXPANDED_BYTES, max_entries: int = MAX_ENTRIES
) -> None:
    """Check the tarball from the file's position on. Blocks, and reads all of it.

    Raises BadRequest (EMPTY_SOURCE, NOT_A_TAR, TRUNCATED_SOURCE, NO_MAKEFILE) and Exhausted
    (SOURCE_TOO_LARGE). Of a zstd tarball only the magic is looked at: Python 3.11 cannot decompress it, the
    volunteer's tar can.
    """
    start = file.tell()
    magic = file.read(4)
    file.seek(start)
    if not magic:
        raise BadRequest("EMPTY_SOURCE", "the source is empty")
    if magic == _ZSTD:
        return
    expanded = _Expanded(file, gzip=magic[:2] == _GZIP, max_bytes=max_expanded_bytes)
    listing = _Listing(max_entries)
    _walk(expanded, listing)
    if not listing.entries:
        raise BadRequest("EMPTY_SOURCE", "the source is a tarball without a file in it")
    if not listing.has_makefile():
        raise BadRequest(
            "NO_MAKEFILE", "the source has no Makefile at its top: make the tarball from inside your folder"
        )


class _Expanded:
    """The tarball's bytes, decompressed as they are read, with a bound on their number."""

    def __init__(self, file: BinaryIO, *, gzip: bool, max_bytes: int) -> None:
        self.total = 0
        self._file = file
        self._gzip = gzip
        self._max_bytes = max_bytes
        self._member = zlib.decompressobj(wbits=31) if gzip else None
        self._left = b""

    def read(self, size: int = _READ) -> bytes:
        data = self._inflate(size) if self._gzip else self._file.read(size)
        self.total += len(data)
        if self.total > self._max_bytes:
            raise Exhausted("SOURCE_TOO_LARGE", f"the source expands to more than {self._max_bytes:,} bytes")
        return data

    def drain(self) -> None:
        """Read the rest, so that gzip's checksum is reached."""
        while self.read():
            pass

    def _inflate(self, size: int) -> bytes:
        while self._member is not None:
            raw = self._left or self._file.read(_READ)
            try:
                data = self._member.decompress(raw, size)
            except zlib.error as error:
                raise BadRequest(
                    "TRUNCATED_SOURCE", f"the source's gzip stream is damaged: {error}"
                ) from None
            self._left = self._member.unconsumed_tail
            if self._member.eof:
                self._begin_next_member()
            elif not raw and not data:
                raise BadRequest(
                    "TRUNCATED_SOURCE", "the source's gzip stream is cut short: upload all of it"
                )
            if data:
                return data
        return b""

    def _begin_next_member(self) -> None:
        assert self._member is not None  # noqa: S101 - narrows the type
        # gzip takes several members one after the other, and zeros after the last.
        rest = self._member.unused_data or self._file.read(_READ)
        rest = rest.lstrip(b"\0")
        self._left = rest
        self._member = zlib.decompressobj(wbits=31) if rest[:2] == _GZIP else None


class _Listing:
    """What matters of the names: how many, the last, and a Makefile at the top or in the only top folder."""

    def __init__(self, max_entries: int) -> None:
        self.entries = 0
        self.last = ""
        self._max_entries = max_entries
        self._tops: set[str] = set()
        self._top_files = False
        self._at_top = False
        self._one_below: set[str] = set()

    def see(self, name: str, *, is_directory: bool) -> None:
        self.entries += 1
        self.last = name
        if self.entries > self._max_entries:
            raise Exhausted(
                "SOURCE_TOO_LARGE", f"the source has more than {self._max_entries:,} files and folders"
            )
        parts = [p for p in name.split("/") if p not in ("", ".")]
        if not parts:
            return
        if len(parts) == 1 and not is_directory:
            self._top_files = True
            self._at_top |= parts[0] in _MAKEFILES
        elif len(self._tops) < 2:
            self._tops.add(parts[0])
        if len(parts) == 2 and parts[1] in _MAKEFILES and not is_directory and parts[0] in self._tops:
            self._one_below.add(parts[0])

    def has_makefile(self) -> bool:
        return self._at_top or (
            len(self._tops) == 1 and not self._top_files and self._tops == self._one_below
        )


def _walk(expanded: _Expanded, listing: _Listing) -> None:
    """Show every entry to the listing, and hold the archive to be whole."""
    bad_headers: list[str] = []
    extensions = 0
    # Two zero blocks, or no more bytes. typeshed does not know these names; tarfile has had them since 3.2.
    ends = (tarfile.EOFHeaderError, tarfile.EmptyHeaderError)  # type: ignore[attr-defined]

    class Header(tarfile.TarInfo):
        """tarfile takes a bad header behind the first entry for the end of the archive: notice it."""

        @classmethod
        def fromtarfile(cls, tar: tarfile.TarFile) -> Header:
            try:
                return super().fromtarfile(tar)
            except tarfile.HeaderError as error:
                if not isinstance(error, ends):
                    bad_headers.append(str(error))
                raise

        def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo | None:
            # An extension is read whole into memory, one after the other by recursion: bound both.
            nonlocal extensions
            if self.type == tarfile.GNUTYPE_SPARSE:
                raise BadRequest("NOT_A_TAR", "the source holds a sparse file: pack it without --sparse")
            if self.type in _EXTENSIONS:
                extensions += max(self.size, _BLOCK)
                if not 0 <= self.size <= _MAX_EXTENSION_BYTES or extensions > _MAX_EXTENSIONS_BYTES:
                    raise Exhausted(
                        "SOURCE_TOO_LARGE", "the source has names or attributes of more than 64 KiB"
                    )
            found: tarfile.TarInfo | None = super()._proc_member(tar)  # type: ignore[misc]  # not in typeshed
            return found

    try:
        with tarfile.open(
            fileobj=cast(BinaryIO, expanded),  # a stream is only read
            mode="r|",
            bufsize=_READ,
            tarinfo=Header,
            encoding="utf-8",
            errors="surrogateescape",
        ) as tar:
            while (entry := tar.next()) is not None:
                listing.see(entry.name, is_directory=entry.isdir())
                # tarfile keeps every entry for seeking back, which a stream cannot do.
                tar.members.clear()  # type: ignore[attr-defined]  # missing in typeshed
            end = tar.offset
        expanded.drain()
    except CoreError:
        raise
    except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as error:
        raise _not_whole(listing, str(error)) from None
    if bad_headers:
        raise _not_whole(listing, bad_headers[0])
    if expanded.total < end + _BLOCK:
        raise BadRequest("TRUNCATED_SOURCE", "the source's tar ends before its end mark: upload all of it")


def _not_whole(listing: _Listing, why: str) -> BadRequest:
    if listing.entries:
        return BadRequest(
            "TRUNCATED_SOURCE",
            f"the source's tar is cut short or damaged behind {listing.last[:200]!r}: {why[:200]}",
        )
    return BadRequest("NOT_A_TAR", "the source is no tarball: plain tar, gzip and zstd are taken")
