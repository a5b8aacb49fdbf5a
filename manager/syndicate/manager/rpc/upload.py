"""UploadSource: takes a source chunk by chunk, and has it checked."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Final

import grpc
from syndicate.v1 import scheduler_pb2 as pb

from ..blobs import BlobDirectory, check_source
from ..core.errors import Away, BadRequest, Exhausted, TooLate
from ..core.model import Source
from . import caller as callers
from . import convert
from .limits import Usage
from .threads import off
from .types import Context

_LONGEST_CHUNK: Final = 512 << 10
# Each holds a chunk in memory, an open file, and at most the largest source's size of the disk.
_MOST_AT_ONCE: Final = 256
# The header is to come within so long, and a chunk within this part of the time that the whole may take.
_HEADER_WITHIN_S: Final = 10.0
_CHUNK_SHARE: Final = 0.1
# Beside that, after so long it must have come at this rate from its beginning: whoever sends a byte now and
# then gives up the place.
_GRACE_S: Final = 10.0
_LEAST_BYTES_PER_S: Final = 1024.0


@dataclass(slots=True)
class _Progress:
    """How far an upload is: its bytes, when it began, and how long it was made to wait."""

    began: float
    received: int = 0
    slowed_s: float = 0.0

    @property
    def due(self) -> float:
        """When the next bytes are to be there, on the loop's clock."""
        return self.began + _GRACE_S + self.slowed_s + self.received / _LEAST_BYTES_PER_S


class Uploads:
    """All uploads of a manager. One that is slow waits for its peer and holds up nobody else.

    `files` runs what would block the loop shortly; `checks` looks through sources, which takes seconds of a
    thread, so that nothing but other checks waits behind it. `timeout_s` bounds one upload.
    """

    def __init__(
        self, blobs: BlobDirectory, files: Executor, checks: Executor, timeout_s: float, usage: Usage
    ) -> None:
        self._blobs = blobs
        self._files = files
        self._checks = checks
        self._timeout_s = timeout_s
        self._usage = usage
        self._under_way = 0

    async def take(self, context: Context, stored: Callable[[str], None]) -> pb.UploadSourceResponse:
        """Take a source, unless it is known. Raises CoreError as UploadSource promises.

        `stored` is told of one that was not, also where its sender has gone meanwhile.
        """
        if self._under_way >= _MOST_AT_ONCE:
            raise Away("MANAGER_BUSY", f"{_MOST_AT_ONCE} sources are arriving already; try again shortly")
        self._under_way += 1
        try:
            with self._usage.upload(callers.current()):
                async with asyncio.timeout(self._timeout_s):
                    return await self._take(context, stored)
        except TimeoutError:
            raise TooLate(
                "UPLOAD_TOO_SLOW", f"the source did not arrive within {self._timeout_s:g} s"
            ) from None
        finally:
            self._under_way -= 1

    async def size(self, sha256: str) -> int | None:
        """Bytes of a source; None where it is not known."""
        known = self._blobs.known_size(sha256)
        return known if known is not None else await off(self._files, lambda: self._blobs.size(sha256))

    async def _take(self, context: Context, stored: Callable[[str], None]) -> pb.UploadSourceResponse:
        chunk_s = self._timeout_s * _CHUNK_SHARE
        first = await self._part(context, min(_HEADER_WITHIN_S, chunk_s))
        if first is grpc.aio.EOF or first.WhichOneof("part") != "header":
            raise BadRequest("BAD_FIELD", "the first message of an upload must be its header")
        header = first.header
        convert.request_id(header.request_id)
        sha256 = convert.digest(header.sha256, "header.sha256")
        known = await self.size(sha256)
        if known is not None:
            return pb.UploadSourceResponse(sha256=sha256, size=known, already_known=True)
        upload = self._blobs.begin(sha256, header.size)
        try:
            self._usage.store(callers.current(), header.size)
        except Exhausted:
            await off(self._files, upload.abandon)
            raise
        loop = asyncio.get_running_loop()
        clock = loop.time
        progress = _Progress(clock())

        def finish() -> Source:
            made = upload.finish(check_source)
            loop.call_soon_threadsafe(stored, made.sha256)  # told before whoever waits for this goes on
            return made

        try:
            while True:
                message = await self._part(context, min(chunk_s, max(progress.due - clock(), 0.0)))
                if message is grpc.aio.EOF:
                    break
                if message.WhichOneof("part") != "chunk" or len(message.chunk) > _LONGEST_CHUNK:
                    raise BadRequest(
                        "BAD_FIELD", f"a chunk of at most {_LONGEST_CHUNK:,} bytes must come here"
                    )
                await off(self._files, functools.partial(upload.add, message.chunk))
                progress.received += len(message.chunk)
                progress.slowed_s += await self._slow_down(len(message.chunk))
            made = await off(self._checks, finish)
        finally:
            await off(self._files, upload.abandon)
        return pb.UploadSourceResponse(sha256=made.sha256, size=made.size)

    async def _slow_down(self, size: int) -> float:
        """Waits where the user's uploads come faster than they may, and says how long that was."""
        wait_s = self._usage.uploaded(callers.current(), size)
        if wait_s:
            await asyncio.sleep(wait_s)
        return wait_s

    async def _part(self, context: Context, limit_s: float) -> Any:
        """The next message, or EOF. Whoever sends nothing for long gives up their place."""
        try:
            async with asyncio.timeout(limit_s):
                return await context.read()
        except TimeoutError:
            raise TooLate("UPLOAD_TOO_SLOW", f"nothing of the source came for {limit_s:.3g} s") from None
