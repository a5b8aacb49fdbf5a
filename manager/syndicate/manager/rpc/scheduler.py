"""Scheduler: what users ask."""

from __future__ import annotations

import asyncio
import functools
import math
import re
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final, TypeVar

import grpc
from syndicate.v1 import scheduler_pb2 as pb
from syndicate.v1 import scheduler_pb2_grpc

from ..blobs import BlobDirectory, check_source
from ..core import effects, events
from ..core.errors import BadRequest, NotFound, TooLate
from ..core.model import JobState, Source
from ..core.records import JobRecord
from ..core.views import JobView
from ..core.world import REMEMBERED_SUBMITS
from ..engine import Engine
from ..logs import LogReader, LogStore
from ..store import Store
from ..wakers import Wakers
from . import convert
from .types import Context

T = TypeVar("T")

_DEFAULT_PAGE: Final = 100
_LARGEST_PAGE: Final = 1000
_LONGEST_CHUNK: Final = 512 << 10
# A watcher is sent at most so many pictures a second, and at least looks so often while its job waits (its
# place in the queue moves without an event of its own).
_WATCH_INTERVAL_S: Final = 0.05
# A job with thousands of faults takes milliseconds to draw: no watcher takes more of the loop than this.
_WATCH_SHARE: Final = 0.02
_WATCH_QUEUED_S: Final = 1.0

_OWNER: Final = re.compile(r"[a-z0-9-]{1,63}")


@dataclass(frozen=True, slots=True)
class Desk:
    """What the Scheduler works with. `files` runs what would block the loop."""

    engine: Engine
    store: Store
    blobs: BlobDirectory
    logs: LogStore
    logs_changed: Wakers
    files: Executor
    version: str
    upload_timeout_s: float


class Scheduler(scheduler_pb2_grpc.SchedulerServicer):
    """The servicer. Errors are raised as CoreErrors; the guard tells them."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._engine = desk.engine
        self._submits = 0
        # Each upload holds at most one chunk in memory and may expand its source in a thread: bound them.
        self._uploads = asyncio.Semaphore(8)

    # ---- sources ----------------------------------------------------------------------------------------

    async def UploadSource(self, request_iterator: object, context: Context) -> pb.UploadSourceResponse:
        """Take a source, unless it is known."""
        try:
            async with asyncio.timeout(self._desk.upload_timeout_s):
                return await self._upload(context)
        except TimeoutError:
            limit = self._desk.upload_timeout_s
            raise TooLate("UPLOAD_TOO_SLOW", f"the source did not arrive within {limit:g} s") from None

    async def _upload(self, context: Context) -> pb.UploadSourceResponse:
        first = await context.read()
        if first is grpc.aio.EOF or first.WhichOneof("part") != "header":
            raise BadRequest("BAD_FIELD", "the first message of an upload must be its header")
        header = first.header
        convert.request_id(header.request_id)
        sha256 = convert.digest(header.sha256, "header.sha256")
        known = await self._size(sha256)
        if known is not None:
            return pb.UploadSourceResponse(sha256=sha256, size=known, already_known=True)
        async with self._uploads:
            upload = self._desk.blobs.begin(sha256, header.size)
            try:
                while (message := await context.read()) is not grpc.aio.EOF:
                    if message.WhichOneof("part") != "chunk" or len(message.chunk) > _LONGEST_CHUNK:
                        raise BadRequest(
                            "BAD_FIELD", f"a chunk of at most {_LONGEST_CHUNK:,} bytes must come here"
                        )
                    await self._off(functools.partial(upload.add, message.chunk))
                source = await self._off(functools.partial(upload.finish, check_source))
            finally:
                await self._off(upload.abandon)
        return pb.UploadSourceResponse(sha256=source.sha256, size=source.size)

    # ---- jobs -------------------------------------------------------------------------------------------

    async def Submit(self, request: pb.SubmitRequest, context: Context) -> pb.SubmitResponse:
        """Queue a job."""
        spec = request.spec
        request_id = convert.request_id(request.request_id)
        owner = _owner(context)
        if not math.isfinite(spec.time_limit_s):
            raise BadRequest("BAD_FIELD", "spec.time_limit_s is not a number of seconds")
        source = await self._source(spec.source_sha256, "spec.source_sha256")
        client = await self._source(spec.client_sha256, "spec.client_sha256") if spec.client_sha256 else None
        # A repeat of long ago, or of before a restart: only the store remembers it.
        self._submits += 1
        if self._desk.store.has_old_jobs or self._submits > REMEMBERED_SUBMITS:
            found = await self._desk.store.find_request(request_id)
            if found is not None:
                if found[1] != owner:
                    raise BadRequest("BAD_FIELD", "request_id was used by somebody else", field="request_id")
                return pb.SubmitResponse(job_id=found[0])
        reply = await self._engine.call(
            lambda call: events.SubmitJob(
                call=call,
                request_id=request_id,
                owner=owner,
                name=spec.name,
                source=source,
                machines=spec.machines,
                client=client,
                clients=spec.clients if spec.HasField("clients") else None,
                no_client=spec.no_client,
                time_limit_s=spec.time_limit_s,
            )
        )
        assert isinstance(reply, effects.SubmitReply)  # noqa: S101 - the event's contract
        return pb.SubmitResponse(job_id=reply.job_id)

    async def CancelJob(self, request: pb.CancelJobRequest, context: Context) -> pb.CancelJobResponse:
        """End a job."""
        request_id = convert.request_id(request.request_id)
        owner = _owner(context)
        try:
            reply = await self._engine.call(
                lambda call: events.CancelJob(call, request_id, request.job_id, by=owner)
            )
        except NotFound:
            # It may have ended so long ago that the machine has forgotten it.
            old = await self._desk.store.load_job(request.job_id)
            if old is None:
                raise
            return pb.CancelJobResponse(state=convert.number(old.job.state))
        assert isinstance(reply, effects.CancelReply)  # noqa: S101 - the event's contract
        return pb.CancelJobResponse(state=convert.number(reply.state))

    async def GetJob(self, request: pb.GetJobRequest, context: Context) -> pb.GetJobResponse:
        """One job whole."""
        view = await self._view(request.job_id)
        return pb.GetJobResponse(job=convert.job_out(view, self._desk.store.cluster_id))

    async def ListJobs(self, request: pb.ListJobsRequest, context: Context) -> pb.ListJobsResponse:
        """Jobs, newest first."""
        size = _page_size(request.page_size)
        before = None
        if request.page_token:
            if (
                not (request.page_token.isascii() and request.page_token.isdecimal())
                or len(request.page_token) > 18
            ):
                raise BadRequest(
                    "BAD_PAGE_TOKEN", f"{request.page_token[:64]!r} is no page token of this list"
                )
            before = int(request.page_token)
        states = [convert.known(JobState, number, "states") for number in request.states]
        found = await self._desk.store.list_jobs(before, size + 1, request.owner, states)
        answer = pb.ListJobsResponse()
        for record in found[:size]:
            job = convert.job_head_out(record)
            if (
                record.state is JobState.QUEUED
                and (view := self._engine.machine.job(record.job_id)) is not None
            ):
                convert.waiting_out(view, job)
            answer.jobs.append(job)
        if len(found) > size:
            answer.next_page_token = str(found[size - 1].job_id)
        return answer

    async def WatchJob(  # type: ignore[override]  # gRPC takes a coroutine that writes as well as a generator
        self, request: pb.WatchJobRequest, context: Context
    ) -> None:
        """Send the job at once and at each change, until it has ended."""
        sent: pb.Job | None = None
        drawn = convert.Drawn()
        with self._engine.changed.watch(request.job_id) as changed:
            while True:
                changed.clear()
                view = await self._view(request.job_id)
                began = self._engine.clock.now().monotonic_ns
                job = convert.job_out(view, self._desk.store.cluster_id, drawn)
                took_s = (self._engine.clock.now().monotonic_ns - began) / 1e9
                if job != sent:
                    now = convert.stamp_out(self._engine.clock.now())
                    await context.write(pb.WatchJobResponse(job=job, now=now))
                    sent = job
                if _has_ended(view):
                    return
                # The pace; changes meanwhile are seen together.
                await asyncio.sleep(max(_WATCH_INTERVAL_S, took_s / _WATCH_SHARE))
                queued = view.job.state is JobState.QUEUED
                await _wait(changed, _WATCH_QUEUED_S if queued else None)
                self._end_if_stopping()

    async def ReadLogs(  # type: ignore[override]  # as above
        self, request: pb.ReadLogsRequest, context: Context
    ) -> None:
        """Send the output of a job's tasks, in the order in which it was read."""
        job_id = request.job_id
        with (
            self._engine.changed.watch(job_id) as changed,
            self._desk.logs_changed.watch(job_id, changed),
        ):
            while True:
                job = (await self._view(job_id)).job
                attempt = request.attempt or job.attempt
                if not 0 < attempt <= job.attempt:
                    raise BadRequest(
                        "BAD_FIELD", f"job {job_id} is at attempt {job.attempt}; there is no {attempt}"
                    )
                reader = self._desk.logs.reader(job_id, attempt, _tasks(job, request))
                try:
                    await self._read_attempt(request, context, attempt, reader, changed)
                finally:
                    await self._off(reader.close)
                newest = (await self._view(job_id)).job.attempt
                if request.attempt or not request.follow or newest == attempt:
                    return

    async def _read_attempt(
        self,
        request: pb.ReadLogsRequest,
        context: Context,
        attempt: int,
        reader: LogReader,
        changed: asyncio.Event,
    ) -> None:
        """Send one attempt's output, and follow it to its end where that is asked for."""
        while True:
            changed.clear()
            view = await self._view(request.job_id)
            over = not request.follow or _has_ended(view) or view.job.attempt > attempt
            if over:
                # What was received before the end was seen is in the files after this.
                await self._desk.logs.flushed()
            while batch := await self._off(reader.next_batch):
                for entry in batch:
                    await context.write(entry)
            if over:
                for entry in await self._off(reader.dropped):
                    await context.write(entry)
                return
            await _wait(changed, None)
            self._end_if_stopping()

    # ---- the cluster ------------------------------------------------------------------------------------

    async def ListNodes(self, request: pb.ListNodesRequest, context: Context) -> pb.ListNodesResponse:
        """Volunteers with their slots, by id."""
        size = _page_size(request.page_size)
        nodes = sorted(self._engine.machine.nodes(), key=lambda n: n.record.volunteer_id)
        nodes = [n for n in nodes if n.record.volunteer_id > request.page_token]
        await self._engine.durable()
        answer = pb.ListNodesResponse(nodes=[convert.node_out(n) for n in nodes[:size]])
        if len(nodes) > size:
            answer.next_page_token = nodes[size - 1].record.volunteer_id
        return answer

    async def DrainNode(self, request: pb.DrainNodeRequest, context: Context) -> pb.DrainNodeResponse:
        """Take a volunteer out of use, or back."""
        request_id = convert.request_id(request.request_id)
        reply = await self._engine.call(
            lambda call: events.DrainNode(call, request_id, request.volunteer_id, request.draining)
        )
        assert isinstance(reply, effects.DrainReply)  # noqa: S101 - the event's contract
        return pb.DrainNodeResponse(state=convert.number(reply.state))

    async def GetCluster(self, request: pb.GetClusterRequest, context: Context) -> pb.GetClusterResponse:
        """The cluster in numbers."""
        cluster = self._engine.machine.cluster()
        config = self._engine.config
        client = config.default_client
        return pb.GetClusterResponse(
            cluster_id=config.cluster_id,
            epoch=config.epoch,
            slots=cluster.slots,
            free_slots=cluster.free_slots,
            drained_slots=cluster.drained_slots,
            queued_jobs=cluster.queued_jobs,
            active_jobs=cluster.active_jobs,
            version=self._desk.version,
            max_source_bytes=self._desk.blobs.max_bytes,
            default_client_sha256=client.sha256 if client else "",
            default_clients=config.default_clients,
            now=convert.stamp_out(self._engine.clock.now()),
        )

    # ---- help -------------------------------------------------------------------------------------------

    async def _view(self, job_id: int) -> JobView:
        view = self._engine.machine.job(job_id)
        if view is not None:
            await self._engine.durable()
            return view
        view = await self._desk.store.load_job(job_id)
        if view is None:
            raise NotFound("NO_SUCH_JOB", f"there is no job {job_id}")
        return view

    async def _source(self, sha256: str, field: str) -> Source:
        convert.digest(sha256, field)
        size = await self._size(sha256)
        if size is None:
            raise NotFound(
                "NO_SUCH_SOURCE", f"no source {sha256} is known here: upload it first", sha256=sha256
            )
        return Source(sha256, size)

    async def _size(self, sha256: str) -> int | None:
        blobs = self._desk.blobs
        known = blobs.known_size(sha256)
        return known if known is not None else await self._off(lambda: blobs.size(sha256))

    async def _off(self, work: Callable[[], T]) -> T:
        # A thread cannot be cancelled: whoever is waits until it is done, so that what it works with may be
        # let go.
        running = asyncio.get_running_loop().run_in_executor(self._desk.files, work)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])
            raise

    def _end_if_stopping(self) -> None:
        if self._engine.stopping is not None:
            raise self._engine.stopping


async def _wait(event: asyncio.Event, timeout_s: float | None) -> None:
    # Without a timeout the call's own end bounds it: gRPC cancels the handler when the caller is gone.
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return


def _owner(context: Context) -> str:
    # Every caller holds the one admin token, so whose job it is may be said freely. Roles come with users'
    # own tokens, and then the owner comes from the token.
    for key, value in context.invocation_metadata() or ():
        if key == "syndicate-user" and isinstance(value, str) and _OWNER.fullmatch(value):
            return value
    return "admin"


def _has_ended(view: JobView) -> bool:
    return view.job.state > JobState.STOPPING


def _page_size(asked: int) -> int:
    if asked < 0:
        raise BadRequest("BAD_FIELD", f"page_size is {asked}")
    return min(asked, _LARGEST_PAGE) if asked else _DEFAULT_PAGE


def _tasks(job: JobRecord, request: pb.ReadLogsRequest) -> list[str]:
    spec = job.spec
    members = ["master"]
    members += [f"slave-{i}" for i in range(spec.machines - 1)]
    members += [f"client-{i}" for i in range(spec.clients)]
    if not request.tasks:
        return members
    for task in request.tasks:
        if task not in members:
            raise BadRequest(
                "BAD_FIELD", f"job {job.job_id} has no task {task[:64]!r}: {', '.join(members[:8])}"
            )
    return [m for m in members if m in set(request.tasks)]
