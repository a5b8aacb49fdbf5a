"""Hands the disks of tasks that are released over: from the keeper, piece by piece, to the manager.

A piece is asked of the keeper when the manager has taken the one before: nothing lies here but that which is
under way. What does not come about in time is told as `missing`, and where not even that can be told the
manager knows by the disk that never came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import grpc
import structlog
from syndicate.v1 import registry_pb2 as pb
from syndicate.v1 import registry_pb2_grpc

from . import convert, local
from .core.model import TaskRef
from .relay import Upstream

# Together less than the core waits for: see `Config.disk_timeout_s`.
_HAND_OVER_S: Final = 32.0
_TELL_S: Final = 5.0
_TRIES: Final = 2  # the second where the manager went away, and came back
_LONGEST_WHY: Final = 300
# The second where the channel was closed on this side: its certificate was replaced.
_AWAY: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
_TAKEN: Final = "syndicate-disk"
# In the text that grpc.aio makes up where a write met the end of a call before its status came.
_WRITE_FAILED: Final = "Internal error from Core"

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class DiskEdges:
    """What it needs of the app: pieces (None while the keeper is away), and the way to a task's manager."""

    read: Callable[[local.ReadDisk], Awaitable[local.Reply | None]]
    upstream: Callable[[str], Upstream | None]


class _Missing(Exception):
    """There is no disk; the text says why."""


class DiskSender:
    """All disks that a volunteer hands over; each of them by one call of `send`."""

    def __init__(self, edges: DiskEdges) -> None:
        self._edges = edges
        self._up = asyncio.Event()

    def came_up(self) -> None:
        """A manager is reached, who may have been waited for."""
        self._up.set()
        self._up = asyncio.Event()

    async def send(self, slot: int, ref: TaskRef, missing: str) -> None:
        """Hand a disk over, or tell why there is none; returns within 40 s, whatever became of it."""
        log = _log.bind(slot=slot, job_id=ref.job_id, attempt=ref.attempt, task=ref.task)
        why = missing
        try:
            if not why:
                async with asyncio.timeout(_HAND_OVER_S):
                    await self._hand_over(slot, ref)
                return
        except TimeoutError:
            why = f"handing it over took longer than {_HAND_OVER_S:g} s"
        except _Missing as error:
            why = str(error)
        log.warning("disk.missing", detail=why)
        try:
            async with asyncio.timeout(_TELL_S):
                await self._tell(ref, why[:_LONGEST_WHY])
        except (TimeoutError, grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            log.warning(
                "disk.untold", detail=str(error) or f"the manager is away for more than {_TELL_S:g} s"
            )

    async def _hand_over(self, slot: int, ref: TaskRef) -> None:
        for tries_left in reversed(range(_TRIES)):
            call = await self._call(ref)
            try:
                if await self._pass_on(slot, ref, call):
                    return
                code, detail = await call.code(), await call.details()
                if code not in _AWAY or not tries_left:
                    raise _Missing(_refusal(code, detail))
            finally:
                call.cancel()

    async def _pass_on(self, slot: int, ref: TaskRef, call: Any) -> bool:
        """Whether the manager has all of it; if not, the call's status says why. Raises _Missing."""
        try:
            await call.write(pb.PutDiskRequest(header=pb.PutDiskHeader(task=convert.ref_out(ref))))
            # A refusal that meets a write may get lost in it: nothing is written before the header is taken.
            if _TAKEN not in dict(await call.initial_metadata()):
                return False
            offset, end = 0, False
            while not end:
                piece = await self._piece(slot, ref, offset)
                offset, end = offset + len(piece.data), piece.end
                if piece.data:
                    await call.write(pb.PutDiskRequest(chunk=piece.data))
            await call.write(pb.PutDiskRequest(chunk=b""))  # else what broke off could look whole
            await call.done_writing()
            await call
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return False
        except asyncio.CancelledError:
            if _is_given_up():
                raise
            return False
        return True

    async def _piece(self, slot: int, ref: TaskRef, offset: int) -> local.DiskRead:
        request = local.ReadDisk(slot, ref.id, offset, local.MAX_LOG_READ_BYTES)
        match await self._edges.read(request):
            case local.DiskRead() as piece if not piece.missing:
                return piece
            case local.DiskRead(missing=why):
                raise _Missing(why)
            case local.Refused(detail=why):
                raise _Missing(f"the keeper refused it: {why}")
            case None:
                raise _Missing("the keeper went away")
            case other:
                raise _Missing(f"the keeper answered {type(other).__name__}")

    async def _tell(self, ref: TaskRef, why: str) -> None:
        call = await self._call(ref)
        try:
            header = pb.PutDiskHeader(task=convert.ref_out(ref), missing=why)
            await call.write(pb.PutDiskRequest(header=header))
            await call.done_writing()
            await call
        except asyncio.CancelledError:
            if _is_given_up():
                raise
            raise asyncio.InvalidStateError("the connection was closed") from None
        finally:
            call.cancel()

    async def _call(self, ref: TaskRef) -> Any:
        """A call to the task's manager, once that is reached."""
        while True:
            up, upstream = self._up, self._edges.upstream(ref.cluster_id)
            if upstream is not None:
                break
            await up.wait()
        # Its async types are in a name that exists for type checkers only.
        stub: Any = registry_pb2_grpc.RegistryStub(upstream.channel)
        return stub.PutDisk(metadata=(*upstream.credentials, ("syndicate-session", upstream.session)))


def _is_given_up() -> bool:
    """Whether this task is cancelled: a call whose channel is closed ends by the same exception."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _refusal(code: grpc.StatusCode, detail: str) -> str:
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return f"packed it is {detail}"
    if code is grpc.StatusCode.INTERNAL and _WRITE_FAILED in detail:
        return "the manager broke it off"
    return f"the manager took none: {detail}"


__all__ = ["DiskEdges", "DiskSender"]
