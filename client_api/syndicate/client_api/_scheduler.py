"""``SchedulerClient``: what users ask of the manager, in plain blocking calls."""

from __future__ import annotations

import os
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from syndicate.client_api._chaos import DEFAULT_TIMEOUT_S, Chaos
from syndicate.client_api._errors import (
    Failure,
    NotAuthenticated,
    NotTrusted,
    SchedulerError,
    Unreachable,
    busy_pause_s,
    read_failure,
    scheduler_error,
)
from syndicate.client_api._histories import GatheredHistory, write_all
from syndicate.client_api._identity import IdentityCalls
from syndicate.client_api._logs import LogResume
from syndicate.client_api._pack import Source
from syndicate.client_api._presence import Presence
from syndicate.client_api._retry import RetryPolicy
from syndicate.client_api._tls import open_channel, time_apart
from syndicate.v1 import scheduler_pb2, scheduler_pb2_grpc
from syndicate.v1.common_pb2 import JobState

T = TypeVar("T")

CHUNK_BYTES = 512 * 1024
_EARLY_ANSWER_S = 0.02
_UPLOAD_TIMEOUT_S = 300.0
_PAUSES = RetryPolicy(first_pause_s=0.05, longest_pause_s=0.5)
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


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A source is stored."""

    sha256: str
    size: int
    """Bytes."""
    already_known: bool
    """True when the manager had it before."""
    sent_bytes: int
    """How many of its bytes went out before the manager answered."""


def job_has_ended(state: JobState.ValueType) -> bool:
    """Whether a job in this state stays in it."""
    return state in _ENDED


class SchedulerClient(IdentityCalls):
    """A connection to a manager's users' side. Usable from several threads.

    ``address`` is ``HOST:PORT``. While the manager is not there, a call tries for ``connect_for`` seconds and
    raises Unreachable; a mutation keeps its request id meanwhile, so that it happens once. ``timeout`` bounds
    each single call, in seconds; one that the manager puts off, since the user makes too many, waits so long
    at most. Streams that ran and broke are opened again for ``reconnect_for`` seconds.
    ``ca`` is the authority that the manager's certificate is of, as PEM text or a file's path; without it
    those that gRPC trusts on this machine. ``insecure`` speaks clear text, to a manager on this machine only.
    ``user`` (``[a-z0-9-]``) says whose jobs are submitted, where the token leaves that open.
    ``on_away(error, seconds)`` is called, in the thread that noticed, as soon as a stream that ran broke;
    ``seconds`` is how long it will be tried. When the manager is back, ``error`` is None, and ``seconds`` is
    how long it was away. Every call raises SchedulerError.
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
    ) -> None:
        token = token.strip()
        if not (token.isascii() and token.isprintable()):
            raise NotAuthenticated("the token holds characters that no token has")
        self.address = address
        credential = [("authorization", f"Bearer {token}")] if token else []
        self._metadata = tuple(credential + ([("syndicate-user", user)] if user else []))
        self._connect_for = connect_for
        self._timeout = timeout
        self._reconnect_for = reconnect_for
        self._presence = Presence(on_away)
        self._closed = threading.Event()
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
        self._closed.set()
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
            upload = _Upload(source, header, progress)
            call = self._stub.UploadSource.future(
                upload.requests(), timeout=try_timeout, metadata=self._metadata
            )
            call.add_done_callback(lambda _: upload.answered.set())
            answer: scheduler_pb2.UploadSourceResponse = call.result()
            return Uploaded(answer.sha256, answer.size, answer.already_known, upload.sent)

        return self._try(once, _UPLOAD_TIMEOUT_S if timeout is None else timeout)

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
        for answer in self._stream(lambda: self._stub.WatchJob(request, metadata=self._metadata)):
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
        for answer in self._stream(
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
        for answer in self._stream(
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
        answers = self._stream(
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
        return self._try(
            lambda try_timeout: method(request, timeout=try_timeout, metadata=self._metadata), self._timeout
        )

    def _try(self, once: Callable[[float], T], timeout: float) -> T:
        """Does a call, again while the manager is away, for as long as ``connect_for``.

        Also again after the pause that a busy manager asks for, all in all for as long as ``timeout``.
        """
        started = time.monotonic()
        tries, put_off_s = 0, 0.0
        while True:
            tries += 1
            try:
                return once(timeout)
            except grpc.RpcError as error:
                failure = read_failure(error)
            tried_for = time.monotonic() - started - put_off_s
            if self._waited_its_turn(failure, put_off_s, timeout):
                put_off_s = time.monotonic() - started - tried_for
                continue
            if failure.code != "UNAVAILABLE" or _is_distrust(failure) or tried_for >= self._connect_for:
                raise self._error(failure, tried_for)
            self._pause(tries, self._connect_for - tried_for)

    def _waited_its_turn(self, failure: Failure, put_off_s: float, timeout: float) -> bool:
        """Waits as long as a busy manager asks for; False where it does not, or asks for too long."""
        pause = busy_pause_s(failure)
        if pause is None or put_off_s + pause > timeout or self._closed.is_set():
            return False
        # Callers that were put off together must not come back together.
        spread = min(_PAUSES.longest_pause_s, timeout - put_off_s - pause)
        self._closed.wait(pause + spread * _dice())
        return True

    def _stream(self, open_stream: Callable[[], Any], until_end: bool = False) -> Iterator[Any]:
        """The answers of a stream that is opened again when it breaks; None stands for each new opening.

        A stream that the server closes cleanly is over if ``until_end``, else it counts as broken. How long
        it is tried counts from when one that stood broke, however long that had said nothing.
        """
        budget, ran, put_off_s = self._connect_for, False, 0.0
        away_since = time.monotonic()
        tries = 0
        try:
            while True:
                tries += 1
                call = open_stream()
                stood = False
                failure = Failure("UNAVAILABLE", "the stream ended")
                try:
                    yield None
                    stood = self._await_open(open_stream, call)
                    for answer in call:
                        stood = True
                        yield answer
                    if until_end:
                        self._presence.found(open_stream)
                        return
                except grpc.RpcError as error:
                    failure = read_failure(error)
                finally:
                    call.cancel()
                if stood:
                    budget, tries, ran = self._reconnect_for, 1, True
                    away_since = time.monotonic()
                tried_for = time.monotonic() - away_since
                if self._waited_its_turn(failure, put_off_s, self._timeout):
                    waited_s = time.monotonic() - away_since - tried_for
                    put_off_s, away_since = put_off_s + waited_s, away_since + waited_s
                    continue
                if (
                    not _is_broken(failure)
                    or _is_distrust(failure)
                    or self._closed.is_set()
                    or tried_for >= budget
                ):
                    raise self._error(failure, tried_for)
                if ran:
                    self._lost(open_stream, failure, tried_for)
                self._pause(tries, budget - tried_for)
        finally:
            self._presence.gave_up(open_stream)

    def _await_open(self, key: object, call: Any) -> bool:
        """Waits until the manager has taken the stream or refused it; returns whether it stands.

        Its first answer may be long in coming: a task that says nothing has no log.
        """
        call.initial_metadata()
        stands: bool = call.is_active()
        if stands:
            self._presence.found(key)
        return stands

    def _lost(self, key: object, failure: Failure, tried_for: float) -> None:
        error = self._error(failure, tried_for)
        if isinstance(error, Unreachable):
            self._presence.lost(key, error, self._reconnect_for)

    def _pause(self, tries: int, at_most: float) -> None:
        self._closed.wait(min(_PAUSES.pause_s(tries, _dice()), max(0.0, at_most)))

    def _error(self, failure: Failure, tried_for: float) -> SchedulerError:
        if _is_distrust(failure):
            cause = _cause(failure)
            if "clock here" in cause and (apart := time_apart(self.address)):
                cause += f"; {apart}"
            return NotTrusted(f"the certificate of {self.address} is not trusted ({cause})", failure)
        if _is_broken(failure) or (failure.code == "DEADLINE_EXCEEDED" and not failure.reason):
            return Unreachable(self.address, _cause(failure), tried_for, failure)
        return scheduler_error(failure)


class _Upload:
    """The pieces of one upload, with a count of what went out."""

    def __init__(
        self,
        source: Source,
        header: scheduler_pb2.UploadHeader,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.sent = 0
        self.answered = threading.Event()
        self._source = source
        self._header = header
        self._progress = progress

    def requests(self) -> Iterator[scheduler_pb2.UploadSourceRequest]:
        yield scheduler_pb2.UploadSourceRequest(header=self._header)
        # A manager that knows the source answers the header alone; a moment's patience saves the sending.
        if self.answered.wait(_EARLY_ANSWER_S):
            return
        for chunk in self._source.chunks(CHUNK_BYTES):
            if self.answered.is_set():
                return
            self.sent += len(chunk)
            yield scheduler_pb2.UploadSourceRequest(chunk=chunk)
            if self._progress is not None:
                self._progress(self.sent, self._source.size)


def _dice() -> float:
    return random.random()  # noqa: S311 - jitter, no secret


def _is_broken(failure: Failure) -> bool:
    # A connection that is reset in the middle of a stream comes as INTERNAL or UNKNOWN from some versions.
    if failure.code == "UNAVAILABLE":
        return True
    torn = "RST_STREAM" in failure.text or "Stream removed" in failure.text
    return failure.code in ("INTERNAL", "UNKNOWN") and torn and not failure.reason


def _is_distrust(failure: Failure) -> bool:
    # gRPC's own words: no status says that it was the certificate.
    signs = ("certificate_verify_failed", "handshake failed", "not in peer certificate", "hostname verif")
    return failure.code == "UNAVAILABLE" and any(sign in failure.text.lower() for sign in signs)


def _cause(failure: Failure) -> str:
    text = failure.text.lower()
    known = {
        "not in peer certificate": "it is not for this address",
        "hostname verif": "it is not for this address",
        "has expired": "it has expired, or the clock here is ahead",
        "not yet valid": "it has not begun, or the clock here is behind",
        "wrong_version_number": "no TLS is spoken there",
        "certificate_verify_failed": "it is of another authority",
        "handshake failed": "it is of another authority",
        "connection refused": "connection refused",
        "dns resolution failed": "no such host",
        "lookup failed": "no such host",
        "no route to host": "no route to host",
        "network is unreachable": "network unreachable",
        "timeout": "no answer",
        "fd shutdown": "no answer",
        "deadline": "no answer",
        "socket closed": "connection lost",
        "connection reset": "connection lost",
        "stream ended": "connection lost",
        "rst_stream": "connection lost",
    }
    found = next((cause for sign, cause in known.items() if sign in text), None)
    return found or (failure.text.splitlines()[0] if failure.text else failure.code.lower())
