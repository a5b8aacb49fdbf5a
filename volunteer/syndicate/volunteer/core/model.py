"""The words of the volunteer's core as values.

The numbers of the enums are those of ``syndicate.v1``; a test holds them together, so that the edges convert
by number and the core needs no protobuf. What the keeper's protocol names too (`Stamp`, `TaskId`,
`NetworkState`, `Incapability`) is taken from there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from ..local import BarriersTold, Incapability, NetworkState, Stamp, TaskId


class Role(IntEnum):
    """What a member of a job does."""

    MASTER = 1
    SLAVE = 2
    CLIENT = 3


class TaskState(IntEnum):
    """How far a task is, in the manager's words; a slot's own states are in `transitions`."""

    RESERVED = 2
    PREPARING = 3
    PREPARED = 4
    STARTING = 5
    RUNNING = 6
    KILLED = 7
    EXITED = 8


class Reason(IntEnum):
    """Why a task ended as it did: the reasons that a volunteer can tell."""

    EXITED_ZERO = 1
    EXITED_NONZERO = 2
    SIGNALED = 3
    KILLED_BY_FAULT = 4
    STOPPED = 5
    NOTHING_RUN = 6
    NO_MAKEFILE = 7
    NO_TARGET = 8
    LEASE_EXPIRED = 11
    INFRASTRUCTURE = 13
    OUT_OF_MEMORY = 18


class Annotation(IntEnum):
    """A bound that a task met, whatever became of it."""

    DISK_FULL = 1
    PIDS_LIMIT = 2
    LOG_LIMIT = 3


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


class Network(IntEnum):
    """How the slots are on the network."""

    FABRIC = 1
    HOST = 2


@dataclass(frozen=True, slots=True)
class TaskRef:
    """One run of one member. `task` is `master`, `slave-0`, `client-0`; `generation` counts from 1."""

    cluster_id: str
    job_id: int
    attempt: int
    task: str
    generation: int

    @property
    def id(self) -> TaskId:
        """The member without the generation, as the keeper knows it."""
        return TaskId(self.cluster_id, self.job_id, self.attempt, self.task)


def ref_of(task: TaskId, generation: int) -> TaskRef:
    """One run of a member that the keeper names."""
    return TaskRef(task.cluster_id, task.job_id, task.attempt, task.task, generation)


@dataclass(frozen=True, slots=True)
class Source:
    """A source tarball: SHA-256 in hexadecimal, and its size in bytes (0 where it is not known)."""

    sha256: str
    size: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one task; 0 means no bound for those that may be 0."""

    disk_bytes: int = 256 << 20
    disk_inodes: int = 100_000
    log_head_bytes: int = 8 << 20
    log_tail_bytes: int = 1 << 20
    memory_bytes: int = 0
    pids: int = 0
    cpu_millis: int = 0
    open_files: int = 4096
    file_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a job as the others know it."""

    task: str
    role: Role
    address: str


@dataclass(frozen=True, slots=True)
class TaskExit:
    """How a task ended: reason, make's status, the failed recipe's status, one line for people.

    `annotations` are the bounds that it met, each once.
    """

    reason: Reason
    exit_status: int = 0
    recipe_status: int = 0
    detail: str = ""
    annotations: tuple[Annotation, ...] = ()


@dataclass(frozen=True, slots=True)
class Resources:
    """What a machine has, or has left: processors, bytes of memory, bytes of disk."""

    cpus: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0


# ---- commands -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reserve:
    """Lock the slot; the lock lapses after `ttl_ms` milliseconds without a Prepare."""

    ttl_ms: int


@dataclass(frozen=True, slots=True)
class Prepare:
    """Fetch, unpack, mount, connect. `sync_server` is the job's, `HOST:PORT`; `serve_sync`: it is here."""

    source: Source
    role: Role
    members: tuple[Member, ...]
    limits: Limits
    job_name: str
    lose_unsynced: bool = False
    sync_server: str = ""
    serve_sync: bool = False


@dataclass(frozen=True, slots=True)
class Start:
    """Exec make."""


@dataclass(frozen=True, slots=True)
class Kill:
    """End every process of the task."""


@dataclass(frozen=True, slots=True)
class Revive:
    """Start the generation of the command's task."""

    with_disk: bool


@dataclass(frozen=True, slots=True)
class SetNetwork:
    """All that the slot's network suffers."""

    network: NetworkState


@dataclass(frozen=True, slots=True)
class SetTask:
    """All that the task suffers beside its network."""

    paused: bool
    disk_full: bool


@dataclass(frozen=True, slots=True)
class Signal:
    """Send a signal, 1 to 64, to the processes of the command's generation."""

    number: int


@dataclass(frozen=True, slots=True)
class DropBarriers:
    """Have the slot's sync server drop a barrier, or all ("")."""

    barrier: str


@dataclass(frozen=True, slots=True)
class Release:
    """Leave nothing of the task and unlock the slot; with `keep_disk` its disk is handed over first."""

    keep_disk: bool = False


Action = Reserve | Prepare | Start | Kill | Revive | SetNetwork | SetTask | Signal | DropBarriers | Release


@dataclass(frozen=True, slots=True)
class Command:
    """The manager wants something of a task."""

    command_id: str
    epoch: int
    ref: TaskRef
    slot: int
    action: Action


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a command. `applied_at` is when it held, `duration_ns` how long that took.

    `dropped` is of DropBarriers alone: how many barriers that were.
    """

    command_id: str
    code: AnswerCode
    detail: str = ""
    address: str = ""
    processes: int = 0
    applied_at: Stamp | None = None
    duration_ns: int = 0
    dropped: int | None = None


# ---- what the volunteer says by itself ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HeldTask:
    """A task that the volunteer holds, with its latest generation (1 where none was started yet)."""

    ref: TaskRef
    slot: int
    address: str
    state: TaskState
    exit: TaskExit | None = None


@dataclass(frozen=True, slots=True)
class Hello:
    """What the volunteer says of itself first. `slots` maps slot number to fixed address ("" for none).

    `unsafe` names what the isolation of tasks lacks, `cannot` the faults that are not among the capabilities;
    `instance` is the state directory's own.
    """

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
    network: Network
    reach_domain: str
    version: str
    sent_at: Stamp
    unsafe: tuple[str, ...] = ()
    instance: str = ""
    cannot: tuple[Incapability, ...] = ()


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A sign of life; the edge adds what is free. `last_ack_*` close the last exchange of stamps.

    `worn`: a job was on the machine, which is booted again before it takes another.
    """

    sequence: int
    sent_at: Stamp
    last_ack_sequence: int = 0
    last_ack_received_at: Stamp | None = None
    worn: bool = False


@dataclass(frozen=True, slots=True)
class Welcome:
    """The manager accepts the volunteer."""

    session: str
    cluster_id: str
    epoch: int
    prefix: str
    warm: tuple[Source, ...] = ()
    heartbeat_interval_s: float = 5.0
    orphan_after_s: float = 30.0


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """A generation ended, or something happened at barriers. `event_id` only grows within one boot."""

    event_id: int
    ref: TaskRef
    at: Stamp
    exit: TaskExit | None = None
    barriers: BarriersTold | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """What must survive a restart of the volunteer: highest epochs, and the cluster behind each link."""

    epochs: tuple[tuple[str, int], ...] = ()
    clusters: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Config:
    """What the operator and the machine decide; built once by the edges. Durations are in seconds.

    `reach_domain` empty stands for the volunteer itself, or with the host's network for `host`. `instance`
    tells it from another volunteer of its id.
    `address_start` is where in its prefix the first address is picked, so that a restarted volunteer does not
    hand out at once what was just in use; the edge derives it from the clock. `abandon_after_s` is how long a
    task is still held, for its manager to come back and ask, after its lease has run out. `start_timeout_s`
    is longer than the keeper may take to unpack a disk anew and to exec make in it.
    """

    volunteer_id: str
    instance: str = ""
    version: str = ""
    resources: Resources = field(default_factory=Resources)
    host_address: str = ""
    prefix: str = ""
    reach_domain: str = ""
    address_start: int = 0
    memory: Memory = field(default_factory=Memory)
    prepare_timeout_s: float = 55.0
    start_timeout_s: float = 50.0
    keeper_timeout_s: float = 12.0
    keeper_wait_s: float = 5.0
    drain_timeout_s: float = 10.0
    disk_timeout_s: float = 45.0
    release_retry_s: float = 2.0
    event_resend_s: float = 5.0
    dead_after_intervals: float = 2.5
    welcome_timeout_s: float = 10.0
    default_orphan_after_s: float = 30.0
    abandon_after_s: float = 60.0
    max_waiting: int = 64
    max_answers: int = 10_000
    max_events: int = 10_000


__all__ = [
    "Action",
    "Annotation",
    "Answer",
    "AnswerCode",
    "Command",
    "Config",
    "DropBarriers",
    "Heartbeat",
    "HeldTask",
    "Hello",
    "Incapability",
    "Kill",
    "Limits",
    "Member",
    "Memory",
    "Network",
    "NetworkState",
    "Prepare",
    "Reason",
    "Release",
    "Reserve",
    "Resources",
    "Revive",
    "Role",
    "SetNetwork",
    "SetTask",
    "Signal",
    "Source",
    "Stamp",
    "Start",
    "TaskEvent",
    "TaskExit",
    "TaskId",
    "TaskRef",
    "TaskState",
    "Welcome",
    "ref_of",
]
