"""A manager's users' side in this process, with scripted jobs: what the command line is tried against."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent import futures
from typing import Any, Self

import grpc
from syndicate.v1 import common_pb2 as common
from syndicate.v1 import scheduler_pb2 as scheduler
from syndicate.v1 import scheduler_pb2_grpc
from syndicate.v1.common_pb2 import JobState, Reason, Role, TaskState

from tests.cli.fake_chaos import FakeUsersChaos
from tests.cli.fake_identity import NOW_S, STAFF, STUDENT, SUBMIT, TOKEN, FakeIdentity, page, refuse, stamp

__all__ = ["TOKEN", "FakeManager", "FakeScheduler", "stamp"]

WAIT_S = 60.0


def task(name: str, number: int, *, node: str = "node-a") -> scheduler.Task:
    """A member that runs since the job's start."""
    role = {"m": Role.ROLE_MASTER, "s": Role.ROLE_SLAVE, "c": Role.ROLE_CLIENT}[name[0]]
    return scheduler.Task(
        ref=common.TaskRef(task=name, job_id=12, attempt=1, generation=1),
        role=role,
        address=f"10.77.0.{11 + number}",
        volunteer_id=node,
        slot=number,
        state=TaskState.TASK_STATE_RUNNING,
        runs=[scheduler.TaskRun(generation=1, started_at=stamp(0))],
    )


def queued_job(job_id: int = 12) -> scheduler.Job:
    """A job that waits."""
    return scheduler.Job(
        job_id=job_id,
        spec=scheduler.JobSpec(name="raft-kv", machines=3, clients=1, source_sha256="ab" * 32),
        owner="alice",
        state=JobState.JOB_STATE_QUEUED,
        attempt=1,
        queue_place=2,
        queue_length=3,
        waits_for="2 of 4 slots (job 9 ends in ≤ 4 min 10 s)",
        submitted_at=stamp(-3.1),
    )


def running_job(job_id: int = 12) -> scheduler.Job:
    """The same one, with all members running."""
    job = queued_job(job_id)
    job.state = JobState.JOB_STATE_RUNNING
    job.queue_place = job.queue_length = 0
    job.waits_for = ""
    job.tasks.extend(
        task(name, index) for index, name in enumerate(("master", "slave-0", "slave-1", "client-0"))
    )
    job.reserved_at.CopyFrom(stamp(-0.05))
    job.started_at.CopyFrom(stamp(0))
    job.gang_start_ns = 19_000_000
    job.story.append(
        scheduler.StoryLine(at=stamp(-3.1), event="job.queued", text="submitted by alice", attempt=1)
    )
    job.story.append(scheduler.StoryLine(at=stamp(0), event="job.started", attempt=1))
    return job


def fault(number: int, kind: common.FaultKind.ValueType, who: str, at: float, **values: Any) -> common.Fault:
    """A fault that client-0 asked for and that holds."""
    return common.Fault(
        fault_id=number,
        kind=kind,
        task=who,
        requested_by="client-0",
        requested_at=stamp(at - 0.001),
        applied_at=stamp(at + 77, "boot-v"),
        applied_at_manager=stamp(at),
        applied_error_ns=200_000,
        duration_ns=900_000,
        **values,
    )


def ended_job(job_id: int = 12) -> scheduler.Job:
    """The same one, broken, mended and passed after 15.4 s."""
    job = running_job(job_id)
    job.state = JobState.JOB_STATE_SUCCEEDED
    job.reason = Reason.REASON_CLIENT_PASSED
    job.ended_at.CopyFrom(stamp(15.4))
    job.faults.extend(
        (
            fault(1, common.FAULT_KIND_DISCONNECT, "slave-1", 3.02),
            fault(2, common.FAULT_KIND_KILL, "slave-0", 5.10, processes=4),
            fault(3, common.FAULT_KIND_REVIVE, "slave-0", 7.00, with_disk=True, generation=2),
            fault(4, common.FAULT_KIND_RECONNECT, "slave-1", 8.20),
        )
    )
    broken = job.tasks[1]
    broken.runs[0].ended_at.CopyFrom(stamp(5.10))
    broken.runs.append(scheduler.TaskRun(generation=2, started_at=stamp(7.0), ended_at=stamp(15.4)))
    for other in (job.tasks[0], job.tasks[2]):
        other.runs[0].ended_at.CopyFrom(stamp(15.4))
    client = job.tasks[3]
    client.runs[0].ended_at.CopyFrom(stamp(15.3))
    client.finished_at.CopyFrom(stamp(15.3))
    client.result.CopyFrom(common.Result(outcome=common.OUTCOME_PASS, score=0.97))
    for member in job.tasks:
        member.state = TaskState.TASK_STATE_RELEASED
    job.result.CopyFrom(
        common.Result(
            outcome=common.OUTCOME_PASS,
            score=0.97,
            metrics={"operations": 42310, "lost": 0},
            text="all acknowledged writes were there",
        )
    )
    return job


def log(
    who: str, offset: int, data: bytes, at: float, *, dropped: int = 0, generation: int = 1
) -> scheduler.ReadLogsResponse:
    """A piece of output."""
    return scheduler.ReadLogsResponse(
        task=who,
        generation=generation,
        at=stamp(at),
        piece=common.LogPiece(
            offset=offset,
            stream=common.LOG_STREAM_STDOUT,
            read_at=stamp(at + 77, "boot-v"),
            data=data,
            dropped_before=dropped,
        ),
    )


def node(name: str, state: scheduler.NodeState.ValueType, slots: int) -> scheduler.Node:
    """A volunteer."""
    return scheduler.Node(
        volunteer_id=name,
        state=state,
        slots=[scheduler.NodeSlot(slot=number) for number in range(slots)],
        total=common.Resources(cpus=2, memory_bytes=4 << 30),
        last_heard_at=stamp(0),
        version="0.1.0",
    )


class FakeScheduler(FakeIdentity):
    """Answers from what the test laid into it; a break in a stream is `None` in its script."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: dict[int, scheduler.Job] = {}
        self.watches: dict[int, list[list[scheduler.Job | None]]] = {}
        """For each opening of a watch: the snapshots, and None where the stream breaks."""
        self.logs: dict[int, list[list[scheduler.ReadLogsResponse | None]]] = {}
        self.histories: dict[int, list[list[scheduler.ReadHistoriesResponse | None]]] = {}
        self.disks: dict[int, list[list[scheduler.ReadDisksResponse | None]]] = {}
        self.hold = threading.Event()
        """A watch that has told all of a job that goes on waits for this."""
        self.together: threading.Barrier | None = None
        """Streams that are opened again meet here, so that none is back before the others have broken."""
        self._opened: Counter[str] = Counter()
        self.true_clock = False
        """`GetCluster` tells the time at which it answers, and not that of `cluster`."""
        self.nodes = [node("node-a", scheduler.NODE_STATE_READY, 8)]
        self.cluster = scheduler.GetClusterResponse(
            cluster_id="c-1", epoch=3, slots=8, free_slots=6, max_source_bytes=10 << 20, now=stamp(NOW_S)
        )
        self.barriers = scheduler.ListBarriersResponse()
        self.dropped: list[str] = []
        self.droppable: int | None = 1  # how many barriers there are to drop
        self.known: dict[str, bytes] = {}
        self.received_bytes = 0
        self.submitted: list[scheduler.SubmitRequest] = []
        self.cancelled: list[int] = []
        self.submit_error: tuple[grpc.StatusCode, str, str, dict[str, str]] | None = None
        self.upload_error: tuple[grpc.StatusCode, str, str] | None = None
        self.upload_cap = 1 << 40
        """An upload is refused once so many bytes of it have come."""
        self.quiet_logs = False
        """A log whose script is used up stays open and says nothing."""

    def UploadSource(self, requests: Iterator[scheduler.UploadSourceRequest], context: Any) -> Any:
        self.enter(context)
        header = next(requests).header
        if self.upload_error:
            refuse(context, *self.upload_error)
        if header.sha256 in self.known:
            return scheduler.UploadSourceResponse(sha256=header.sha256, size=header.size, already_known=True)
        data = bytearray()
        for request in requests:
            data += request.chunk
            self.received_bytes += len(request.chunk)
            if len(data) > self.upload_cap:
                text = f"more than {self.upload_cap} bytes"
                refuse(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "SOURCE_TOO_LARGE", text)
        assert hashlib.sha256(data).hexdigest() == header.sha256
        assert len(data) == header.size
        self.known[header.sha256] = bytes(data)
        return scheduler.UploadSourceResponse(sha256=header.sha256, size=header.size)

    def Submit(self, request: scheduler.SubmitRequest, context: Any) -> Any:
        self.enter(context, scope=SUBMIT)
        if self.submit_error:
            refuse(context, *self.submit_error)
        for sha256 in (request.spec.source_sha256, request.spec.client_sha256):
            if sha256 and sha256 not in self.known:
                refuse(context, grpc.StatusCode.NOT_FOUND, "NO_SUCH_SOURCE", f"no source {sha256}")
        self.submitted.append(request)
        return scheduler.SubmitResponse(job_id=12)

    def CancelJob(self, request: scheduler.CancelJobRequest, context: Any) -> Any:
        self._job(request.job_id, context)
        self.cancelled.append(request.job_id)
        return scheduler.CancelJobResponse(state=JobState.JOB_STATE_STOPPING)

    def GetJob(self, request: scheduler.GetJobRequest, context: Any) -> Any:
        return scheduler.GetJobResponse(job=self._job(request.job_id, context))

    def ListJobs(self, request: scheduler.ListJobsRequest, context: Any) -> Any:
        user = self.users[self.enter(context).user]
        found = [
            job
            for _, job in sorted(self.jobs.items(), reverse=True)
            if (not request.states or job.state in request.states)
            and (not request.owner or job.owner == request.owner)
            and sees(user, job)
        ]
        part, rest = page(found, request)
        return scheduler.ListJobsResponse(jobs=part, next_page_token=rest)

    def WatchJob(self, request: scheduler.WatchJobRequest, context: Any) -> Any:
        job = self._job(request.job_id, context)
        self._meet("watch")
        scripts = self.watches.get(request.job_id)
        for snapshot in scripts.pop(0) if scripts else [job]:
            if snapshot is None:
                context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
            yield scheduler.WatchJobResponse(job=snapshot, now=stamp(20))
            job = snapshot
        if job.state < JobState.JOB_STATE_SUCCEEDED:
            self.hold.wait(WAIT_S)

    def ReadLogs(self, request: scheduler.ReadLogsRequest, context: Any) -> Any:
        job = self._job(request.job_id, context)
        hidden = self.users[self.enter(context).user].role == STUDENT and not job.published
        if hidden and any(name.startswith("client-") for name in request.tasks):
            text = "the output of client-0 is not published"
            refuse(context, grpc.StatusCode.PERMISSION_DENIED, "NOT_PUBLISHED", text)
        self._meet("logs")
        context.send_initial_metadata(())
        scripts = self.logs.get(request.job_id, [])
        if not scripts and self.quiet_logs:
            self.hold.wait(WAIT_S)
        for piece in scripts.pop(0) if scripts else []:
            if piece is None:
                context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
            elif hidden and piece.task.startswith("client-"):
                continue
            elif not request.tasks or piece.task in request.tasks:
                yield piece

    def ReadHistories(self, request: scheduler.ReadHistoriesRequest, context: Any) -> Any:
        job = self._job(request.job_id, context)
        if self.users[self.enter(context).user].role == STUDENT and not job.published:
            text = "what clients record is not published"
            refuse(context, grpc.StatusCode.PERMISSION_DENIED, "NOT_PUBLISHED", text)
        context.send_initial_metadata(())
        scripts = self.histories.get(request.job_id, [])
        for piece in scripts.pop(0) if len(scripts) > 1 else scripts[0] if scripts else []:
            if piece is None:
                context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
            else:
                yield piece

    def ReadDisks(self, request: scheduler.ReadDisksRequest, context: Any) -> Any:
        job = self._job(request.job_id, context)
        if not job.spec.keep_disks:
            refuse(context, grpc.StatusCode.NOT_FOUND, "NO_DISKS", f"job {job.job_id} kept no disks")
        context.send_initial_metadata(())
        scripts = self.disks.get(request.job_id, [])
        for piece in scripts.pop(0) if scripts else []:
            if piece is None:
                context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
            elif not request.tasks or piece.task in request.tasks:
                yield piece

    def ListBarriers(self, request: scheduler.ListBarriersRequest, context: Any) -> Any:
        self._job(request.job_id, context)
        return self.barriers

    def DropBarriers(self, request: scheduler.DropBarriersRequest, context: Any) -> Any:
        self._job(request.job_id, context)
        self.dropped.append(request.barrier)
        if request.barrier and self.droppable == 0:
            text = f"job {request.job_id} has no barrier '{request.barrier}': none is open"
            refuse(context, grpc.StatusCode.NOT_FOUND, "NO_SUCH_BARRIER", text)
        return scheduler.DropBarriersResponse(dropped=self.droppable)

    def ListNodes(self, request: scheduler.ListNodesRequest, context: Any) -> Any:
        self.enter(context)
        return scheduler.ListNodesResponse(nodes=self.nodes)

    def DrainNode(self, request: scheduler.DrainNodeRequest, context: Any) -> Any:
        self.enter(context, STAFF)
        for found in self.nodes:
            if found.volunteer_id == request.volunteer_id:
                found.state = scheduler.NODE_STATE_DRAINED if request.draining else scheduler.NODE_STATE_READY
                return scheduler.DrainNodeResponse(state=found.state)
        refuse(context, grpc.StatusCode.NOT_FOUND, "NO_SUCH_NODE", f"no volunteer {request.volunteer_id}")

    def GetCluster(self, request: scheduler.GetClusterRequest, context: Any) -> Any:
        self.enter(context)
        if self.true_clock:
            self.cluster.now.utc_ns = time.time_ns()
        return self.cluster

    def PublishJob(self, request: scheduler.PublishJobRequest, context: Any) -> Any:
        job = self._job(request.job_id, context)
        self.enter(context, STAFF)
        job.published = request.published
        return scheduler.PublishJobResponse(published=job.published)

    def _meet(self, stream: str) -> None:
        self._opened[stream] += 1
        if self.together is not None and self._opened[stream] > 1:
            self.together.wait(WAIT_S)

    def _job(self, job_id: int, context: grpc.ServicerContext) -> scheduler.Job:
        user = self.users[self.enter(context).user]
        if job_id not in self.jobs or not sees(user, self.jobs[job_id]):
            refuse(context, grpc.StatusCode.NOT_FOUND, "NO_SUCH_JOB", f"no job {job_id}")
        return self.jobs[job_id]


def sees(user: scheduler.User, job: scheduler.Job) -> bool:
    """Whether a job exists as far as a user is concerned."""
    own = user.name == job.owner or bool(user.team and user.team == job.team)
    return own or job.published or user.role >= STAFF


class FakeManager:
    """Serves a FakeScheduler on a free port of 127.0.0.1 while its `with` block runs."""

    def __init__(self) -> None:
        self.scheduler = FakeScheduler()
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
        scheduler_pb2_grpc.add_SchedulerServicer_to_server(self.scheduler, self._server)
        self.chaos = FakeUsersChaos()
        self._server.add_generic_rpc_handlers((self.chaos,))
        self.port = self._server.add_insecure_port("127.0.0.1:0")

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.scheduler.hold.set()
        self._server.stop(grace=None).wait(WAIT_S)
