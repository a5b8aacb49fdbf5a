"""What requests, answers and events speak of."""

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
