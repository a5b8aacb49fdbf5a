"""The narrow protocol that the volunteer and its keeper speak over a Unix socket, as values.

The volunteer asks, the keeper does and answers; the keeper also tells events unasked. Every request names the
slot and the task that it is about, so that a late request cannot touch the next task on the slot. Requests
say what should hold, not what to change: sent again after a reconnect they find it so and answer the same.

On the wire a frame is a 4-byte big-endian length, a 4-byte length of the JSON head, the head, and then raw
bytes (log data only). `encode` and `decode` are in `frames`; they refuse what is not well-formed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """What a task does."""

    MASTER = "master"
    SLAVE = "slave"
    CLIENT = "client"


class LogStream(StrEnum):
    """Where a piece of output came from."""

    STDOUT = "stdout"
    STDERR = "stderr"


class SlotState(StrEnum):
    """How far the keeper is with a slot."""

    EMPTY = "empty"  # nothing of any task is there
    PREPARED = "prepared"  # disk, network and sandbox stand, make was not started yet
    RUNNING = "running"  # make was exec'd
    ENDED = "ended"  # no process is left; disk, network and logs stand


class Annotation(StrEnum):
    """A bound that a generation met, whatever became of it."""

    DISK_FULL = "disk-full"  # its disk had no byte or no inode left
    PIDS_LIMIT = "pids-limit"  # it was denied a process or thread
    LOG_LIMIT = "log-limit"  # the middle of its output was dropped


class ErrorCode(StrEnum):
    """Why the keeper did not do what was asked."""

    MALFORMED = "malformed"  # not a request of this protocol
    NO_SUCH_SLOT = "no_such_slot"
    WRONG_TASK = "wrong_task"  # the slot holds another task, or none
    WRONG_STATE = "wrong_state"  # for instance: start before prepare, an older generation
    BAD_SOURCE = "bad_source"  # the tarball cannot be unpacked: the job's fault
    OUT_OF_MEMORY = "out_of_memory"  # unpacking took more than the task's memory: the job's fault
    DISK_FULL = "disk_full"  # the source does not fit on the task's disk: the job's fault
    FAILED = "failed"  # the machine could not do it
    SHUTTING_DOWN = "shutting_down"


@dataclass(frozen=True, slots=True)
class Stamp:
    """One instant: CLOCK_BOOTTIME and UTC, both in nanoseconds, and the kernel's boot id."""

    boot_id: str
    monotonic_ns: int
    utc_ns: int


@dataclass(frozen=True, slots=True)
class TaskId:
    """One member of one attempt of a job. `task` is `master`, `slave-0` or `client-0`."""

    cluster_id: str
    job_id: int
    attempt: int
    task: str


@dataclass(frozen=True, slots=True)
class Member:
    """One member of the job, as /etc/hosts names it."""

    task: str
    role: Role
    address: str


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


@dataclass(frozen=True, slots=True)
class LinkState:
    """What packets suffer that a slot sends to `peer` and hears from it; "" for all members together."""

    peer: str
    sent: Degradation = UNDEGRADED
    heard: Degradation = UNDEGRADED


@dataclass(frozen=True, slots=True)
class NetworkState:
    """All that a slot's network suffers; IPv4 addresses, each tuple in ascending order of its texts.

    With those in `cut` nothing is exchanged, in silence; to those in `cut_out` nothing is sent, from those in
    `cut_in` nothing is heard; with those in `reset` nothing is exchanged, and who sends a TCP segment gets a
    reset. A packet goes through each of `links` that is about it.
    """

    cut: tuple[str, ...] = ()
    cut_out: tuple[str, ...] = ()
    cut_in: tuple[str, ...] = ()
    reset: tuple[str, ...] = ()
    links: tuple[LinkState, ...] = ()


WHOLE: Final = NetworkState()
"""The network as it is without faults."""


# ---- requests -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sync:
    """Tell what there is. First request of each connection. Answer: Synced."""


@dataclass(frozen=True, slots=True)
class Prepare:
    """Make disk, network and sandbox of generation 1 with the source unpacked. Answer: Done.

    `epoch` is the manager's; the keeper remembers the highest of each cluster and refuses older ones
    (WRONG_STATE). `source` is the digest: the tarball is `<cache directory>/<digest>.tar`, decompressed, or
    else `<cache directory>/<digest>`. `prefix_length` is of the slot's network.
    """

    slot: int
    task: TaskId
    epoch: int
    role: Role
    address: str
    prefix_length: int
    members: tuple[Member, ...]
    source: str
    job_name: str
    limits: Limits


@dataclass(frozen=True, slots=True)
class Start:
    """Let generation 1 exec make. Answer: Done, once it was exec'd. Repeated: the first answer's stamp."""

    slot: int
    task: TaskId
    generation: int


@dataclass(frozen=True, slots=True)
class Kill:
    """End every process of the task. Answer: Done with `processes`, once no process is left."""

    slot: int
    task: TaskId
    generation: int


@dataclass(frozen=True, slots=True)
class Revive:
    """Start `generation` (larger than the last) on the kept or on a fresh disk. Answer: Done, when exec'd."""

    slot: int
    task: TaskId
    generation: int
    with_disk: bool


@dataclass(frozen=True, slots=True)
class SetNetwork:
    """Let the slot's network suffer exactly this, over all generations. Answer: Done, when it holds."""

    slot: int
    task: TaskId
    network: NetworkState


@dataclass(frozen=True, slots=True)
class SetTask:
    """Let the task suffer exactly this beside its network. Answer: Done, when it holds.

    `paused`: every process of the running generation is frozen, and what they start; it ends with the
    generation. WRONG_STATE where none runs. `disk_full`: there is no room on the disk, of which /tmp and
    /dev/shm are a part; what is there can be overwritten, and what is deleted makes room for as much. It
    persists over generations, also onto a fresh disk, which gets the source first.
    """

    slot: int
    task: TaskId
    paused: bool
    disk_full: bool


@dataclass(frozen=True, slots=True)
class Signal:
    """Send a signal to every process of the running generation but make and shells that wait for a process.

    Answer: Done with `processes`. WRONG_STATE where none runs. A paused task gets it when it runs again.
    Sent again with the same `id` it is answered as the first time, and not sent.
    """

    slot: int
    task: TaskId
    generation: int
    number: int
    id: str


@dataclass(frozen=True, slots=True)
class Release:
    """End all processes and leave nothing of the task: disk, network, logs. Answer: Done. Repeated: Done."""

    slot: int
    task: TaskId


@dataclass(frozen=True, slots=True)
class Renew:
    """A cluster's tasks may run until CLOCK_BOOTTIME `until_ns`; then the keeper ends them. Answer: Done."""

    cluster_id: str
    until_ns: int


@dataclass(frozen=True, slots=True)
class ReadLog:
    """Output from `offset` on, at most `limit` bytes. Answer: LogRead."""

    slot: int
    task: TaskId
    generation: int
    offset: int
    limit: int


@dataclass(frozen=True, slots=True)
class Audit:
    """Tell everything that this keeper has on the host. Answer: Audited."""


@dataclass(frozen=True, slots=True)
class Reboot:
    """Boot the machine again, as its operator has it after a job. Answer: Done, when systemd was asked.

    WRONG_STATE where the operator does not, or where a slot holds a task.
    """


Request = (
    Sync
    | Prepare
    | Start
    | Kill
    | Revive
    | SetNetwork
    | SetTask
    | Signal
    | Release
    | Renew
    | ReadLog
    | Audit
    | Reboot
)


# ---- answers --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Exit:
    """How a generation ended, raw; `volunteer.core.exits` makes a reason of it.

    `status` is make's exit status, 0 to 255, or 128 + n for signal n. `killed` is True where the keeper ended
    it (kill, release, lease) or memory ran out, and `cause` says why: "kill", "release", "lease", "memory"
    for its own bound, "host-memory" for the machine's. `head` and `tail` are the first and last 4 KiB of its
    output, both streams as they were read; `log_bytes` counts all of it. In Synced they may be shorter: one
    frame tells of all slots.
    """

    generation: int
    status: int
    killed: bool
    cause: str
    at: Stamp
    head: bytes
    tail: bytes
    log_bytes: int
    annotations: tuple[Annotation, ...] = ()


@dataclass(frozen=True, slots=True)
class GenerationInfo:
    """One generation of the task on a slot; `exit` is None while it runs."""

    generation: int
    started_at: Stamp | None
    exit: Exit | None
    log_bytes: int


@dataclass(frozen=True, slots=True)
class SlotInfo:
    """What a slot holds. In Synced `network` may be told as whole: one frame tells of all slots."""

    slot: int
    state: SlotState
    task: TaskId | None = None
    role: Role | None = None
    address: str = ""
    members: tuple[Member, ...] = ()
    network: NetworkState = WHOLE
    paused: bool = False
    disk_full: bool = False
    generations: tuple[GenerationInfo, ...] = ()


@dataclass(frozen=True, slots=True)
class Incapability:
    """A capability that is not there, and why: one line, with the remedy where there is one."""

    capability: str
    why: str


@dataclass(frozen=True, slots=True)
class Synced:
    """What there is. `fixed_address` is the host's address where the network is "host", else empty.

    `unsafe` names what the isolation of tasks lacks, where the keeper was started all the same. `cannot` has
    the faults that are not among the capabilities. `reboots`: the operator has the machine booted again after
    a job; `used`: since it was booted something of a task was on it.
    """

    instance: str
    boot_id: str
    network: str
    fixed_address: str
    capabilities: tuple[str, ...]
    epochs: dict[str, int]
    slots: tuple[SlotInfo, ...]
    unsafe: tuple[str, ...] = ()
    cannot: tuple[Incapability, ...] = ()
    reboots: bool = False
    used: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """It holds. `took_ns`: how long the keeper needed; `already`: it held before.

    `processes`: of Kill those that it ended, of Signal those that it reached.
    """

    at: Stamp
    took_ns: int
    processes: int = 0
    already: bool = False


@dataclass(frozen=True, slots=True)
class LogPiece:
    """A piece of output; `dropped_before` bytes before it were dropped by the limit."""

    offset: int
    stream: LogStream
    at: Stamp
    data: bytes
    dropped_before: int = 0


@dataclass(frozen=True, slots=True)
class LogRead:
    """Pieces in order. `next_offset` is where to go on; `end` is True when nothing more comes after them."""

    pieces: tuple[LogPiece, ...]
    next_offset: int
    end: bool


@dataclass(frozen=True, slots=True)
class Audited:
    """One line for each thing on the host, for instance `cgroup /sys/fs/…`. Empty when nothing is left.

    Things of slots that hold a task are in `in_use`, everything else that carries the instance's name in
    `left`.
    """

    in_use: tuple[str, ...]
    left: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """It was not done; `detail` is one line for people."""

    code: ErrorCode
    detail: str


Reply = Synced | Done | LogRead | Audited | Refused


# ---- events ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Exited:
    """A generation ended, by itself or by the keeper. Told once; Synced tells it again."""

    slot: int
    task: TaskId
    exit: Exit


@dataclass(frozen=True, slots=True)
class LogGrew:
    """There is output up to `log_bytes`. Told at most every few milliseconds for a task."""

    slot: int
    task: TaskId
    generation: int
    log_bytes: int


Event = Exited | LogGrew


@dataclass(frozen=True, slots=True)
class RequestFrame:
    """A request with the number that its answer will carry."""

    number: int
    request: Request


@dataclass(frozen=True, slots=True)
class ReplyFrame:
    """The answer to a request."""

    number: int
    reply: Reply


@dataclass(frozen=True, slots=True)
class EventFrame:
    """Something unasked."""

    event: Event


Frame = RequestFrame | ReplyFrame | EventFrame

MAX_FRAME_BYTES = 4 << 20
MAX_LOG_READ_BYTES = 256 << 10
MAX_WHY = 500
"""Characters of a line that says why a capability is not there."""

__all__ = [
    "MAX_FRAME_BYTES",
    "MAX_LOG_READ_BYTES",
    "MAX_WHY",
    "UNDEGRADED",
    "WHOLE",
    "Annotation",
    "Audit",
    "Audited",
    "Degradation",
    "Done",
    "ErrorCode",
    "Event",
    "EventFrame",
    "Exit",
    "Exited",
    "Frame",
    "GenerationInfo",
    "Incapability",
    "Kill",
    "Limits",
    "LinkState",
    "LogGrew",
    "LogPiece",
    "LogRead",
    "LogStream",
    "Member",
    "NetworkState",
    "Prepare",
    "ReadLog",
    "Reboot",
    "Refused",
    "Release",
    "Renew",
    "Reply",
    "ReplyFrame",
    "Request",
    "RequestFrame",
    "Revive",
    "Role",
    "SetNetwork",
    "SetTask",
    "Signal",
    "SlotInfo",
    "SlotState",
    "Stamp",
    "Start",
    "Sync",
    "Synced",
    "TaskId",
]
