"""Disks that are kept when their job ends: taken from volunteers, and sent to who sees the task's output."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc
import structlog
from syndicate.v1 import registry_pb2, scheduler_pb2, scheduler_pb2_grpc

from ..core.errors import Away, BadRequest, Exhausted, NotFound, Refused
from ..core.model import JobState, TaskRef
from ..core.records import JobRecord
from ..disks import DiskStore, DiskUpload, Kept
from ..engine import Engine
from . import caller as callers
from . import convert, viewing
from .desk import Desk
from .peers import Peers
from .threads import off
from .types import Context

_CHUNK: Final = 512 << 10
# Each holds a chunk in memory and an open file; the others wait for their turn.
_MOST_AT_ONCE: Final = 32
# One that sends nothing, or the same disk again and again, keeps others from coming no further than so.
_MOST_OF_ONE: Final = 8
_PART_WITHIN_S: Final = 30.0
_DISK_WITHIN_S: Final = 120.0

_TAKEN: Final = (("syndicate-disk", "send"),)

_log = structlog.get_logger()


class _Turns:
    """How many disks come at once: of all volunteers, and of each."""

    def __init__(self) -> None:
        self._all = asyncio.Semaphore(_MOST_AT_ONCE)
        # Of those that hand some over, or wait to: each with how many that is.
        self._each: dict[str, tuple[asyncio.Semaphore, int]] = {}

    @asynccontextmanager
    async def of(self, volunteer_id: str) -> AsyncIterator[None]:
        """A turn of this volunteer's."""
        own, users = self._each.get(volunteer_id, (asyncio.Semaphore(_MOST_OF_ONE), 0))
        self._each[volunteer_id] = own, users + 1
        try:
            async with own, self._all:
                yield
        finally:
            own, users = self._each.pop(volunteer_id)
            if users > 1:
                self._each[volunteer_id] = own, users - 1


class DiskDesk:
    """Where volunteers hand disks over. `files` runs what would block the loop.

    Without `peers` the listener is in clear text, and a volunteer is whoever its stream says it is.
    """

    def __init__(self, engine: Engine, disks: DiskStore, files: Executor, peers: Peers | None) -> None:
        self._engine = engine
        self._disks = disks
        self._files = files
        self._peers = peers
        self._turns = _Turns()

    async def take(self, context: Context) -> registry_pb2.PutDiskResponse:
        """Keep a disk, or why there is none. Raises CoreError as PutDisk promises."""
        try:
            async with asyncio.timeout(_DISK_WITHIN_S):
                return await self._take(context)
        except TimeoutError:
            raise Away("MANAGER_BUSY", f"the disk did not arrive within {_DISK_WITHIN_S:g} s") from None

    async def _take(self, context: Context) -> registry_pb2.PutDiskResponse:
        # Before it has a turn: who says nothing, or has no disk to give, is to keep nobody waiting.
        first = await self._part(context)
        if first is grpc.aio.EOF or first.WhichOneof("part") != "header":
            raise BadRequest("BAD_FIELD", "the first message must be the header")
        ref = convert.ref_in(first.header.task)
        volunteer_id = self._must_hold(context, ref)
        if first.header.missing:
            job_id, task, why = ref.job_id, ref.task, first.header.missing
            await off(self._files, lambda: self._disks.miss(job_id, task, why))
            _log.info("disk.missing", job_id=job_id, task=task, detail=why[:200])
            return registry_pb2.PutDiskResponse()
        async with self._turns.of(volunteer_id):
            return await self._keep(context, ref)

    async def _keep(self, context: Context, ref: TaskRef) -> registry_pb2.PutDiskResponse:
        job_id, task = ref.job_id, ref.task
        # By it the volunteer learns that the header was taken: a refusal that met it writing could get lost.
        await context.send_initial_metadata(_TAKEN)
        upload = self._disks.begin(job_id, task, self._engine.machine.owner_of(job_id))
        try:
            size = await self._receive(context, upload)
            # Else a Release that was answered meanwhile could end the job, and somebody else's slot be asked.
            self._must_hold(context, ref)
            await off(self._files, upload.finish)
        except Exhausted as error:
            why = f"packed it is {error.detail}"
            await off(self._files, lambda: self._disks.miss(job_id, task, why))
            raise
        finally:
            await off(self._files, upload.abandon)
        _log.info("disk.kept", job_id=job_id, task=task, size=size)
        return registry_pb2.PutDiskResponse()

    async def _receive(self, context: Context, upload: DiskUpload) -> int:
        """Take chunks up to the empty one. A stream that was broken off may look like one that has ended."""
        while (message := await self._part(context)) is not grpc.aio.EOF:
            if message.WhichOneof("part") != "chunk" or len(message.chunk) > _CHUNK:
                raise BadRequest("BAD_FIELD", f"a chunk of at most {_CHUNK:,} bytes must come here")
            if not message.chunk:
                return upload.size
            await off(self._files, functools.partial(upload.add, message.chunk))
        raise BadRequest("BAD_FIELD", "the disk broke off: its last chunk must be an empty one")

    def _must_hold(self, context: Context, ref: TaskRef) -> str:
        """The caller is the volunteer that gives the task's slot back, by its stream and its certificate.

        Answers its id.
        """
        said = dict(context.invocation_metadata() or ())
        session = str(said.get("syndicate-session", ""))
        volunteer_id = self._engine.machine.volunteer_of(session)
        if volunteer_id is None:
            raise Away("MANAGER_AWAY", "the volunteer's stream to the manager has ended; try again")
        if self._peers is not None:
            self._peers.must_be(context, volunteer_id)
        if not self._engine.machine.may_put_disk(session, ref):
            text = "the volunteer does not give this task's slot back, or its job keeps no disks"
            raise Refused("NO_SUCH_TASK", text)
        return volunteer_id

    async def _part(self, context: Context) -> Any:
        try:
            async with asyncio.timeout(_PART_WITHIN_S):
                return await context.read()
        except TimeoutError:
            raise Away("MANAGER_BUSY", f"nothing of the disk came for {_PART_WITHIN_S:g} s") from None


class VolunteersDisks:
    """The part of Registry by which volunteers send disks; `_disks` is the servicer's."""

    _disks: DiskDesk

    async def PutDisk(self, request_iterator: object, context: Context) -> registry_pb2.PutDiskResponse:
        """Keep a disk."""
        return await self._disks.take(context)


class UsersDisks(scheduler_pb2_grpc.SchedulerServicer):
    """The part of Scheduler by which users read them; `_desk` and the two below are the servicer's."""

    _desk: Desk

    async def _record(self, job_id: int) -> JobRecord:
        raise NotImplementedError

    def _hides_clients(self, job: JobRecord) -> bool:
        raise NotImplementedError

    async def ReadDisks(  # type: ignore[override]  # by a generator or by writing: gRPC takes both
        self, request: scheduler_pb2.ReadDisksRequest, context: Context
    ) -> None:
        """Send the disks of a job, one after the other."""
        convert.few(request.tasks, "tasks")
        job = await self._record(request.job_id)
        tasks = viewing.tasks_of(job, request.tasks)
        if self._hides_clients(job):
            tasks = viewing.shown_tasks(tasks, bool(request.tasks))
        tasks = viewing.tasks_with_disks(callers.current(), job, tasks, bool(request.tasks))
        _must_be_there(job)
        for task in tasks:
            now = await self._record(request.job_id)
            if self._hides_clients(now) and task.startswith("client-"):  # taken back meanwhile
                continue
            await self._send(context, job.job_id, task)

    async def _send(self, context: Context, job_id: int, task: str) -> None:
        files, disks = self._desk.files, self._desk.disks
        kept = await off(files, lambda: disks.look(job_id, task))
        if kept is None:
            kept = Kept(missing="its volunteer did not hand it over before the job ended")
        first = scheduler_pb2.ReadDisksResponse(task=task, size=kept.size, missing=kept.missing)
        if kept.missing:
            await context.write(first)
            return
        try:
            file = await off(files, lambda: disks.open(job_id, task))
        except FileNotFoundError:
            first.missing, first.size = "it was removed a moment ago", 0
            await context.write(first)
            return
        try:
            await context.write(first)
            while chunk := await off(files, functools.partial(file.read, _CHUNK)):
                await context.write(scheduler_pb2.ReadDisksResponse(task=task, data=chunk))
        finally:
            file.close()


def _must_be_there(job: JobRecord) -> None:
    """Raises NotFound (NO_DISKS) for a job that has no disks yet, or never will."""
    if not job.spec.keep_disks:
        text = f"job {job.job_id} kept no disks: submit it again with --keep-disks"
    elif job.state <= JobState.STOPPING:
        text = f"job {job.job_id} is {job.state.name}: its disks are kept when it ends"
    elif job.reserved_at is None:
        text = f"job {job.job_id} never ran: it has no disks"
    else:
        return
    raise NotFound("NO_DISKS", text)
