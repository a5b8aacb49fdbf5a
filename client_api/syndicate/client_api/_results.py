"""What the calls of Chaos answer, as plain frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """What a client found."""

    PASS = "pass"  # noqa: S105 - a grade, no password
    FAIL = "fail"
    UNKNOWN = "unknown"


class Role(StrEnum):
    """What a member of a job does."""

    MASTER = "master"
    SLAVE = "slave"
    CLIENT = "client"


class TaskState(StrEnum):
    """How far a member is. In a running job mostly RUNNING, KILLED (by a fault) or EXITED (by itself)."""

    RESERVING = "reserving"
    RESERVED = "reserved"
    PREPARING = "preparing"
    PREPARED = "prepared"
    STARTING = "starting"
    RUNNING = "running"
    KILLED = "killed"
    EXITED = "exited"
    RELEASED = "released"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Stamp:
    """One instant as one machine saw it. Take differences of stamps with an equal ``boot_id`` only."""

    boot_id: str
    """The boot id of the machine that made the stamp."""
    monotonic_ns: int
    """That machine's CLOCK_BOOTTIME in nanoseconds."""
    utc_ns: int
    """Nanoseconds since 1970, for people to read and never for arithmetic."""


@dataclass(frozen=True, slots=True)
class ClockBound:
    """How a machine's monotonic clock stands to the manager's."""

    boot_id: str
    """The machine."""
    offset_ns: int
    """Its clock minus the manager's, in nanoseconds."""
    error_ns: int
    """The offset is right to within plus or minus so many nanoseconds."""


@dataclass(frozen=True, slots=True)
class MemberApplied:
    """A fault holds at one member."""

    ip: str
    """The member's address."""
    fault_id: int
    """Its line in the job's ledger; 0 when nothing had to be done."""
    already: bool
    """True when it was so already and nothing was done."""
    applied_at: Stamp | None
    """When it held, on the clock of the member's volunteer; None where it was so already."""
    clock: ClockBound | None
    """How that clock stands to the manager's; None before the volunteer's second heartbeat has told."""
    processes: int = 0
    """Kill: how many of its processes were ended."""
    generation: int = 0
    """Revive: the generation that runs now, counted from 1."""


@dataclass(frozen=True, slots=True)
class Applied:
    """A fault holds, at each member that was named. Of several, the fields are those of the last one."""

    fault_id: int
    """Its line in the job's ledger; 0 when nothing had to be done."""
    already: bool
    """True when it was so already and nothing was done, at none of them."""
    applied_at: Stamp | None
    """When it held, on the clock of the member's volunteer; None where it was so already."""
    clock: ClockBound | None
    """How that clock stands to the manager's; None before the volunteer's second heartbeat has told."""
    members: tuple[MemberApplied, ...] = field(default=(), kw_only=True)
    """What became of it at each member, in the order in which they were named."""


@dataclass(frozen=True, slots=True)
class Killed(Applied):
    """No process of the task is left."""

    processes: int
    """How many were ended, of all members together."""


@dataclass(frozen=True, slots=True)
class Revived(Applied):
    """make was exec'd again."""

    generation: int
    """The generation that runs now, counted from 1; of several members, the first one's."""


@dataclass(frozen=True, slots=True)
class Disconnected(Applied):
    """No packet passes between the member and the masters and slaves."""


@dataclass(frozen=True, slots=True)
class Reconnected(Applied):
    """What the other faults in force leave passes again."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What this client found is written down."""

    finished_at: Stamp
    """When, on the manager's clock."""
    clients_left: int
    """How many clients of the job have not finished yet."""


@dataclass(frozen=True, slots=True)
class MemberState:
    """A member of the job and its state."""

    task: str
    """``master``, ``slave-0``, ``client-0``; also its host name."""
    role: Role
    """What it does."""
    address: str
    """Its IPv4 address, the same over all its generations."""
    state: TaskState = TaskState.RUNNING
    """Whether it lives."""
    generation: int = 1
    """Its current generation, counted from 1."""
    disconnected: bool = False
    """Whether a disconnect is in force."""


@dataclass(frozen=True, slots=True)
class Pong:
    """The manager was reached."""

    round_trip_ns: int
    """From the call to its answer, on this machine's monotonic clock, in nanoseconds."""
    manager_at: Stamp
    """The manager's clock when it had the call."""
    clock: ClockBound
    """How this machine's clock stands to the manager's, as far as this one exchange tells."""
