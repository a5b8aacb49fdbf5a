"""Which error a refused call stands for: the table that makes this package's of gRPC's.

The manager says reason and metadata in ``grpc-status-details-bin`` for everybody, and in plain trailing
metadata (``syndicate-reason``, ``syndicate-meta-KEY``), which is what is read here: that needs grpcio alone.
"""

from __future__ import annotations

import grpc
from syndicate.client_api._errors import (
    AttemptEnded,
    BadField,
    BadRequest,
    CannotDoIt,
    CannotReplay,
    ChaosError,
    ClientFinished,
    DeadlineExceeded,
    Exhausted,
    Failure,
    FaultFailed,
    HistoriesMissing,
    HistoryClosed,
    HistoryTooLarge,
    JobIsGraded,
    JobNotRunning,
    LastAdmin,
    NoDisks,
    NoSuchBarrier,
    NoSuchFault,
    NoSuchHistory,
    NoSuchJob,
    NoSuchMember,
    NoSuchNode,
    NoSuchToken,
    NoSuchUser,
    NotAClient,
    NotAllowed,
    NotAnAddress,
    NotAuthenticated,
    NotInReplay,
    NotPublished,
    OutOfScope,
    QueueFull,
    QuotaUsedUp,
    RoleTooLow,
    SchedulerError,
    SourceRefused,
    TaskAlive,
    TaskDead,
    TokenExpired,
    TooLarge,
    TooManyCalls,
    TooManyFaults,
    TooManyTokens,
    Unavailable,
    UserDisabled,
    UserExists,
)

REASON_KEY = "syndicate-reason"
_CLOSED_HERE = "Channel closed!"  # gRPC's words for a call whose own side gave the connection back
METADATA_PREFIX = "syndicate-meta-"

_CHAOS_BY_REASON: dict[str, type[ChaosError]] = {
    "NOT_AN_ADDRESS": NotAnAddress,
    "NO_SUCH_MEMBER": NoSuchMember,
    "BAD_FIELD": BadField,
    "NO_SUCH_FAULT": NoSuchFault,
    "NO_SUCH_HISTORY": NoSuchHistory,
    "HISTORY_CLOSED": HistoryClosed,
    "HISTORY_TOO_LARGE": HistoryTooLarge,
    "HISTORIES_MISSING": HistoriesMissing,
    "TASK_ALIVE": TaskAlive,
    "TASK_DEAD": TaskDead,
    "CANNOT": CannotDoIt,
    "TOO_MANY_FAULTS": TooManyFaults,
    "TOO_MANY_CALLS": TooManyFaults,
    "NOT_A_CLIENT": NotAClient,
    "CLIENT_FINISHED": ClientFinished,
    "JOB_NOT_RUNNING": JobNotRunning,
    "NOT_IN_REPLAY": NotInReplay,
    "GRADED": JobIsGraded,
    "ATTEMPT_ENDED": AttemptEnded,
    "MANAGER_AWAY": Unavailable,
    "MANAGER_BUSY": Unavailable,
    "VOLUNTEER_AWAY": Unavailable,
    "FAULT_FAILED": FaultFailed,
}

# For an answer without a reason, for instance gRPC's own.
_CHAOS_BY_CODE: dict[str, type[ChaosError]] = {
    "INVALID_ARGUMENT": BadField,
    "RESOURCE_EXHAUSTED": TooManyFaults,
    "NOT_FOUND": NoSuchMember,
    "PERMISSION_DENIED": NotAClient,
    "ABORTED": AttemptEnded,
    "UNAVAILABLE": Unavailable,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
}

_SCHEDULER_BY_REASON: dict[str, type[SchedulerError]] = {
    "BAD_TOKEN": NotAuthenticated,
    "TOKEN_EXPIRED": TokenExpired,
    "USER_DISABLED": UserDisabled,
    "ROLE_TOO_LOW": RoleTooLow,
    "OUT_OF_SCOPE": OutOfScope,
    "NOT_PUBLISHED": NotPublished,
    "NO_SUCH_JOB": NoSuchJob,
    "NO_DISKS": NoDisks,
    "NO_SUCH_BARRIER": NoSuchBarrier,
    "NO_SUCH_NODE": NoSuchNode,
    "NO_SUCH_USER": NoSuchUser,
    "NO_SUCH_TOKEN": NoSuchToken,
    "USER_EXISTS": UserExists,
    "LAST_ADMIN": LastAdmin,
    "QUOTA_QUEUED": QuotaUsedUp,
    "QUOTA_SUBMISSIONS": QuotaUsedUp,
    "QUOTA_MACHINES": QuotaUsedUp,
    "QUOTA_UPLOADS": QuotaUsedUp,
    "QUEUE_FULL": QueueFull,
    "TOO_MANY_CALLS": TooManyCalls,
    "TOO_MANY_STREAMS": TooManyCalls,
    "TOO_MANY_TOKENS": TooManyTokens,
    "TOO_LARGE": TooLarge,
    "NO_SLOTS": TooLarge,
    "JOB_NOT_ENDED": CannotReplay,
    "NOTHING_TO_REPLAY": CannotReplay,
    "CLIENT_CHANGED": CannotReplay,
    "SOURCE_GONE": CannotReplay,
    "EMPTY_SOURCE": SourceRefused,
    "NOT_A_TAR": SourceRefused,
    "TRUNCATED_SOURCE": SourceRefused,
    "NO_MAKEFILE": SourceRefused,
    "DIGEST_MISMATCH": SourceRefused,
    "SOURCE_TOO_LARGE": SourceRefused,
    "NO_SUCH_SOURCE": SourceRefused,
}

_SCHEDULER_BY_CODE: dict[str, type[SchedulerError]] = {
    "INVALID_ARGUMENT": BadRequest,
    "UNAUTHENTICATED": NotAuthenticated,
    "PERMISSION_DENIED": NotAllowed,
    "RESOURCE_EXHAUSTED": Exhausted,
}


def busy_pause_s(failure: Failure) -> float | None:
    """Seconds after which a call that came too soon may be made again; None for other failures."""
    if failure.reason != "TOO_MANY_CALLS":
        return None
    after = failure.number("retry_after_s")
    return after if after is not None and after >= 0 else None


def read_failure(error: grpc.RpcError) -> Failure:
    """Takes a failed call apart, of grpc or of grpc.aio."""
    if not isinstance(error, (grpc.Call, grpc.aio.AioRpcError)):
        return Failure("UNKNOWN", str(error))
    values: dict[str, str] = {}
    for key, value in error.trailing_metadata() or ():
        values[key] = value if isinstance(value, str) else value.decode("ascii", "replace")
    metadata = {
        key.removeprefix(METADATA_PREFIX): value
        for key, value in values.items()
        if key.startswith(METADATA_PREFIX)
    }
    return Failure(error.code().name, error.details() or "", values.get(REASON_KEY, ""), metadata)


def chaos_error(failure: Failure) -> ChaosError | SchedulerError:
    """Makes the error that a failed call of ChaosControl stands for.

    A SchedulerError where the manager refuses a user, its token or its job.
    """
    text = failure.text or failure.reason or failure.code
    by_reason = _CHAOS_BY_REASON.get(failure.reason) or _SCHEDULER_BY_REASON.get(failure.reason)
    if by_reason is None and failure.code == "UNAUTHENTICATED":
        by_reason = NotAuthenticated
    if by_reason is None and failure.code == "CANCELLED" and failure.text != _CLOSED_HERE:
        by_reason = Unavailable  # a relay says so of a call that came as its volunteer was being stopped
    kind = by_reason or _CHAOS_BY_CODE.get(failure.code) or ChaosError
    return kind(text, failure)


def scheduler_error(failure: Failure) -> SchedulerError:
    """Makes the error that a failed call of Scheduler stands for, unless the manager was not reached."""
    kind = _SCHEDULER_BY_REASON.get(failure.reason) or _SCHEDULER_BY_CODE.get(failure.code) or SchedulerError
    return kind(failure.text or failure.reason or failure.code, failure)
