"""The source cache: tarballs by their SHA-256 in one folder, bounded, and kept while a slot needs them.

A file appears under its digest only when it is whole and the digest was verified. It is world-unreadable
(0640): the keeper is root and reads it, tasks never see the folder. Nothing is synced to the disk: what is
found at a start is verified before its first use instead.

Beside a gzipped source of moderate size lies what it expands to (`<digest>.tar`), for the keeper to unpack
from: decompressing is done once here, with no privilege, instead of at each start. It is made anew after a
restart.

Which slot needs which source is written down too (`pins/<slot>`): after a restart of the volunteer a task
without disk is still revived from its source.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
import re
import zlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio

from .core.model import Source

DEFAULT_LIMIT_BYTES = 2 << 30
_DIGEST = re.compile(r"[0-9a-f]{64}")
_AGAIN = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.ABORTED}
_RETRY_S = 0.2
# Larger ones are expanded in the sandbox, against the task's own bounds.
_MOST_EXPANDED_BYTES = 64 << 20

Fetch = Callable[[str], AsyncIterator[bytes]]
"""Makes a stream of a digest's chunks; raises grpc.aio.AioRpcError, or OSError where no call can be made."""


class FetchFailed(Exception):
    """A source could not be had: one line that says why."""


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """Where and how much. `fetch_timeout_s` bounds one source with all its tries."""

    folder: Path
    pins: Path
    limit_bytes: int = DEFAULT_LIMIT_BYTES
    fetch_timeout_s: float = 45.0


class SourceCache:
    """Sources by digest; used on one loop by one process."""

    def __init__(self, settings: CacheSettings) -> None:
        self._settings = settings
        self._sizes: OrderedDict[str, int] = OrderedDict()  # the least recently used first
        self._unverified: set[str] = set()
        self._pins: dict[int, str] = {}
        self._fetching: dict[str, asyncio.Task[None]] = {}

    def open(self) -> None:
        """Takes over what is there; leftovers of fetches are removed. Raises OSError."""
        self._settings.folder.mkdir(parents=True, exist_ok=True)
        self._settings.pins.mkdir(parents=True, exist_ok=True)
        found = []
        with os.scandir(self._settings.folder) as entries:
            for entry in entries:
                if _DIGEST.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    found.append((status.st_mtime_ns, entry.name, status.st_size))
                elif entry.name.startswith(".fetch-") or entry.name.endswith(".tar"):
                    os.unlink(entry.path)
        for _, name, size in sorted(found):
            self._sizes[name] = size
        self._unverified = set(self._sizes)
        for path in self._settings.pins.iterdir():
            digest = path.read_text()
            if path.name.isdecimal() and _DIGEST.fullmatch(digest):
                self._pins[int(path.name)] = digest

    @property
    def held_bytes(self) -> int:
        """What all sources take, expanded ones too."""
        return sum(self._sizes.values())

    @property
    def sources(self) -> int:
        """How many are there."""
        return len(self._sizes)

    async def close(self) -> None:
        """Ends all fetches."""
        fetching = list(self._fetching.values())
        for task in fetching:
            task.cancel()
        if fetching:
            await asyncio.wait(fetching)

    def holds(self, source: Source) -> bool:
        """Whether a source is there and was verified; counts as a use."""
        if source.sha256 not in self._sizes or source.sha256 in self._unverified:
            return False
        self._sizes.move_to_end(source.sha256)
        return True

    def pin(self, slot: int, digest: str) -> None:
        """Keeps a source for a slot until `unpin` or another `pin`. Raises OSError."""
        if self._pins.get(slot) != digest:
            (self._settings.pins / str(slot)).write_text(digest)
            self._pins[slot] = digest

    def unpin(self, slot: int) -> None:
        """The slot needs its source no more. Raises OSError."""
        if self._pins.pop(slot, None) is not None:
            (self._settings.pins / str(slot)).unlink(missing_ok=True)
            self._evict()

    async def ensure(self, source: Source, fetch: Fetch) -> None:
        """Returns when the source is there; who asks for one that is being fetched waits with the first.

        A caller that is cancelled leaves the fetch to its end: the source will be wanted again. Raises
        FetchFailed.
        """
        if self.holds(source):
            return
        task = self._fetching.get(source.sha256)
        if task is None:
            task = asyncio.create_task(self._fetch(source, fetch))
            self._fetching[source.sha256] = task
            task.add_done_callback(lambda done: self._fetched(source.sha256, done))
        await asyncio.shield(task)

    def _fetched(self, digest: str, task: asyncio.Task[None]) -> None:
        self._fetching.pop(digest, None)
        if not task.cancelled():
            task.exception()  # who waited has it; where nobody waits any more it is of no use

    async def _fetch(self, source: Source, fetch: Fetch) -> None:
        digest, why = source.sha256, ""
        if digest in self._unverified and await self._verify(digest):
            await self._expand(digest)
            return
        try:
            async with asyncio.timeout(self._settings.fetch_timeout_s):
                while True:
                    try:
                        await self._fetch_once(source, fetch)
                        return
                    except grpc.aio.AioRpcError as error:
                        why = error.details() or error.code().name
                        if error.code() not in _AGAIN:
                            raise FetchFailed(f"source {digest[:12]}… cannot be fetched: {why}") from error
                    await asyncio.sleep(_RETRY_S)
        except TimeoutError:
            limit = self._settings.fetch_timeout_s
            raise FetchFailed(
                f"source {digest[:12]}… was not fetched within {limit:g} s: {why or 'too slow'}"
            ) from None
        except OSError as error:
            raise FetchFailed(f"source {digest[:12]}… cannot be stored: {error}") from error

    async def _verify(self, digest: str) -> bool:
        """Whether a file from before holds what its name says; one that does not is removed."""
        path = self._settings.folder / digest
        try:
            right = await asyncio.to_thread(_digest_of, path) == digest
        except OSError:
            right = False
        self._unverified.discard(digest)
        if not right:
            self._sizes.pop(digest, None)
            path.unlink(missing_ok=True)
        return right

    async def _fetch_once(self, source: Source, fetch: Fetch) -> None:
        partial = self._settings.folder / f".fetch-{source.sha256}"
        most = source.size or self._settings.limit_bytes
        hashed, size = hashlib.sha256(), 0
        # Chunks go into the page cache: a write is over before a hop to a thread would be.
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
        try:
            with open(descriptor, "wb", buffering=0) as file:  # noqa: ASYNC230  # see above
                async for chunk in fetch(source.sha256):
                    size += len(chunk)
                    if size > most:
                        raise FetchFailed(
                            f"source {source.sha256[:12]}… is larger than the {most:,} bytes told"
                        )
                    hashed.update(chunk)
                    file.write(chunk)
            if hashed.hexdigest() != source.sha256:
                raise FetchFailed(f"source {source.sha256[:12]}… came with another digest")
            os.replace(partial, self._settings.folder / source.sha256)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        self._sizes[source.sha256] = size
        await self._expand(source.sha256)

    async def _expand(self, digest: str) -> None:
        """Lays what a source expands to beside it; a damaged or too large one is left to the sandbox."""
        path = self._settings.folder / digest
        expanded = await asyncio.to_thread(_gunzip, path, self._settings.folder / f"{digest}.tar")
        if digest in self._sizes:
            self._sizes[digest] += expanded
        self._evict(keep=digest)

    def _evict(self, keep: str = "") -> None:
        """Removes the least recently used until the bound is kept; what a slot needs stays, even past it."""
        total = sum(self._sizes.values())
        needed = {*self._pins.values(), keep}
        for digest in [name for name in self._sizes if name not in needed]:
            if total <= self._settings.limit_bytes:
                return
            total -= self._sizes.pop(digest)
            self._remove(digest)

    def _remove(self, digest: str) -> None:
        (self._settings.folder / digest).unlink(missing_ok=True)
        (self._settings.folder / f"{digest}.tar").unlink(missing_ok=True)


def _gunzip(source: Path, target: Path) -> int:
    """Expands a gzip file to `target`, which is there only when whole. Returns its bytes, or 0.

    Not a gzip file, damaged, larger than `_MOST_EXPANDED_BYTES`, or no room: then there is no target.
    """
    partial = target.with_name(f".fetch-{target.name}")
    size = 0
    try:
        with source.open("rb") as raw:
            if raw.read(2) != b"\x1f\x8b":
                return 0
            raw.seek(0)
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
            with open(descriptor, "wb") as file, gzip.open(raw) as stream:
                while data := stream.read(1 << 20):
                    size += len(data)
                    if size > _MOST_EXPANDED_BYTES:
                        return 0
                    file.write(data)
        os.replace(partial, target)
        return size
    except (OSError, EOFError, zlib.error):
        return 0
    finally:
        partial.unlink(missing_ok=True)


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
