"""UploadSource: takes a source chunk by chunk, and has it checked."""

from __future__ import annotations

import asyncio
import functools
from concurrent.futures import Executor
from typing import Any, Final

import grpc
from syndicate.v1 import scheduler_pb2 as pb

from ..blobs import BlobDirectory, check_source
from ..core.errors import Away, BadRequest, TooLate
from . import convert
from .threads import off
from .types import Context

_LONGEST_CHUNK: Final = 512 << 10
# Each holds a chunk in memory, an open file, and at most the largest source's size of the disk.
_MOST_AT_ONCE: Final = 256
# A chunk is to come within this part of the time that the whole upload may take.
_CHUNK_SHARE: Final = 0.1


class Uploads:
    """All uploads of a manager. One that is slow waits for its peer and holds up nobody else.

    `files` runs what would block the loop shortly; `checks` looks through sources, which takes seconds of a
    thread, so that nothing but other checks waits behind it. `timeout_s` bounds one upload.
    """

    def __init__(self, blobs: BlobDirectory, files: Executor, checks: Executor, timeout_s: float) -> None:
        self._blobs = blobs
        self._files = files
        self._checks = checks
        self._timeout_s = timeout_s
        self._under_way = 0

    async def take(self, context: Context) -> pb.UploadSourceResponse:
        """Take a source, unless it is known. Raises CoreError as UploadSource promises."""
        if self._under_way >= _MOST_AT_ONCE:
            raise Away("MANAGER_BUSY", f"{_MOST_AT_ONCE} sources are arriving already; try again shortly")
        self._under_way += 1
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._take(context)
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

    async def _take(self, context: Context) -> pb.UploadSourceResponse:
        first = await self._part(context)
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
            while (message := await self._part(context)) is not grpc.aio.EOF:
                if message.WhichOneof("part") != "chunk" or len(message.chunk) > _LONGEST_CHUNK:
                    raise BadRequest(
                        "BAD_FIELD", f"a chunk of at most {_LONGEST_CHUNK:,} bytes must come here"
                    )
                await off(self._files, functools.partial(upload.add, message.chunk))
            source = await off(self._checks, functools.partial(upload.finish, check_source))
        finally:
            await off(self._files, upload.abandon)
        return pb.UploadSourceResponse(sha256=source.sha256, size=source.size)

    async def _part(self, context: Context) -> Any:
        """The next message, or EOF. Whoever sends nothing for long gives up their place."""
        limit_s = self._timeout_s * _CHUNK_SHARE
        try:
            async with asyncio.timeout(limit_s):
                return await context.read()
        except TimeoutError:
            raise TooLate("UPLOAD_TOO_SLOW", f"nothing of the source came for {limit_s:g} s") from None
