"""What the keeper answers."""

from __future__ import annotations

from dataclasses import dataclass

from ._values import (
    WHOLE,
    Annotation,
    ErrorCode,
    LogStream,
    Member,
    NetworkState,
    Role,
    SlotState,
    Stamp,
    TaskId,
)

MAX_WHY = 500
"""Characters of a line that says why a capability is not there."""


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
    """What a slot holds. `network` is None where it is not told: in Synced one frame tells of all slots."""

    slot: int
    state: SlotState
    task: TaskId | None = None
    role: Role | None = None
    address: str = ""
    members: tuple[Member, ...] = ()
    network: NetworkState | None = WHOLE
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

    `processes`: of Kill those that it ended, of Signal those that it reached. `dropped`: of DropBarriers how
    many barriers that were.
    """

    at: Stamp
    took_ns: int
    processes: int = 0
    already: bool = False
    dropped: int = 0


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
class DiskRead:
    """A piece of a tar that gzip has compressed; `end` with the last one.

    `missing` is empty, or one line that says why the disk cannot be had: what came before is of no use then.
    """

    data: bytes
    end: bool
    missing: str = ""


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


Reply = Synced | Done | LogRead | DiskRead | Audited | Refused
