"""What must survive the manager: rows with a key, saved whole.

A save replaces the row of the same key. `Machine.restore` takes them back. What can be derived is not kept:
the line "queued" of a story comes from its job's row.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any, Final

from .frozen import frozen
from .model import (
    Degradation,
    FaultKind,
    JobSpec,
    JobState,
    Quota,
    Reason,
    Resources,
    Result,
    Role,
    Stamp,
    TaskExit,
    TaskState,
    TokenScope,
    UserRole,
)


@frozen
class JobRecord:
    """A job. Key: job_id. No other job of now has its request_id, but one of long ago may.

    While STOPPING, `verdict` says what it will be: the terminal state, or QUEUED for a requeue. `team` is the
    owner's when it was submitted. One that is `published` is seen by all users. `submitter` is who submitted
    it, by which token and from where, for the audit log.
    """

    job_id: int
    request_id: str
    owner: str
    spec: JobSpec
    state: JobState
    attempt: int
    submitted_at: Stamp
    queued_at: Stamp
    reason: Reason = Reason.UNSPECIFIED
    detail: str = ""
    verdict: JobState | None = None
    result: Result | None = None
    reserved_at: Stamp | None = None
    started_at: Stamp | None = None
    ended_at: Stamp | None = None
    gang_start_ns: int = 0
    team: str = ""
    published: bool = False
    submitter: tuple[str, str, str] | None = None


@frozen
class TaskRecord:
    """A member in one attempt. Key: job_id, attempt, task."""

    job_id: int
    attempt: int
    task: str
    role: Role
    volunteer_id: str
    boot_id: str
    slot: int
    state: TaskState
    address: str = ""
    generation: int = 0
    exit: TaskExit | None = None
    result: Result | None = None
    finished_at: Stamp | None = None
    finish_request_id: str = ""
    barriers_told: int = 0  # the last event whose lines are in the story


@frozen
class RunRecord:
    """One generation of a task, on the manager's clock. Key: job_id, attempt, task, generation."""

    job_id: int
    attempt: int
    task: str
    generation: int
    started_at: Stamp
    ended_at: Stamp | None = None
    exit: TaskExit | None = None


@frozen
class FaultRecord:
    """One line of the ledger. Key: job_id, fault_id. Saved with intent before, again when it holds or failed.

    `applied_at` is the volunteer's stamp (the manager's where it gave none), `applied_at_manager` the same on
    the manager's clock ± `applied_error_ns`. What lasts is in force from then until `healed_at_manager`;
    `lease_s` is 0 where it does not end by itself. `call_id` is the first line of its call. A line that takes
    others back names them in `heals`. `cut_out`, `cut_in` and `peers` are names of members; of a Disconnect
    and a Reset, which are about all masters and slaves, none are named.
    """

    job_id: int
    fault_id: int
    attempt: int
    request_id: str
    kind: FaultKind
    task: str
    requested_by: str
    requested_at: Stamp
    with_disk: bool = True
    generation: int = 0
    processes: int = 0
    applied_at: Stamp | None = None
    applied_at_manager: Stamp | None = None
    applied_error_ns: int = 0
    duration_ns: int = 0
    already: bool = False
    error: str = ""
    call_id: int = 0
    lease_s: float = 0.0
    healed_at_manager: Stamp | None = None
    healed_error_ns: int = 0
    healed_by: str = ""
    heals: tuple[int, ...] = ()
    cut_out: tuple[str, ...] = ()
    cut_in: tuple[str, ...] = ()
    degradation: Degradation | None = None
    peers: tuple[str, ...] = ()
    one_way: bool = False
    signal: int = 0
    shape: str = ""
    seed: int = 0
    text: str = ""


_fault_values: Final = attrgetter(*FaultRecord.__dataclass_fields__)


def changed(line: FaultRecord, **changes: Any) -> FaultRecord:
    """The line with other values in some fields: `replace`, at a fraction of its time for so many of them."""
    new = FaultRecord(*_fault_values(line))
    for name, value in changes.items():
        setattr(new, name, value)  # nobody has seen it yet
    return new


@frozen
class PlannedPart:
    """What a planned call does at one member; `held_ns` after the start it held there in the replayed job."""

    task: str
    held_ns: int
    cut_out: tuple[str, ...] = ()
    cut_in: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()


@frozen
class PlanRecord:
    """A call that a replay makes again, `offset_ns` after the start. Key: job_id, number.

    Calls count from 1, in the order of their times. `asked_by` asked for it in the replayed job; empty where
    nobody knows any more. The further fields are those of `FaultRecord`, but for `heals`: the numbers of the
    calls that a Heal takes back, or `everything`. It is over in the attempt `over_in`; in `claimed_in` the
    request `claimed_by` of a client stands for it.
    """

    job_id: int
    number: int
    offset_ns: int
    asked_by: str
    kind: FaultKind
    parts: tuple[PlannedPart, ...]
    with_disk: bool = True
    lease_s: float = 0.0
    degradation: Degradation | None = None
    one_way: bool = False
    signal: int = 0
    shape: str = ""
    seed: int = 0
    text: str = ""
    heals: tuple[int, ...] = ()
    everything: bool = False
    over_in: int = 0
    claimed_in: int = 0
    claimed_by: str = ""


@frozen
class StoryRecord:
    """One line of a job's story. Key: job_id, sequence. Never changed once written."""

    job_id: int
    sequence: int
    attempt: int
    at: Stamp
    task: str
    event: str
    text: str


@frozen
class NodeRecord:
    """A volunteer that was seen. Key: volunteer_id. One that is `forgotten` is as if it had never been."""

    volunteer_id: str
    boot_id: str
    slots: tuple[tuple[int, str], ...]
    prefix: str
    network: str
    reach_domain: str
    capabilities: tuple[str, ...]
    version: str
    resources: Resources
    drained: bool
    last_seen_at: Stamp
    forgotten: bool = False
    unsafe: tuple[str, ...] = ()
    cannot: tuple[tuple[str, str], ...] = ()


@frozen
class EpochRecord:
    """The highest epoch of this cluster that anybody has seen: the next start takes a higher one. No key."""

    epoch: int


@frozen
class UserRecord:
    """Somebody who may call. Key: name. The tokens of one that is `disabled` are refused."""

    name: str
    role: UserRole
    team: str
    disabled: bool
    quota: Quota
    created_at: Stamp


@frozen
class TeamRecord:
    """Users that share a quota and see each other's jobs. Key: name."""

    name: str
    quota: Quota


@frozen
class TokenRecord:
    """A credential: `digest` is the SHA-256 of its secret, in hexadecimal. Key: token_id.

    `expires_utc_ns` is 0 where it never expires. One that is `forgotten` is as if it had never been.
    """

    token_id: str
    user: str
    note: str
    scope: TokenScope
    digest: str
    created_at: Stamp
    expires_utc_ns: int = 0
    revoked_at: Stamp | None = None
    last_used_at: Stamp | None = None
    forgotten: bool = False


@frozen
class AuditRecord:
    """One line of the audit log. Key: line. Never changed once written."""

    line: int
    at: Stamp
    who: str
    token_id: str
    peer: str
    method: str
    subject: str
    allowed: bool
    reason: str = ""
    job_id: int = 0


Record = (
    JobRecord
    | TaskRecord
    | RunRecord
    | FaultRecord
    | PlanRecord
    | StoryRecord
    | NodeRecord
    | EpochRecord
    | UserRecord
    | TeamRecord
    | TokenRecord
    | AuditRecord
)
