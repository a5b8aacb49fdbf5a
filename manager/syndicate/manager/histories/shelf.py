"""The histories of one attempt of a job: `histories/<job>/<attempt>/<task>/<name>.data`.

Beside each stands `<name>.state`: how many of its bytes were acknowledged, and its digest once it is whole.
Bytes past those were never acknowledged: a manager that was killed within a piece leaves some, and they are
cut off before the next piece is written. `.final` in a task's folder holds the generation that said that it
hands nothing more over. Nothing is synced, as with logs: what a crash of the machine takes is missing from
the file's end, and then the history is not whole. Everything here blocks.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..core.errors import BadRequest, Exhausted, NotFound, Refused
from ..core.names import is_name

if TYPE_CHECKING:
    from hashlib import _Hash as Digest

PIECE_BYTES: Final = 192 << 10
"""The largest piece that one call brings: a volunteer's relay takes messages of 256 KiB."""
DEFAULT_NAME: Final = "history"

# It begins with a letter or a digit, so that none is hidden, or a way up.
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_STATE: Final = re.compile(rb"(\d{20}) ([0-9a-f]{64}|-{64})\n")
_NO_DIGEST: Final = "-" * 64
_BLOCK: Final = 1 << 20
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that clients hand over: bytes and histories, of one, of a task and of an attempt."""

    history_bytes: int = 64 << 20
    job_bytes: int = 256 << 20
    histories: int = 16
    # They are listed in one answer, which a relay carries.
    job_histories: int = 1200


@dataclass(frozen=True, slots=True)
class Kept:
    """A history as far as it was acknowledged; `sha256` is empty until it is whole."""

    task: str
    name: str
    size: int = 0
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Piece:
    """What one call brings, from one generation of a task. Its fields are as chaos.proto has them."""

    task: str
    generation: int
    name: str
    offset: int
    data: bytes
    sha256: str = ""
    final: bool = False


class Shelf:
    """Has one folder, and is the only one that writes there. Not thread-safe: one call at a time."""

    def __init__(self, folder: Path, bounds: Bounds) -> None:
        """Reads what is there. Raises OSError."""
        self._folder = folder
        self._bounds = bounds
        self._kept: dict[tuple[str, str], Kept] = {}
        self._finals: dict[str, int] = {}
        # Of what is open, as far as it goes, so that a last piece with a wrong one costs no more than any.
        self._digests: dict[tuple[str, str], Digest] = {}
        for state in folder.glob("*/*.state"):
            kept = _recovered(state)
            self._kept[kept.task, kept.name] = kept
        for final in folder.glob("*/.final"):
            with contextlib.suppress(ValueError):  # torn by a crash of the machine: not said
                self._finals[final.parent.name] = int(final.read_bytes())

    @property
    def kept(self) -> tuple[Kept, ...]:
        """All histories, by task and name."""
        return tuple(kept for _, kept in sorted(self._kept.items()))

    @property
    def finals(self) -> dict[str, int]:
        """By task the generation that said that it hands nothing more over."""
        return dict(self._finals)

    def put(self, piece: Piece) -> int:
        """Keep a piece; answers how many bytes of its history are kept.

        Raises BadRequest, Exhausted and Refused, and OSError where it cannot be written.
        """
        name = _checked(piece)
        old = self._kept.get((piece.task, name), Kept(piece.task, name))
        fresh = self._fresh(old, piece)
        closes = bool(piece.sha256) and not old.sha256
        if fresh or closes or (piece.task, name) not in self._kept:
            self._check_room(old, piece, len(fresh))
            self._kept[piece.task, name] = old = self._write(old, fresh, piece.sha256 if closes else "")
        if piece.final:
            self._say_final(piece)
        return old.size

    def read(self, task: str, name: str, offset: int, most: int) -> bytes:
        """Up to `most` bytes from an offset on; empty at the end. Raises BadRequest, NotFound and OSError."""
        kept = self._kept.get((task, name or DEFAULT_NAME))
        if kept is None:
            raise NotFound(
                "NO_SUCH_HISTORY", f"{task[:64]!r} has handed no history {name[:64]!r} over", name=name[:64]
            )
        if offset < 0:
            raise BadRequest("BAD_FIELD", f"offset is {offset}", field="offset")
        return self._read(kept, offset, most)

    # ---- help -------------------------------------------------------------------------------------------

    def _fresh(self, old: Kept, piece: Piece) -> bytes:
        """What of a piece is not kept yet. Raises where it does not go on from what is."""
        if piece.offset > old.size:
            text = f"offset is {piece.offset}, and the manager has {old.size} bytes: nothing may be left out"
            raise BadRequest("BAD_FIELD", text, field="offset", have=str(old.size))
        again = piece.data[: old.size - piece.offset]
        if again != self._read(old, piece.offset, len(again)):
            raise Refused(
                "HISTORY_CLOSED",
                f"there is another history {old.name} of {old.task}: give this one a name",
                name=old.name,
            )
        fresh = piece.data[len(again) :]
        ends_here = piece.offset + len(piece.data) >= old.size
        if old.sha256 and (fresh or (piece.sha256 and (piece.sha256 != old.sha256 or not ends_here))):
            text = f"the history {old.name} of {old.task} is whole already"
            raise Refused("HISTORY_CLOSED", text, name=old.name)
        if piece.sha256 and not ends_here:
            text = f"the last piece ends before byte {old.size}, which the manager has"
            raise BadRequest("BAD_FIELD", text, field="sha256", have=str(old.size))
        return fresh

    def _check_room(self, old: Kept, piece: Piece, fresh: int) -> None:
        bounds, task = self._bounds, piece.task
        if self._finals.get(task, -1) >= piece.generation:
            raise Refused("HISTORY_CLOSED", f"{task} has said that it hands nothing more over")
        if old.size + fresh > bounds.history_bytes:
            raise _too_large("bytes in a history", bounds.history_bytes)
        if sum(kept.size for kept in self._kept.values()) + fresh > bounds.job_bytes:
            raise _too_large("bytes of histories in a job", bounds.job_bytes)
        if (old.task, old.name) in self._kept:
            return
        if sum(kept.task == task for kept in self._kept.values()) >= bounds.histories:
            raise _too_large("histories of a client", bounds.histories)
        if len(self._kept) >= bounds.job_histories:
            raise _too_large("histories in a job", bounds.job_histories)

    def _write(self, old: Kept, fresh: bytes, sha256: str) -> Kept:
        new = Kept(old.task, old.name, old.size + len(fresh), sha256)
        data, state = self._paths(old)
        try:
            data.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with data.open("r+b" if data.exists() else "w+b", buffering=0) as file:
                digest = self._digest_of(old, file.fileno())
                digest.update(fresh)
                if sha256 and (found := digest.hexdigest()) != sha256:
                    text = f"the digest of the {new.size} bytes is {found}, and not {sha256}"
                    raise BadRequest("BAD_FIELD", text, field="sha256")
                file.truncate(old.size)  # what was never acknowledged
                _write_at(file.fileno(), fresh, old.size)
            # In one step over what it said before: one of the two is always true.
            line = f"{new.size:020d} {sha256 or _NO_DIGEST}\n".encode()
            with state.open("r+b" if state.exists() else "w+b", buffering=0) as file:
                _write_at(file.fileno(), line, 0)
        except OSError as error:
            raise _no_room(error) from error
        self._digests[old.task, old.name] = digest
        if sha256:
            del self._digests[old.task, old.name]
        return new

    def _digest_of(self, kept: Kept, descriptor: int) -> Digest:
        """Of all that was acknowledged: read once, and then kept."""
        known = self._digests.get((kept.task, kept.name))
        return known.copy() if known is not None else _digest(descriptor, kept.size)

    def _say_final(self, piece: Piece) -> None:
        if self._finals.get(piece.task, -1) >= piece.generation:
            return
        try:
            (self._folder / piece.task / ".final").write_bytes(b"%d" % piece.generation)
        except OSError as error:
            raise _no_room(error) from error
        self._finals[piece.task] = piece.generation

    def _read(self, kept: Kept, offset: int, most: int) -> bytes:
        most = min(most, kept.size - offset)
        if most <= 0:
            return b""
        with self._paths(kept)[0].open("rb", buffering=0) as file:
            return os.pread(file.fileno(), most, offset)

    def _paths(self, kept: Kept) -> tuple[Path, Path]:
        folder = self._folder / kept.task
        return folder / f"{kept.name}.data", folder / f"{kept.name}.state"


def remove_job(root: Path, job_id: int) -> None:
    """Remove all histories of a job whose clients hand nothing more over. Blocks. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(root / str(job_id))


def sizes(root: Path) -> dict[int, int]:
    """Bytes of each job that has any, the oldest job first. Blocks. Raises OSError."""
    found = {}
    for folder in root.iterdir() if root.exists() else ():
        if folder.name.isdecimal():
            found[int(folder.name)] = sum(path.stat().st_size for path in folder.glob("*/*/*.data"))
    return dict(sorted(found.items()))


def _checked(piece: Piece) -> str:
    """The name of a piece's history. Raises BadRequest; ValueError for what is no task."""
    if not is_name(piece.task):
        raise ValueError(f"{piece.task!r} is no name of a task")
    name = piece.name or DEFAULT_NAME
    if _NAME.fullmatch(name) is None:
        text = f"name is {name[:64]!r}, and not up to 63 of [a-z0-9.-] that begin with a letter or a digit"
        raise BadRequest("BAD_FIELD", text, field="name")
    if piece.offset < 0:
        raise BadRequest("BAD_FIELD", f"offset is {piece.offset}", field="offset")
    if len(piece.data) > PIECE_BYTES:
        text = f"data has {len(piece.data):,} bytes; a piece has at most {PIECE_BYTES:,}"
        raise BadRequest("BAD_FIELD", text, field="data")
    if piece.sha256 and _DIGEST.fullmatch(piece.sha256) is None:
        text = "sha256 is not a SHA-256 of 64 lower-case hexadecimal digits"
        raise BadRequest("BAD_FIELD", text, field="sha256")
    if piece.final and not piece.sha256:
        text = "final comes with the last piece of the last history, and so with its sha256"
        raise BadRequest("BAD_FIELD", text, field="final")
    return name


def _recovered(state: Path) -> Kept:
    """What a state says, as far as the bytes are there."""
    task, name = state.parent.name, state.name.removesuffix(".state")
    said = _STATE.fullmatch(state.read_bytes())
    if said is None:  # by a crash of the machine, or at the first piece
        return Kept(task, name)
    size, sha256 = int(said[1]), said[2].decode().strip("-")
    try:
        there = state.with_name(f"{name}.data").stat().st_size
    except FileNotFoundError:  # a removal that was broken off left the state
        there = 0
    return Kept(task, name, size, sha256) if size <= there else Kept(task, name, there)


def _digest(descriptor: int, size: int) -> Digest:
    digest = hashlib.sha256()
    at = 0
    while block := os.pread(descriptor, min(_BLOCK, size - at), at):
        digest.update(block)
        at += len(block)
    return digest


def _write_at(descriptor: int, data: bytes, offset: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[written:], offset + written


def _too_large(what: str, most: int) -> Exhausted:
    return Exhausted("HISTORY_TOO_LARGE", f"there are at most {most:,} {what}", most=str(most))


def _no_room(error: OSError) -> Exception:
    if error.errno in _NO_ROOM:
        text = f"the manager has no room for histories: {error.strerror}"
        return Exhausted("HISTORY_TOO_LARGE", text)
    return error
