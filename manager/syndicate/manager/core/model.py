"""The words of the core as values: states, identities, limits, results.

The numbers of the enums are those of ``syndicate.v1``; a test holds them together, so that the edges convert
by number and the core needs no protobuf.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from .frozen import frozen


class Role(IntEnum):
    """What a member of a job does."""

    MASTER = 1
    SLAVE = 2
    CLIENT = 3


class JobState(IntEnum):
    """The life of a job; `transitions` holds the table."""

    QUEUED = 1
    RESERVING = 2
    PREPARING = 3
    RUNNING = 4
    STOPPING = 5
    SUCCEEDED = 6
    FAILED = 7
    UNKNOWN = 8
    CANCELLED = 9
    TIMED_OUT = 10
    LOST = 11


class TaskState(IntEnum):
    """The life of a task, one member in one attempt; `transitions` holds the table."""

    RESERVING = 1
    RESERVED = 2
    PREPARING = 3
    PREPARED = 4
    STARTING = 5
    RUNNING = 6
    KILLED = 7
    EXITED = 8
    RELEASED = 9
    LOST = 10


class Reason(IntEnum):
    """Why a task or a job ended as it did."""

    UNSPECIFIED = 0
    EXITED_ZERO = 1
    EXITED_NONZERO = 2
    SIGNALED = 3
    KILLED_BY_FAULT = 4
    STOPPED = 5
    NOTHING_RUN = 6
    NO_MAKEFILE = 7
    NO_TARGET = 8
    BAD_SOURCE = 9
    TIME_LIMIT = 10
    LEASE_EXPIRED = 11
    VOLUNTEER_LOST = 12
    INFRASTRUCTURE = 13
    CANCELLED = 14
    CLIENT_FAILED = 15
    CLIENT_UNKNOWN = 16
    CLIENT_PASSED = 17
    OUT_OF_MEMORY = 18
    DISK_FULL = 19


class Annotation(IntEnum):
    """A bound that a task met, whatever became of it."""

    DISK_FULL = 1
    PIDS_LIMIT = 2
    LOG_LIMIT = 3


class Outcome(IntEnum):
    """What a client found; the larger, the worse."""

    PASS = 1
    UNKNOWN = 2
    FAIL = 3


class FaultKind(IntEnum):
    """What was done to a member."""

    KILL = 1
    REVIVE = 2
    DISCONNECT = 3
    RECONNECT = 4
    PARTITION = 5
    PAUSE = 6
    RESUME = 7
    DEGRADE = 8
    RESET = 9
    DISK_FULL = 10
    SIGNAL = 11
    HEAL = 12


class BarrierEnd(IntEnum):
    """How a round of a barrier ended."""

    OPENED = 1
    DROPPED = 2
    ABANDONED = 3
    LEFT = 4


class PartitionShape(IntEnum):
    """How masters and slaves are put into groups; `shapes` does it."""

    HALVES = 1
    RANDOM_HALVES = 2
    MAJORITY_RING = 3
    BRIDGE = 4
    ISOLATE_ONE = 5


class AnswerCode(IntEnum):
    """What became of a command."""

    DONE = 1
    READY = 2
    BUSY = 3
    STALE = 4
    FAILED = 5
    BAD_SOURCE = 6
    UNKNOWN_TASK = 7
    OUT_OF_MEMORY = 8
    DISK_FULL = 9


class NodeState(IntEnum):
    """Whether a volunteer can be used."""

    READY = 1
    DRAINED = 2
    AWAY = 3
    WORN = 4


class UserRole(IntEnum):
    """What a user may do: each may do what those before it may."""

    STUDENT = 1
    STAFF = 2
    ADMIN = 3


class TokenScope(IntEnum):
    """What a token allows of what its user may do: each allows what those before it allow."""

    READ = 1
    SUBMIT = 2
    ALL = 3


@frozen
class Stamp:
    """One instant on one machine: boot id, CLOCK_BOOTTIME and UTC in nanoseconds."""

    boot_id: str
    monotonic_ns: int
    utc_ns: int


@frozen
class ClockBound:
    """Another machine's monotonic clock minus the manager's, in nanoseconds, right to ± `error_ns`."""

    boot_id: str
    offset_ns: int
    error_ns: int


@frozen
class TaskRef:
    """One run of one member. `task` is `master`, `slave-0`, `client-0`; `generation` counts from 1."""

    cluster_id: str
    job_id: int
    attempt: int
    task: str
    generation: int


@frozen
class Source:
    """A source tarball: SHA-256 in hexadecimal, and its size in bytes."""

    sha256: str
    size: int


@frozen
class Limits:
    """Bounds of one task; 0 means no bound for those that may be 0."""

    disk_bytes: int = 256 << 20
    disk_inodes: int = 100_000
    log_head_bytes: int = 8 << 20
    log_tail_bytes: int = 1 << 20
    memory_bytes: int = 512 << 20
    pids: int = 512
    cpu_millis: int = 0
    open_files: int = 4096
    file_bytes: int = 0


NO_LIMITS: Final = Limits(0, 0, 0, 0, 0, 0, 0, 0, 0)
"""What a job wishes that leaves all of them to the defaults."""

MAX_LIMITS: Final = Limits(
    disk_bytes=4 << 30,
    disk_inodes=1_000_000,
    log_head_bytes=32 << 20,
    log_tail_bytes=8 << 20,
    memory_bytes=8 << 30,
    pids=4096,
    cpu_millis=0,
    open_files=16_384,
    file_bytes=0,
)
"""What a job may ask for unless the operator says otherwise; 0 for no maximum."""


NO_SYNC: Final = "none"
"""In place of a member: the job has no sync server."""

SYNC_PORT: Final = 16534
"""Of every job's sync server, TCP and UDP: the default of emulab's."""


@frozen
class JobSpec:
    """What to run, with every default filled in.

    `clients` is 0 exactly where `client` is None. `time_limit_s` is in seconds and above 0. Of one that is
    `graded` the client was the manager's default one when it was submitted. With `keep_disks` each task's
    disk is kept when the job ends. `replay_of` is the job whose faults come again; 0 for none. With
    `lose_unsynced` a kill takes away what masters and slaves did not sync. `sync_server` is the member
    on whose slot the sync server is, or NO_SYNC.
    """

    name: str
    source: Source
    machines: int
    client: Source | None
    clients: int
    time_limit_s: float
    limits: Limits = Limits()
    graded: bool = False
    keep_disks: bool = False
    replay_of: int = 0
    lose_unsynced: bool = False
    sync_server: str = NO_SYNC

    @property
    def slots(self) -> int:
        """How many slots the job needs: machines and clients."""
        return self.machines + self.clients


@frozen
class TaskExit:
    """How a task ended: reason, make's status, the failed recipe's status, one line for people.

    `annotations` are the bounds that it met, each once.
    """

    reason: Reason
    exit_status: int = 0
    recipe_status: int = 0
    detail: str = ""
    annotations: tuple[Annotation, ...] = ()


@frozen
class BarrierRound:
    """What became of a barrier: one round, or `rounds` that ended alike, of which the last is told.

    `inits` has by task how many it let the barrier wait for, `tasks` how often it was there at the end.
    `others` more were there; `left` had come and gone.
    """

    barrier: str
    end: BarrierEnd
    began_at: Stamp
    ended_at: Stamp
    error: int
    inits: tuple[tuple[str, int], ...]
    tasks: tuple[tuple[str, int], ...]
    others: int
    left: int
    rounds: int


@frozen
class OpenBarrier:
    """A barrier at which somebody waits. `remaining` is below 0 where more came than were initialised.

    `inits` has by task what those added who wait, `held` what those did who do not.
    """

    barrier: str
    since: Stamp
    remaining: int
    inits: tuple[tuple[str, int], ...]
    tasks: tuple[tuple[str, int], ...]
    others: int
    missing: tuple[str, ...]
    more_missing: int
    abandoned: bool
    held: tuple[tuple[str, int], ...] = ()


@frozen
class BarrierNews:
    """What a sync server tells. `total` counts all rounds so far, `trouble` says that it failed itself."""

    rounds: tuple[BarrierRound, ...] = ()
    total: int = 0
    open: tuple[OpenBarrier, ...] = ()
    more_open: int = 0
    trouble: str = ""
    last: bool = False


@frozen
class Degradation:
    """What packets suffer; 0 where it is left as it is. Percentages are of packets, 0 to 100.

    `rate_bps` is in bits a second. `jitter_ms` is to both sides of `delay_ms`. `reorder_percent` of the
    packets are not delayed.
    """

    loss_percent: float = 0.0
    rate_bps: int = 0
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    duplicate_percent: float = 0.0
    corrupt_percent: float = 0.0
    reorder_percent: float = 0.0


UNDEGRADED: Final = Degradation()


@frozen
class Result:
    """What a client said when it finished."""

    outcome: Outcome
    score: float | None = None
    metrics: tuple[tuple[str, float], ...] = ()
    text: str = ""


@frozen
class Member:
    """One member of a job as the others know it."""

    task: str
    role: Role
    address: str


@frozen
class Resources:
    """What a machine has, or has left: processors, bytes of memory, bytes of disk."""

    cpus: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0


@frozen
class HeldTask:
    """A task that a volunteer says it holds."""

    ref: TaskRef
    slot: int
    address: str
    state: TaskState
    exit: TaskExit | None = None


@frozen
class Hello:
    """What a volunteer says of itself first. `slots` maps slot number to fixed address ("" for none)."""

    volunteer_id: str
    boot_id: str
    slots: tuple[tuple[int, str], ...]
    resources: Resources
    host_address: str
    prefix: str
    capabilities: tuple[str, ...]
    held: tuple[HeldTask, ...]
    highest_epoch: int
    cluster_id: str
    network: str  # "fabric" or "host"
    reach_domain: str
    version: str
    unsafe: tuple[str, ...] = ()  # what its isolation of tasks lacks
    instance: str = ""  # tells two volunteers of one id apart
    cannot: tuple[tuple[str, str], ...] = ()  # capabilities that it does not have, and why


@frozen
class Quota:
    """The most that a user or a team has at once; 0 for the manager's default, -1 for no bound.

    `machines` counts slots: those of all jobs that have slots, and of any one job. `submissions_per_day` is a
    bucket of so many that fills up evenly.
    """

    running_jobs: int = 0
    queued_jobs: int = 0
    submissions_per_day: int = 0
    machines: int = 0


UNBOUNDED: Final = Quota(-1, -1, -1, -1)
STUDENT_QUOTA: Final = Quota(running_jobs=-1, queued_jobs=20, submissions_per_day=500, machines=-1)


@frozen
class Config:
    """What the operator decides; built once by the edges.

    Durations are in seconds. `lost_after_s` must be at least `orphan_after_s` plus the time a kill takes plus
    10 %. `prefixes` is the pool (CIDR) of which each volunteer without a prefix of its own gets a part.
    Unless `allow_unsafe`, a volunteer whose isolation of tasks lacks something gets none.
    """

    cluster_id: str
    epoch: int
    boot_id: str
    heartbeat_interval_s: float = 5.0
    orphan_after_s: float = 30.0
    lost_after_s: float = 40.0
    forget_after_s: float = 259_200.0
    reserve_ttl_s: float = 10.0
    prepare_timeout_s: float = 60.0
    command_timeout_s: float = 15.0
    stop_timeout_s: float = 30.0
    busy_backoff_s: float = 0.5
    max_attempts: int = 3
    max_queued: int = 100_000
    max_slots_per_job: int = 1000
    default_time_limit_s: float = 600.0
    max_time_limit_s: float = 86_400.0
    default_client: Source | None = None
    default_clients: int = 0
    prefixes: str = "10.77.0.0/16"
    allow_unsafe: bool = False
    keep_ended: int = 1000
    limits: Limits = Limits()
    max_limits: Limits = MAX_LIMITS
    student_quota: Quota = STUDENT_QUOTA
    staff_quota: Quota = UNBOUNDED
    team_quota: Quota = UNBOUNDED
    token_ttl_s: float = 15_552_000.0  # half a year
