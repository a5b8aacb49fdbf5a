"""Scheduler: what users ask."""

from __future__ import annotations

import asyncio
import functools
import math
import time
from collections.abc import Callable
from typing import Final, TypeVar

import structlog
from syndicate.v1 import scheduler_pb2 as pb
from syndicate.v1 import scheduler_pb2_grpc

from ..core import effects, events, user_events
from ..core.access import RULES, check_chaos, check_job, check_replay, no_such_job, role_too_low, sees_job
from ..core.errors import BadRequest, NotFound, Refused
from ..core.limits import DEFAULTS
from ..core.model import JobState, Source, UserRole
from ..core.names import is_name
from ..core.records import JobRecord
from ..core.views import JobView, NodeView
from ..logs import LogReader
from ..store import Viewer
from . import caller as callers
from . import convert, pictures, viewing
from .accounts import Accounts
from .barriers import barrier_in, barriers_out
from .desk import Desk
from .disks import UsersDisks
from .histories import UsersHistories
from .pace import Pace
from .pages import page, page_number, page_size
from .threads import off
from .types import Context

T = TypeVar("T")

_log = structlog.get_logger()

# A watcher looks at least so often while its job waits: its place moves without an event of its own.
_WATCH_QUEUED_S: Final = 1.0


class Scheduler(UsersHistories, UsersDisks, Accounts, scheduler_pb2_grpc.SchedulerServicer):
    """The servicer. Errors are raised as CoreErrors; the guard tells them."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._engine = desk.engine
        self._store = desk.store
        self._shelves = desk.shelves
        self._drawing = asyncio.Lock()

    # ---- sources ----------------------------------------------------------------------------------------

    async def UploadSource(self, request_iterator: object, context: Context) -> pb.UploadSourceResponse:
        """Take a source, unless it is known."""
        origin, audit = callers.origin(context), self._desk.audit

        def stored(sha256: str) -> None:
            audit.done(origin.caller, origin.peer, "UploadSource", f"source {sha256}")

        answer = await self._desk.uploads.take(context, stored)
        if not answer.already_known:
            await audit.kept()
        return answer

    # ---- jobs -------------------------------------------------------------------------------------------

    async def Submit(self, request: pb.SubmitRequest, context: Context) -> pb.SubmitResponse:
        """Queue a job."""
        spec = request.spec
        request_id = convert.request_id(request.request_id)
        owner = _owner()
        if not math.isfinite(spec.time_limit_s):
            raise BadRequest("BAD_FIELD", "spec.time_limit_s is not a number of seconds")
        replays = await self._replayed(spec.replay_of) if spec.replay_of else None
        wanted = functools.partial(
            events.SubmitJob,
            request_id=request_id,
            owner=owner,
            name=spec.name,
            machines=spec.machines,
            clients=spec.clients if spec.HasField("clients") else None,
            no_client=spec.no_client,
            lose_unsynced=spec.lose_unsynced,
            time_limit_s=spec.time_limit_s,
            limits=convert.limits_in(spec.limits) if spec.HasField("limits") else DEFAULTS,
            keep_disks=spec.keep_disks,
            sync_server=spec.sync_server,
            origin=callers.origin(context),
            replays=replays,
        )
        try:
            if spec.source_sha256 or replays is None:
                source = await self._source(spec.source_sha256, "spec.source_sha256")
            else:
                source = replays.job.spec.source
            client = (
                await self._source(spec.client_sha256, "spec.client_sha256") if spec.client_sha256 else None
            )
        except NotFound:
            # It can be sent, but that would be for nothing where the rest of the job is refused.
            own = Source(spec.client_sha256, 0) if spec.client_sha256 else None
            self._engine.machine.check_submit(
                wanted(call=0, source=Source(spec.source_sha256, 0), client=own)
            )
            raise
        # To plan a replay takes up to 0.1 s: many of them in a row would hold everybody up.
        reply = await self._engine.call(
            lambda call: wanted(call=call, source=source, client=client), in_crowd=replays is None
        )
        assert isinstance(reply, effects.SubmitReply)  # noqa: S101 - the event's contract
        return pb.SubmitResponse(job_id=reply.job_id)

    async def CancelJob(self, request: pb.CancelJobRequest, context: Context) -> pb.CancelJobResponse:
        """End a job."""
        request_id = convert.request_id(request.request_id)
        origin = callers.origin(context)
        await self._seen(request.job_id, "CancelJob")
        try:
            reply = await self._engine.call(
                lambda call: events.CancelJob(
                    call, request_id, request.job_id, by=origin.caller.name, origin=origin
                )
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
        drawn = pictures.Drawn()
        await self._draw_ahead(view, drawn)
        response = pb.GetJobResponse()
        self._draw(view, drawn, response.job)
        return response

    async def PublishJob(self, request: pb.PublishJobRequest, context: Context) -> pb.PublishJobResponse:
        """Show a job to everybody, or take that back."""
        request_id = convert.request_id(request.request_id)
        origin = callers.origin(context)
        record = await self._seen(request.job_id, "PublishJob")
        # Of one that has ended memory may lack the result, which its row has.
        stored = (await self._durable(request.job_id, None)).job if _has_ended(record) else None
        reply = await self._engine.call(
            lambda call: user_events.PublishJob(
                call, request_id, origin, request.job_id, request.published, stored
            )
        )
        assert isinstance(reply, effects.PublishReply)  # noqa: S101 - the event's contract
        return pb.PublishJobResponse(published=reply.published)

    async def ListJobs(self, request: pb.ListJobsRequest, context: Context) -> pb.ListJobsResponse:
        """Jobs, newest first."""
        size = page_size(request.page_size)
        before = page_number(request.page_token)
        convert.few(request.states, "states")
        states = [convert.known(JobState, number, "states") for number in set(request.states)]
        if request.owner and not is_name(request.owner):
            return pb.ListJobsResponse()  # nobody's; the store's prepared statements would keep a long one
        caller = callers.current()
        viewer = None if caller.is_staff else Viewer(caller.name, caller.team)
        found = await self._desk.store.list_jobs(before, size + 1, request.owner, states, viewer)
        jobs, more = page((self._row(record) for record in found), size)
        return pb.ListJobsResponse(jobs=jobs, next_page_token=str(jobs[-1].job_id) if more else "")

    async def WatchJob(  # type: ignore[override]  # gRPC takes a coroutine that writes as well as a generator
        self, request: pb.WatchJobRequest, context: Context
    ) -> None:
        """Send the job at once and at each change, until it has ended."""
        sent: pb.Job | None = None
        drawn = pictures.Drawn()
        pace = Pace()
        with self._engine.changed.watch(request.job_id) as changed:
            while True:
                changed.clear()
                with pace.working():
                    seen = self._engine.machine.job(request.job_id)
                view = self._visible(await self._durable(request.job_id, seen))
                if sent is None:
                    await self._draw_ahead(view, drawn)
                with pace.working():
                    fresh = self._fresh(view, sent, drawn)
                if fresh is not None:
                    await context.write(fresh)
                    sent = fresh.job
                if _has_ended(view.job):
                    return
                await pace.rest(lambda: self._nothing_follows(request.job_id))
                queued = view.job.state is JobState.QUEUED
                await _wait(changed, _WATCH_QUEUED_S if queued else None)
                self._end_if_stopping()

    async def _draw_ahead(self, view: JobView, drawn: pictures.Drawn) -> None:
        """Draws what is long of a job in slices; one job at a time, so that many callers take one share.

        Then it rests for as long: what is left, to copy and to serialise it, takes no longer than that.
        """
        if len(view.faults) + len(view.story) <= pictures.SLICE_LINES:
            return
        async with self._drawing:
            began = time.monotonic()
            for _ in pictures.draw_ahead(view, drawn):
                await asyncio.sleep(0)
            await asyncio.sleep(time.monotonic() - began)

    def _fresh(self, view: JobView, sent: pb.Job | None, drawn: pictures.Drawn) -> pb.WatchJobResponse | None:
        """What a watcher is told; None where it was told the same already."""
        now = convert.stamp_out(self._engine.clock.now())
        job = self._draw(view, drawn, pb.Job())
        if job == sent:
            return None
        fresh = pb.WatchJobResponse(job=job, now=now)
        # Takes as long as to serialise it, which `write` does where its time cannot be told from its waiting.
        fresh.ByteSize()
        return fresh

    async def ReadLogs(  # type: ignore[override]  # as above
        self, request: pb.ReadLogsRequest, context: Context
    ) -> None:
        """Send the output of a job's tasks, in the order in which it was read."""
        job_id = request.job_id
        convert.few(request.tasks, "tasks")
        await self._record(job_id)
        # By it a reader of tasks that say nothing learns that the stream is open.
        await context.send_initial_metadata(())
        with (
            self._engine.changed.watch(job_id) as changed,
            self._desk.logs_changed.watch(job_id, changed),
        ):
            while True:
                job = await self._record(job_id)
                attempt = request.attempt or job.attempt
                if not 0 < attempt <= job.attempt:
                    raise BadRequest(
                        "BAD_FIELD", f"job {job_id} is at attempt {job.attempt}; there is no {attempt}"
                    )
                tasks = viewing.tasks_of(job, request.tasks)
                if self._hides_clients(job):
                    tasks = viewing.shown_tasks(tasks, bool(request.tasks))
                reader = self._desk.logs.reader(job_id, attempt, tasks)
                try:
                    await self._read_attempt(request, context, attempt, reader, changed)
                finally:
                    reader.close()  # of files only read from: it waits for nothing, and no cancel meets it
                newest = (await self._record(job_id)).attempt
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
        pace = Pace()
        while True:
            changed.clear()
            job = await self._record(request.job_id)
            hidden = self._hides_clients(job)
            over = not request.follow or _has_ended(job) or job.attempt > attempt
            if over:
                # What was received before the end was seen is in the files after this.
                await self._desk.logs.flushed()
            while batch := await self._off(reader.next_batch):
                for entry in batch:
                    if not (hidden and entry.task.startswith("client-")):  # taken back meanwhile
                        await context.write(entry)
            if over:
                for entry in await self._off(reader.dropped):
                    await context.write(entry)
                return
            await pace.rest()
            await _wait(changed, None)
            self._end_if_stopping()

    # ---- the cluster ------------------------------------------------------------------------------------

    async def ListBarriers(
        self, request: pb.ListBarriersRequest, context: Context
    ) -> pb.ListBarriersResponse:
        """The open barriers of a job that runs."""
        record = await self._seen(request.job_id, "ListBarriers")
        if _has_ended(record):
            raise Refused("JOB_NOT_RUNNING", f"job {request.job_id} is {record.state.name}")
        return barriers_out(self._engine.machine.barriers(request.job_id))

    async def DropBarriers(
        self, request: pb.DropBarriersRequest, context: Context
    ) -> pb.DropBarriersResponse:
        """Have a job's sync server drop barriers, as far as its owner may disturb the job."""
        request_id = convert.request_id(request.request_id)
        barrier = barrier_in(request.barrier)
        origin = callers.origin(context)
        record = await self._seen(request.job_id, "DropBarriers")
        check_chaos(origin.caller, request.job_id, record.spec, self._engine.config.default_client)
        if _has_ended(record):
            raise Refused("JOB_NOT_RUNNING", f"job {request.job_id} is {record.state.name}")
        reply = await self._engine.call(
            lambda call: events.DropBarriers(call, request_id, request.job_id, barrier, origin)
        )
        assert isinstance(reply, effects.DropReply)  # noqa: S101 - the event's contract
        return pb.DropBarriersResponse(dropped=reply.dropped)

    async def ListNodes(self, request: pb.ListNodesRequest, context: Context) -> pb.ListNodesResponse:
        """Volunteers with their slots, by id."""
        size = page_size(request.page_size)
        nodes = sorted(self._engine.machine.nodes(), key=lambda n: n.record.volunteer_id)
        await self._engine.durable()
        found = (
            _with_expiry(self._node(n), self._desk.expires(n.record.volunteer_id))
            for n in nodes
            if n.record.volunteer_id > request.page_token
        )
        rows, more = page(found, size)
        return pb.ListNodesResponse(nodes=rows, next_page_token=rows[-1].volunteer_id if more else "")

    async def DrainNode(self, request: pb.DrainNodeRequest, context: Context) -> pb.DrainNodeResponse:
        """Take a volunteer out of use, or back."""
        request_id = convert.request_id(request.request_id)
        origin = callers.origin(context)
        reply = await self._engine.call(
            lambda call: events.DrainNode(call, request_id, request.volunteer_id, request.draining, origin)
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
            max_source_bytes=self._desk.max_source_bytes,
            default_client_sha256=viewing.default_client(callers.current(), client),
            default_clients=config.default_clients,
            now=convert.stamp_out(self._engine.clock.now()),
            default_limits=convert.limits_out(config.limits),
            max_limits=convert.limits_out(config.max_limits),
        )

    # ---- help -------------------------------------------------------------------------------------------

    async def _view(self, job_id: int) -> JobView:
        return self._visible(await self._durable(job_id, self._engine.machine.job(job_id)))

    async def _seen(self, job_id: int, method: str) -> JobRecord:
        """The job's row, where the caller sees it and may do to it what the method does."""
        record = await self._record(job_id)
        check_job(callers.current(), job_id, record.owner, RULES[method].whose)
        return record

    def _node(self, view: NodeView) -> pb.Node:
        """A volunteer for a list; one that said what cannot be shown is there by name, and spoils no page."""
        try:
            node = pictures.node_out(view)
        except ValueError as error:
            _log.warning("node.not_shown", volunteer_id=view.record.volunteer_id, detail=str(error))
            return pb.Node(volunteer_id=view.record.volunteer_id, state=convert.number(view.state))
        viewing.hide_jobs(callers.current(), node, self._engine.machine.record)
        return node

    def _visible(self, view: JobView) -> JobView:
        """Raises NotFound where the caller may not see the job, as where there is none."""
        if not sees_job(callers.current(), view.job):
            raise no_such_job(view.job.job_id, hidden=True)
        return view

    def _draw(self, view: JobView, drawn: pictures.Drawn, into: pb.Job) -> pb.Job:
        """A job whole, as the caller is shown it."""
        pictures.job_out(view, self._desk.store.cluster_id, drawn, into)
        into.waits_for = viewing.wait_text(callers.current(), view.waits_for)
        self._hide(view.job, into)
        return into

    def _hide(self, job: JobRecord, picture: pb.Job) -> None:
        """Takes out of a picture what the caller is not shown."""
        viewing.hide_sources(callers.current(), job, picture)
        if self._hides_clients(job):
            viewing.hide_words(picture)

    def _hides_clients(self, job: JobRecord) -> bool:
        return viewing.hides_clients(callers.current(), job, self._desk.publish_client_logs)

    async def _record(self, job_id: int) -> JobRecord:
        """A job's row, which costs nothing to look at again and again while it is in memory."""
        record = self._engine.machine.record(job_id)
        return self._visible(await self._durable(job_id, None if record is None else JobView(record))).job

    async def _durable(self, job_id: int, view: JobView | None) -> JobView:
        """What the machine shows of a job, when it would survive a crash, else what the store has."""
        if view is not None:
            await self._engine.durable()
            return view
        view = await self._desk.store.load_job(job_id)
        if view is None:
            raise no_such_job(job_id)
        return view

    def _row(self, record: JobRecord) -> pb.Job:
        """A job for a list. One that waits has its place; what for is told of one job at a time."""
        row = pictures.job_row_out(record)
        self._hide(record, row)
        if record.state is JobState.QUEUED:
            row.queue_place, row.queue_length = self._engine.machine.place(record.job_id)
        return row

    async def _replayed(self, job_id: int) -> JobView:
        """The job that is to be replayed, where the caller may and what it ran is still there."""
        view = await self._view(job_id)
        check_replay(callers.current(), view.job, self._engine.config.default_client)
        spec = view.job.spec
        for source in (spec.source, spec.client):
            if source is not None and await self._desk.uploads.size(source.sha256) is None:
                raise Refused(
                    "SOURCE_GONE",
                    f"what job {job_id} ran is not kept any more",
                    hint="Submit its source again",
                )
        if self._is_staffs(spec.source.sha256):
            raise role_too_low(UserRole.STAFF, "to run the client of this manager as a job")
        return view

    async def _source(self, sha256: str, field: str) -> Source:
        convert.digest(sha256, field)
        size = await self._desk.uploads.size(sha256)
        if field == "spec.source_sha256" and self._is_staffs(sha256):
            size = None  # its own output would be shown to whoever ran it as a master
        if size is None:
            raise NotFound(
                "NO_SUCH_SOURCE", f"no source {sha256} is known here: upload it first", sha256=sha256
            )
        return Source(sha256, size)

    def _is_staffs(self, sha256: str) -> bool:
        """Whether a source is the default client's, and the caller is not to run it as anything else."""
        client = self._engine.config.default_client
        return client is not None and client.sha256 == sha256 and not callers.current().is_staff

    async def _off(self, work: Callable[[], T]) -> T:
        return await off(self._desk.files, work)

    def _nothing_follows(self, job_id: int) -> bool:
        """Whether a watcher of this job is told once more and then no more."""
        record = self._engine.machine.record(job_id)
        return record is None or _has_ended(record) or self._engine.stopping is not None

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


def _owner() -> str:
    """Whose job it is: the caller's, or whose an admin says; what others say there means nothing."""
    caller, named = callers.current(), callers.named()
    return named if caller.role is UserRole.ADMIN and is_name(named) else caller.name


def _has_ended(job: JobRecord) -> bool:
    return job.state > JobState.STOPPING


def _with_expiry(node: pb.Node, expires_at: int) -> pb.Node:
    if expires_at:
        node.certificate_expires_at.utc_ns = expires_at * 1_000_000_000
    return node
