"""``SchedulerClient``: what users ask of the manager, in plain blocking calls."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from syndicate.client_api._chaos import DEFAULT_TIMEOUT_S, Chaos
from syndicate.client_api._errors import NotAuthenticated, Unreachable
from syndicate.client_api._histories import GatheredHistory, write_all
from syndicate.client_api._identity import IdentityCalls
from syndicate.client_api._logs import LogResume
from syndicate.client_api._pack import Source
from syndicate.client_api._presence import Presence
from syndicate.client_api._retrying import Retrying
from syndicate.client_api._tls import open_channel
from syndicate.client_api._upload import Upload, Uploaded
from syndicate.v1 import scheduler_pb2, scheduler_pb2_grpc
from syndicate.v1.common_pb2 import JobState

_UPLOAD_TIMEOUT_S = 300.0
_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    # How long one connection attempt may hang; gRPC's own 20 s would outlast `connect_for`.
    ("grpc.min_reconnect_backoff_ms", 5000),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    # A machine that died is noticed within half a minute, also behind a stream that says nothing for long. By
    # default gRPC sends two pings and then waits for data, and takes a minute to miss an answer.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    # A job shows up to 100,000 faults with their story: more than gRPC's own 4 MiB.
    ("grpc.max_receive_message_length", 128 << 20),
)
_ENDED = frozenset(
    (
        JobState.JOB_STATE_SUCCEEDED,
        JobState.JOB_STATE_FAILED,
        JobState.JOB_STATE_UNKNOWN,
        JobState.JOB_STATE_CANCELLED,
        JobState.JOB_STATE_TIMED_OUT,
        JobState.JOB_STATE_LOST,
    )
)


def job_has_ended(state: JobState.ValueType) -> bool:
    """Whether a job in this state stays in it."""
    return state in _ENDED


class SchedulerClient(IdentityCalls):
    """A connection to a manager's users' side. Usable from several threads.

    ``address`` is ``HOST:PORT``. While the manager is not there, a call tries for ``connect_for`` seconds, or
    half as long again where its first try hangs, and raises Unreachable; a mutation keeps its request id
    meanwhile, so that it happens once. ``timeout`` bounds each single call, in seconds; one that the manager
    puts off, since the user makes too many, waits so long at most. Streams that ran and broke are opened
    again for ``reconnect_for`` seconds.
    ``ca`` is the authority that the manager's certificate is of, as PEM text or a file's path; without it
    those that gRPC trusts on this machine. ``insecure`` speaks clear text, to a manager on this machine only.
    ``user`` (``[a-z0-9-]``) says whose jobs are submitted, where the token leaves that open.
    ``on_away(error, seconds)`` is called, in the thread that noticed, as soon as a stream that ran broke;
    ``seconds`` is how long it will be tried. When the manager is back, ``error`` is None, and ``seconds`` is
    how long it was away. ``on_late`` is called with True, in another thread, when calls have waited for their
    answers for a second, or streams to be opened, and then with False when none waits any more; uploads do
    not count, which have their progress. Every call raises SchedulerError.
    """

    def __init__(
        self,
        address: str,
        token: str,
        *,
        user: str = "",
        connect_for: float = 5.0,
        timeout: float = 30.0,
        reconnect_for: float = 60.0,
        ca: str | Path | bytes | None = None,
        insecure: bool = False,
        on_away: Callable[[Unreachable | None, float], None] | None = None,
        on_late: Callable[[bool], None] | None = None,
    ) -> None:
        token = token.strip()
        if not (token.isascii() and token.isprintable()):
            raise NotAuthenticated("the token holds characters that no token has")
        self.address = address
        credential = [("authorization", f"Bearer {token}")] if token else []
        self._metadata = tuple(credential + ([("syndicate-user", user)] if user else []))
        self._timeout = timeout
        self._presence = Presence(on_away, on_late)
        self._retrying = Retrying(address, connect_for, reconnect_for, timeout, self._presence)
        self._channel = open_channel(address, ca, insecure, _OPTIONS)
        self._stub = scheduler_pb2_grpc.SchedulerStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Gives the connection back; streams that run in other threads end with an error."""
        self._presence.close()
        self._retrying.close()
        self._channel.close()

    def upload(
        self,
        source: Source,
        progress: Callable[[int, int], None] | None = None,
        *,
        timeout: float | None = None,
    ) -> Uploaded:
        """Sends a source. The manager may answer before all of it went out: then the sending stops.

        ``progress(sent, size)`` is called for each piece, from another thread. Raises SourceRefused.
        """
        header = scheduler_pb2.UploadHeader(
            request_id=str(uuid.uuid4()), sha256=source.sha256, size=source.size
        )

        def once(try_timeout: float) -> Uploaded:
            upload = Upload(source, header, progress)
            call = self._stub.UploadSource.future(
                upload.requests(), timeout=try_timeout, metadata=self._metadata
            )
            call.add_done_callback(lambda _: upload.answered.set())
            answer: scheduler_pb2.UploadSourceResponse = call.result()
            return Uploaded(answer.sha256, answer.size, answer.already_known, upload.sent)

        return self._retrying.call(once, _UPLOAD_TIMEOUT_S if timeout is None else timeout)

    def submit(self, spec: scheduler_pb2.JobSpec, *, request_id: str | None = None) -> int:
        """Queues a job and returns its id.

        Raises TooLarge, QuotaUsedUp, QueueFull, SourceRefused (NO_SUCH_SOURCE), BadRequest.

        ``spec.limits`` are of each task; those that are 0 are the manager's defaults. One above the manager's
        maximum is a BadRequest whose ``metadata`` names ``field``, ``asked``, ``most`` or ``least``, and a
        ``hint`` for people; ``cluster()`` tells the defaults and the maxima.
        """
        request = scheduler_pb2.SubmitRequest(request_id=request_id or str(uuid.uuid4()), spec=spec)
        answer: scheduler_pb2.SubmitResponse = self._unary(self._stub.Submit, request)
        return answer.job_id

    def replay(
        self,
        job_id: int,
        *,
        name: str = "",
        time_limit: float = 0.0,
        keep_disks: bool = False,
        request_id: str | None = None,
    ) -> int:
        """Queues what a job ran once more, with the faults of its last attempt; returns the new id.

        Each fault comes within 20 ms of its time after the start; the clients' own calls stand for them. The
        timing of the job's own processes is not reproduced. ``name`` and ``time_limit`` (seconds) are as of
        the job unless given. Raises NoSuchJob, CannotReplay, NotAllowed, and as ``submit`` does.
        """
        spec = scheduler_pb2.JobSpec(
            replay_of=job_id, name=name, time_limit_s=time_limit, keep_disks=keep_disks
        )
        return self.submit(spec, request_id=request_id)

    def cancel(self, job_id: int) -> JobState.ValueType:
        """Ends a job and returns its state now. Raises NoSuchJob."""
        request = scheduler_pb2.CancelJobRequest(request_id=str(uuid.uuid4()), job_id=job_id)
        answer: scheduler_pb2.CancelJobResponse = self._unary(self._stub.CancelJob, request)
        return answer.state

    def job(self, job_id: int) -> scheduler_pb2.Job:
        """One job with tasks, faults and story. Raises NoSuchJob."""
        answer: scheduler_pb2.GetJobResponse = self._unary(
            self._stub.GetJob, scheduler_pb2.GetJobRequest(job_id=job_id)
        )
        return answer.job

    def jobs(
        self, *, owner: str = "", states: Sequence[JobState.ValueType] = (), page_size: int = 0
    ) -> Iterator[scheduler_pb2.Job]:
        """Jobs, newest first, fetched page by page as they are taken."""
        request = scheduler_pb2.ListJobsRequest(page_size=page_size, owner=owner, states=states)
        for answer in self._pages(self._stub.ListJobs, request):
            yield from answer.jobs

    def barriers(self, job_id: int) -> scheduler_pb2.ListBarriersResponse:
        """The barriers of a running job at which somebody waits. Raises NoSuchJob, SchedulerError."""
        answer: scheduler_pb2.ListBarriersResponse = self._unary(
            self._stub.ListBarriers, scheduler_pb2.ListBarriersRequest(job_id=job_id)
        )
        return answer

    def drop_barriers(self, job_id: int, barrier: str = "") -> int | None:
        """Has the sync server of a running job drop a barrier, or all: who waits gets 240.

        How many it dropped; None where its volunteer is too old to say. Raises NoSuchJob, NoSuchBarrier,
        SchedulerError.
        """
        request = scheduler_pb2.DropBarriersRequest(
            request_id=str(uuid.uuid4()), job_id=job_id, barrier=barrier
        )
        answer: scheduler_pb2.DropBarriersResponse = self._unary(self._stub.DropBarriers, request)
        return answer.dropped if answer.HasField("dropped") else None

    def nodes(self, *, page_size: int = 0) -> Iterator[scheduler_pb2.Node]:
        """Volunteers by id, fetched page by page as they are taken."""
        for answer in self._pages(self._stub.ListNodes, scheduler_pb2.ListNodesRequest(page_size=page_size)):
            yield from answer.nodes

    def drain(self, volunteer_id: str, draining: bool = True) -> scheduler_pb2.NodeState.ValueType:
        """Takes a volunteer out of use for new jobs, or back. Raises NoSuchNode."""
        request = scheduler_pb2.DrainNodeRequest(
            request_id=str(uuid.uuid4()), volunteer_id=volunteer_id, draining=draining
        )
        answer: scheduler_pb2.DrainNodeResponse = self._unary(self._stub.DrainNode, request)
        return answer.state

    def cluster(self) -> scheduler_pb2.GetClusterResponse:
        """The cluster in numbers."""
        answer: scheduler_pb2.GetClusterResponse = self._unary(
            self._stub.GetCluster, scheduler_pb2.GetClusterRequest()
        )
        return answer

    def watch(self, job_id: int) -> Iterator[scheduler_pb2.WatchJobResponse]:
        """The job now and whenever it changes, until it has ended; opened again when the stream breaks."""
        request = scheduler_pb2.WatchJobRequest(job_id=job_id)
        for answer in self._retrying.stream(lambda: self._stub.WatchJob(request, metadata=self._metadata)):
            if answer is None:
                continue
            yield answer
            if job_has_ended(answer.job.state):
                return

    def logs(
        self, job_id: int, *, tasks: Sequence[str] = (), follow: bool = False, attempt: int = 0
    ) -> Iterator[scheduler_pb2.ReadLogsResponse]:
        """The output of a job's tasks, in the order in which it was read.

        When the stream breaks it is opened again, and pieces that were given already are left out.
        """
        request = scheduler_pb2.ReadLogsRequest(job_id=job_id, tasks=tasks, follow=follow, attempt=attempt)
        resume = LogResume()
        for answer in self._retrying.stream(
            lambda: self._stub.ReadLogs(request, metadata=self._metadata), until_end=True
        ):
            if answer is None:
                resume.reopened()
            elif (fresh := resume.fresh(answer)) is not None:
                yield fresh

    def disks(self, job_id: int, *, tasks: Sequence[str] = ()) -> Iterator[scheduler_pb2.ReadDisksResponse]:
        """The disks that a job's tasks left, one after the other, of a job submitted with ``keep_disks``.

        The first answer about a task has its ``size``, or says in ``missing`` why there is none. When the
        stream breaks it is opened again, and what was given already is left out. Raises NoSuchJob, and
        NoDisks for a job that kept none, or has not ended.
        """
        request = scheduler_pb2.ReadDisksRequest(job_id=job_id, tasks=tasks)
        given: dict[str, int] = {}
        at: dict[str, int] = {}
        for answer in self._retrying.stream(
            lambda: self._stub.ReadDisks(request, metadata=self._metadata), until_end=True
        ):
            if answer is None:
                at = {}
                continue
            begins = at.get(answer.task, 0)
            at[answer.task] = begins + len(answer.data)
            had = given.get(answer.task)
            if had is None:
                given[answer.task] = len(answer.data)
                yield answer
            elif at[answer.task] > had:
                given[answer.task] = at[answer.task]
                data = answer.data[had - begins :]
                yield scheduler_pb2.ReadDisksResponse(task=answer.task, data=data)

    def histories(
        self, job_id: int, folder: str | os.PathLike[str], *, tasks: Sequence[str] = (), attempt: int = 0
    ) -> tuple[GatheredHistory, ...]:
        """Fetches the histories that a job's clients handed over, into ``folder/TASK/NAME.jsonl``.

        Of these tasks, or all; of the latest attempt unless one is named. Raises NoSuchJob, NotPublished, and
        OSError.
        """
        request = scheduler_pb2.ReadHistoriesRequest(job_id=job_id, tasks=tasks, attempt=attempt)
        answers = self._retrying.stream(
            lambda: self._stub.ReadHistories(request, metadata=self._metadata), until_end=True
        )
        return write_all(answers, Path(folder))

    def chaos(self, job_id: int, timeout: float = DEFAULT_TIMEOUT_S) -> Chaos:
        """Breaks and mends a running job: its owner's and staff's. Open as long as this connection is.

        ``finish`` is for client tasks. Raises nothing until the first call.
        """
        metadata = (*self._metadata, ("syndicate-job", str(job_id)))
        return Chaos.of_user(self._channel, metadata, timeout)

    def _unary(self, method: Any, request: Any) -> Any:
        def once(try_timeout: float) -> Any:
            return method(request, timeout=try_timeout, metadata=self._metadata)

        self._presence.asks(once)
        try:
            return self._retrying.call(once, self._timeout)
        finally:
            self._presence.gave_up(once)
