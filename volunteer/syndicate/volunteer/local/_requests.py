"""What the volunteer asks of its keeper: what should hold, not what to change."""

from __future__ import annotations

from dataclasses import dataclass

from ._values import Limits, Member, NetworkState, Role, TaskId

MAX_LOG_READ_BYTES = 256 << 10


@dataclass(frozen=True, slots=True)
class Sync:
    """Tell what there is. First request of each connection. Answer: Synced."""


@dataclass(frozen=True, slots=True)
class Prepare:
    """Make disk, network and sandbox of generation 1 with the source unpacked. Answer: Done.

    `epoch` is the manager's; the keeper remembers the highest of each cluster and refuses older ones
    (WRONG_STATE). `source` is the digest: the tarball is `<cache directory>/<digest>.tar`, decompressed, or
    else `<cache directory>/<digest>`. `prefix_length` is of the slot's network. With `lose_unsynced` a Kill
    takes away what the task did not sync.

    `sync_server` is the job's, `HOST:PORT`, or empty; with `serve_sync` this slot serves it from now on until
    Release.
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
    lose_unsynced: bool = False
    sync_server: str = ""
    serve_sync: bool = False


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
class DropBarriers:
    """Have the slot's sync server drop a barrier, or all (""). Answer: Done with `dropped`, once it has.

    WRONG_STATE where the slot serves no barriers, FAILED where its server does not answer. What is dropped is
    told as rounds are (BarriersTold). Sent again with the same `id` it is answered as the first time, and
    nothing more is dropped.
    """

    slot: int
    task: TaskId
    barrier: str
    id: str


@dataclass(frozen=True, slots=True)
class Release:
    """End all processes and leave nothing of the task: disk, network, logs. Answer: Done. Repeated: Done.

    Where it failed some of the task may be gone, and the slot is the task's until it is released: what needs
    disk or network is WRONG_STATE then.
    """

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
class ReadDisk:
    """The next piece of the disk of a task that has ended, packed; at most `limit` bytes. Answer: DiskRead.

    At `offset` 0 packing begins, or begins anew; else it is where the last piece ended (WRONG_STATE if not).
    """

    slot: int
    task: TaskId
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
    | DropBarriers
    | Release
    | Renew
    | ReadLog
    | ReadDisk
    | Audit
    | Reboot
)
