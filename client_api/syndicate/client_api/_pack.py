"""Makes a folder or an archive ready to be sent: one reproducible archive with its digest."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import stat
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from syndicate.client_api._archive import inspect_archive
from syndicate.client_api._errors import MissingTarget, NoMakefile, PackError, SourceTooLarge
from syndicate.client_api._ignore import DEFAULT_NAMES, IGNORE_FILE, Ignore
from syndicate.client_api._makefile import MAKEFILE_NAMES, MAX_MAKEFILE_BYTES, check_makefile

DEFAULT_MAX_BYTES = 10 * 1024 * 1024
# One time for all files, so that an unchanged tree has an unchanged digest. Not 0: make takes files of the
# year 1970 for files with no time.
PACKED_MTIME = 1_000_000_000
_IN_MEMORY_BYTES = 1 << 20
_BLOCK = 1 << 20
_ARCHIVE_SUFFIX = re.compile(r"\.(tar|tgz|tar\.gz|tar\.zst|tzst)$", re.IGNORECASE)
_SPECIAL = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(slots=True)
class LeftOut:
    """What of a folder is not sent: paths relative to it, in order, a folder's with a slash behind.

    A folder counts as one: what is in it is not looked at.
    """

    by_default: list[str] = field(default_factory=list)
    """Caches, histories and the like, by their names."""
    by_pattern: list[str] = field(default_factory=list)
    """What ``.syndicateignore`` names."""


class Source:
    """An archive that can be sent. Holds an open file: close it, or use it in a ``with`` block."""

    def __init__(
        self,
        file: IO[bytes],
        *,
        sha256: str,
        size: int,
        name: str,
        label: str,
        makefile: str | None,
        left_out: LeftOut | None = None,
    ) -> None:
        self.sha256 = sha256
        """Of all bytes, 64 hexadecimal digits."""
        self.size = size
        """Bytes."""
        self.name = name
        """A job's name made from the path: ``[a-z0-9-]``, at most 63 characters."""
        self.label = label
        """The last part of the path, for messages."""
        self.makefile = makefile
        """The text of its Makefile; None where it cannot be told without unpacking."""
        self.left_out = left_out or LeftOut()
        """What of the folder stayed behind; nothing of an archive."""
        self._file = file

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Gives the file back."""
        self._file.close()

    def chunks(self, size: int) -> Iterator[bytes]:
        """All bytes, from the start, in pieces of ``size``."""
        self._file.seek(0)
        while chunk := self._file.read(size):
            yield chunk


def pack(
    path: str | os.PathLike[str], max_bytes: int = DEFAULT_MAX_BYTES, *, everything: bool = False
) -> Source:
    """Makes ``path`` ready to be sent.

    A folder becomes a .tar.gz that depends on names, contents, links and exec bits only: the same tree gives
    the same bytes. What ``.syndicateignore`` names stays behind, and, unless ``everything`` is asked for,
    what is of no use to a job: ``.git``, ``__pycache__``, ``.venv``, ``node_modules`` and the caches of mypy,
    pytest and ruff; the Source's ``left_out`` names it. A .tar, .tar.gz, .tgz or .tar.zst file is taken as it
    is. Raises PackError (NoMakefile, SourceTooLarge) with a remedy.
    """
    given = Path(path)
    try:
        mode = given.stat().st_mode
    except OSError as error:
        raise PackError(f"{given}: {_words(error)}") from None
    label = given.resolve().name or "source"
    try:
        if stat.S_ISDIR(mode):
            return _pack_folder(given.resolve(), label, max_bytes, everything)
        if stat.S_ISREG(mode):
            return _take_archive(given, label, max_bytes)
    except OSError as error:
        where = error.filename if isinstance(error.filename, str) else str(given)
        raise PackError(f"{where}: {_words(error)}", "Mend its permissions, or leave it out.") from None
    raise PackError(f"{given} is neither a folder nor an archive")


def require_targets(source: Source, targets: Sequence[str], who: str = "job") -> None:
    """Raises MissingTarget when the source's Makefile surely lacks one of ``targets``."""
    if source.makefile is None:
        return
    check = check_makefile(source.makefile, targets)
    if not check.missing:
        return
    plural = "s" if len(check.missing) > 1 else ""
    needed = "s" if len(targets) > 1 else ""
    raise MissingTarget(
        f"{source.label} has no Makefile target{plural} {_listed(check.missing)}",
        f"A {who} needs the target{needed} {_listed(targets)}. Found: {', '.join(check.found) or 'none'}.",
    )


def job_name(label: str) -> str:
    """A job's name from a file's name: ``[a-z0-9-]``, at most 63 characters, never empty."""
    stem = _ARCHIVE_SUFFIX.sub("", label).lower()
    return re.sub(r"[^a-z0-9]+", "-", stem).strip("-")[:63].strip("-") or "job"


def _listed(names: Sequence[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def _words(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _pack_folder(root: Path, label: str, max_bytes: int, everything: bool) -> Source:
    chosen = _Chosen(root, _read_ignore(root), () if everything else DEFAULT_NAMES)
    makefile = _folder_makefile(root, label)
    file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115 - the Source owns it
    try:
        with (
            gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            for path in chosen.entries():
                _add(tar, root, path)
                if file.tell() > max_bytes:
                    raise _too_large(label, max_bytes)
        return _source(file, label, makefile, max_bytes, chosen.left_out)
    except BaseException:
        file.close()
        raise


def _take_archive(path: Path, label: str, max_bytes: int) -> Source:
    size = path.stat().st_size
    if size == 0:
        raise PackError(f"{label} is empty", "Name a folder or a .tar, .tar.gz, .tgz or .tar.zst file.")
    if size > max_bytes:
        raise _too_large(label, max_bytes, size)
    file = path.open("rb")
    try:
        makefile = inspect_archive(file, label)
        return _source(file, label, makefile, max_bytes)
    except BaseException:
        file.close()
        raise


def _source(
    file: IO[bytes], label: str, makefile: str | None, max_bytes: int, left_out: LeftOut | None = None
) -> Source:
    digest, size = hashlib.sha256(), 0
    file.seek(0)
    while block := file.read(_BLOCK):
        digest.update(block)
        size += len(block)
    if size > max_bytes:
        raise _too_large(label, max_bytes, size)
    return Source(
        file,
        sha256=digest.hexdigest(),
        size=size,
        name=job_name(label),
        label=label,
        makefile=makefile,
        left_out=left_out,
    )


def _too_large(label: str, max_bytes: int, size: int | None = None) -> SourceTooLarge:
    limit = max_bytes / (1 << 20)
    what = f"{size / (1 << 20):.1f} MiB" if size is not None else f"more than {limit:g} MiB"
    return SourceTooLarge(
        f"{label} is {what} packed; the manager takes at most {limit:g} MiB",
        f"Leave out what can be built or fetched: name it in {IGNORE_FILE}.",
    )


def _read_ignore(root: Path) -> Ignore:
    path = root / IGNORE_FILE
    return Ignore.parse(path.read_text(errors="replace") if path.is_file() else "")


def _folder_makefile(root: Path, label: str) -> str | None:
    for name in MAKEFILE_NAMES:
        path = root / name
        if not path.is_file():
            continue
        # A link out of the tree is none of our business to read.
        if not path.resolve().is_relative_to(root) or path.stat().st_size > MAX_MAKEFILE_BYTES:
            return None
        return path.read_text(errors="replace")
    if not any(root.iterdir()):
        raise PackError(f"{label} is empty", "Name a folder with a Makefile in it.")
    raise NoMakefile(f"{label} has no Makefile", "A source needs a Makefile at its root.")


class _Chosen:
    """What of a folder is sent, and what is not."""

    def __init__(self, root: Path, ignore: Ignore, default_names: Sequence[str]) -> None:
        self.left_out = LeftOut()
        self._root = root
        self._ignore = ignore
        self._default_names = frozenset(default_names)

    def entries(self, inside: str = "") -> Iterator[str]:
        """Paths of all that is sent, relative, parents first, in one order for every machine."""
        for name in sorted(os.listdir(self._root / inside), key=os.fsencode):
            path = f"{inside}/{name}" if inside else name
            is_folder = stat.S_ISDIR((self._root / path).lstat().st_mode)
            if self._ignore.matches(path, is_folder):
                self.left_out.by_pattern.append(path + "/" * is_folder)
            elif name in self._default_names:
                self.left_out.by_default.append(path + "/" * is_folder)
            else:
                yield path
                if is_folder:
                    yield from self.entries(path)


def _add(tar: tarfile.TarFile, root: Path, path: str) -> None:
    full = root / path
    found = full.lstat()
    entry = tarfile.TarInfo(path)
    entry.mtime = PACKED_MTIME
    kind = stat.S_IFMT(found.st_mode)
    if kind == stat.S_IFDIR:
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(entry)
    elif kind == stat.S_IFLNK:
        entry.type, entry.mode, entry.linkname = tarfile.SYMTYPE, 0o777, os.readlink(full)
        tar.addfile(entry)
    elif kind == stat.S_IFREG:
        with full.open("rb") as content:
            # The size of the open file, not of the name: it may have been replaced since.
            entry.size = os.fstat(content.fileno()).st_size
            entry.mode = 0o755 if found.st_mode & 0o111 else 0o644
            try:
                tar.addfile(entry, content)
            except OSError as error:
                if error.errno is None:  # tarfile's own: the file became shorter
                    raise PackError(f"{path} changed while it was read", "Try again.") from None
                raise
    else:
        what = _SPECIAL.get(kind, "of an unknown kind")
        raise PackError(
            f"{path} is {what}; only files, folders and links can be sent",
            f"Remove it, or name it in {IGNORE_FILE}.",
        )
