"""Histories that the clients of a job hand over, and who reads them."""

from __future__ import annotations

import asyncio
import functools
import math
from typing import Final

import structlog
from syndicate.v1 import chaos_pb2 as pb
from syndicate.v1 import scheduler_pb2, scheduler_pb2_grpc

from ..core import effects, events
from ..core.errors import BadRequest, Ended, NotAllowed, NotFound, TooLate
from ..core.events import ChaosCaller
from ..core.records import JobRecord
from ..engine import Engine
from ..histories import PIECE_BYTES, Kept, Piece, Shelf
from . import convert, viewing
from .gathering import Gatherings
from .shelves import Shelves
from .types import Context

_LONGEST_WAIT_S: Final = 60.0
_STREAM_BYTES: Final = 512 << 10
_MOST_NAMED: Final = 8

_log = structlog.get_logger()


class ClientsHistories:
    """The part of ChaosControl by which clients hand histories over and gather them.

    A base of the servicer; the attributes are its, and `_client` says who calls.
    """

    _engine: Engine
    _shelves: Shelves
    _gatherings: Gatherings

    async def _client(self, context: Context, method: str) -> ChaosCaller:
        raise NotImplementedError

    async def PutHistory(self, request: pb.PutHistoryRequest, context: Context) -> pb.PutHistoryResponse:
        """Keep a piece of a history."""
        caller = await self._client(context, "PutHistory")
        await self._must_act(caller)
        ref = caller.ref
        piece = Piece(
            ref.task,
            ref.generation,
            request.name,
            request.offset,
            request.data,
            request.sha256,
            request.final,
        )
        try:
            size = await self._shelves.put(ref.job_id, ref.attempt, piece)
        except OSError as error:
            _log.error("history.not_kept", job_id=ref.job_id, task=ref.task, error=str(error))
            raise
        return pb.PutHistoryResponse(size=size)

    async def GatherHistories(
        self, request: pb.GatherHistoriesRequest, context: Context
    ) -> pb.GatherHistoriesResponse:
        """Wait for everybody's histories."""
        caller = await self._client(context, "GatherHistories")
        if not (math.isfinite(request.wait_s) and 0 <= request.wait_s <= _LONGEST_WAIT_S):
            text = f"wait_s is {request.wait_s:g}; it is to be 0 to {_LONGEST_WAIT_S:g} seconds"
            raise BadRequest("BAD_FIELD", text, field="wait_s")
        loop, ref = asyncio.get_running_loop(), caller.ref
        until = loop.time() + request.wait_s
        await self._must_act(caller)
        with self._gatherings.of(ref.job_id, ref.attempt) as (gathering, changed):
            while True:
                changed.clear()
                await gathering.look(lambda: self._clients_still(caller))
                if not gathering.acts(ref.task, ref.generation):
                    await self._clients_still(caller, everybody=False)
                if gathering.is_complete(besides=ref.task):
                    missing = gathering.missing()
                    kept = await self._shelves.kept(ref.job_id, ref.attempt)
                    return pb.GatherHistoriesResponse(
                        histories=[_info(history) for history in kept], missing=missing
                    )
                if not await _until(changed, until):
                    raise _missing(*gathering.left(ref.task, _MOST_NAMED))

    async def ReadHistory(self, request: pb.ReadHistoryRequest, context: Context) -> pb.ReadHistoryResponse:
        """Give a piece of a history."""
        caller = await self._client(context, "ReadHistory")
        await self._ask(caller, acts=False, everybody=False)

        def read(shelf: Shelf) -> bytes:
            return shelf.read(request.task, request.name, request.offset, PIECE_BYTES)

        data = await self._shelves.read(caller.ref.job_id, caller.ref.attempt, read)
        return pb.ReadHistoryResponse(data=data)

    async def _must_act(self, caller: ChaosCaller) -> None:
        """Raises CoreError where it is no client that may still act."""
        await self._ask(caller, acts=True, everybody=False)

    async def _ask(self, caller: ChaosCaller, acts: bool, everybody: bool) -> tuple[effects.ClientView, ...]:
        reply = await self._engine.call(lambda call: events.ClientsRequested(call, caller, acts, everybody))
        assert isinstance(reply, effects.ClientsReply)  # noqa: S101 - the event's contract
        return reply.clients

    async def _clients_still(
        self, caller: ChaosCaller, everybody: bool = True
    ) -> tuple[effects.ClientView, ...]:
        """All clients, asked for by one that was a client a moment ago."""
        try:
            return await self._ask(caller, acts=True, everybody=everybody)
        except NotAllowed:
            text = f"job {caller.ref.job_id} was requeued meanwhile: this run of it is over"
            raise Ended("ATTEMPT_ENDED", text) from None


class UsersHistories(scheduler_pb2_grpc.SchedulerServicer):
    """The part of Scheduler by which users read them.

    A base of the servicer, which has `_shelves`, and says what the caller sees.
    """

    _shelves: Shelves

    async def _record(self, job_id: int) -> JobRecord:
        raise NotImplementedError

    def _hides_clients(self, job: JobRecord) -> bool:
        raise NotImplementedError

    async def ReadHistories(  # type: ignore[override]  # by a generator or by writing: gRPC takes both
        self, request: scheduler_pb2.ReadHistoriesRequest, context: Context
    ) -> None:
        """Send the histories of a job, one after the other."""
        job = await self._shown(request.job_id)
        attempt = request.attempt or job.attempt
        if not 0 < attempt <= job.attempt:
            text = f"job {job.job_id} is at attempt {job.attempt}; there is no {attempt}"
            raise BadRequest("BAD_FIELD", text, field="attempt")
        wanted = _wanted(job, request)
        await context.send_initial_metadata(())
        kept = await self._shelves.kept(job.job_id, attempt)
        for history in kept:
            if history.task in wanted:
                await self._shown(job.job_id)  # it may be taken back meanwhile
                await self._send_history(history, job.job_id, attempt, context)

    async def _shown(self, job_id: int) -> JobRecord:
        job = await self._record(job_id)
        if self._hides_clients(job):
            raise viewing.not_published()
        return job

    async def _send_history(self, history: Kept, job_id: int, attempt: int, context: Context) -> None:
        answer = scheduler_pb2.ReadHistoriesResponse(
            task=history.task, name=history.name, size=history.size, sha256=history.sha256
        )
        at = 0
        while True:
            read = functools.partial(_part, history=history, offset=at)
            # As far as it was when it was listed, which its size tells.
            try:
                answer.data = (await self._shelves.read(job_id, attempt, read))[: history.size - at]
            except FileNotFoundError:
                raise NotFound("NO_SUCH_HISTORY", f"the histories of job {job_id} were removed") from None
            await context.write(answer)
            at += len(answer.data)
            if at >= history.size or not answer.data:
                return
            answer = scheduler_pb2.ReadHistoriesResponse(task=history.task, name=history.name)


def _part(shelf: Shelf, history: Kept, offset: int) -> bytes:
    return shelf.read(history.task, history.name, offset, _STREAM_BYTES)


def _wanted(job: JobRecord, request: scheduler_pb2.ReadHistoriesRequest) -> set[str]:
    clients = {f"client-{number}" for number in range(job.spec.clients)}
    convert.few(request.tasks, "tasks")
    for task in request.tasks:
        if task not in clients:
            raise BadRequest("BAD_FIELD", f"job {job.job_id} has no client {task[:64]!r}", field="tasks")
    return set(request.tasks) or clients


async def _until(changed: asyncio.Event, until: float) -> bool:
    """Waits for the event, and says whether it came in time."""
    try:
        async with asyncio.timeout_at(until):
            await changed.wait()
    except TimeoutError:
        return False
    return True


def _missing(some: list[str], number: int) -> TooLate:
    more = f" and {number - len(some)} more" if number > len(some) else ""
    text = f"{', '.join(some)}{more}: not handed over yet, and still running"
    return TooLate("HISTORIES_MISSING", text, missing=",".join(some))


def _info(history: Kept) -> pb.HistoryInfo:
    return pb.HistoryInfo(task=history.task, name=history.name, size=history.size, sha256=history.sha256)
