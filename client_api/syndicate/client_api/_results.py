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


class FaultKind(StrEnum):
    """What a line of the ledger says was done."""

    KILL = "kill"
    REVIVE = "revive"
    DISCONNECT = "disconnect"
    RECONNECT = "reconnect"
    RESET = "reset"
    PARTITION = "partition"
    DEGRADE = "degrade"
    PAUSE = "pause"
    RESUME = "resume"
    DISK_FULL = "disk_full"
    SIGNAL = "signal"
    HEAL = "heal"
    UNSPECIFIED = "unspecified"


class Shape(StrEnum):
    """How a partition puts masters and slaves into groups."""

    HALVES = "halves"
    """The first half, and the rest; the smaller one first."""
    RANDOM_HALVES = "random-halves"
    """The same, in an order drawn by the seed."""
    MAJORITY_RING = "majority-ring"
    """Each member reaches a majority, and no two the same one."""
    BRIDGE = "bridge"
    """Two halves, and one member that reaches both."""
    ISOLATE_ONE = "isolate-one"
    """One member, and the rest."""


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
    """Kill, signal: how many of its processes were ended, or were sent the signal."""
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

    @property
    def fault_ids(self) -> tuple[int, ...]:
        """Its lines in the ledger, for ``heal``; empty when nothing had to be done."""
        return tuple(member.fault_id for member in self.members if member.fault_id)


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
class Reset(Applied):
    """No packet passes between the member and the masters and slaves, and TCP is told."""


@dataclass(frozen=True, slots=True)
class Partitioned(Applied):
    """Groups of members are cut from each other."""

    groups: tuple[tuple[str, ...], ...] = ()
    """The groups, as addresses. Of a majority ring one for each member: whom it reaches, itself first."""


@dataclass(frozen=True, slots=True)
class Degraded(Applied):
    """The member's packets fare worse from now on."""


@dataclass(frozen=True, slots=True)
class Paused(Applied):
    """None of the task's processes runs."""


@dataclass(frozen=True, slots=True)
class Resumed(Applied):
    """The task's processes run again."""


@dataclass(frozen=True, slots=True)
class DiskFilled(Applied):
    """Nothing can be written to the task's disk."""


@dataclass(frozen=True, slots=True)
class Signalled(Applied):
    """The task's processes were sent a signal."""

    processes: int = 0
    """To how many, of all members together."""


@dataclass(frozen=True, slots=True)
class Healed(Applied):
    """What lasted is taken back."""

    healed: tuple[int, ...] = ()
    """The lines of the ledger that were in force and are not any more."""


@dataclass(frozen=True, slots=True)
class Degradation:
    """How a network is made worse. Each is 0 where it is left as it is; percentages are of packets."""

    loss_percent: float = 0.0
    """Lost, each by itself."""
    rate_bps: int = 0
    """The most that passes, in bits a second."""
    delay_ms: float = 0.0
    """How much later they arrive, in milliseconds."""
    jitter_ms: float = 0.0
    """How much the delay varies to both sides, in milliseconds."""
    duplicate_percent: float = 0.0
    """Arrive twice."""
    corrupt_percent: float = 0.0
    """Arrive with one bit another one."""
    reorder_percent: float = 0.0
    """Are not delayed, so that they pass others."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One line of a job's ledger: what was done to one member."""

    fault_id: int
    """Counts the lines of the job, from 1."""
    call_id: int
    """The first line of the same call: what its lines did is healed together."""
    kind: FaultKind
    task: str
    """The member it was done to."""
    requested_by: str
    """``client-0``, a user, or what else asked for it."""
    text: str
    """What was asked, in a few words, for instance ``loss 10 %``."""
    requested_at: Stamp
    """When it was asked for, on the manager's clock."""
    applied_at: Stamp | None
    """When it held, on the clock of the member's volunteer; None while it does not."""
    applied_at_manager: Stamp | None
    """The same on the manager's clock."""
    applied_error_ns: int
    """``applied_at_manager`` is right to within plus or minus so many nanoseconds."""
    error: str
    """Why it failed; empty when it did not."""
    lease_s: float | None
    """The seconds after which it was to end by itself; None for none."""
    healed_at_manager: Stamp | None
    """When it was taken back, on the manager's clock; None while it is in force, or does not last."""
    healed_error_ns: int
    """``healed_at_manager`` is right to within plus or minus so many nanoseconds."""
    healed_by: str
    """``client-0``, a user, ``lease``, ``kill``, ``job end``, or ``rollback``."""
    cut_out: tuple[str, ...] = ()
    """Members that what it sends does not reach."""
    cut_in: tuple[str, ...] = ()
    """Members that it does not hear."""
    degradation: Degradation | None = None
    """Of a degradation: how."""
    peers: tuple[str, ...] = ()
    """Of a degradation: the members that it is about; none for all."""
    one_way: bool = False
    """Of a degradation: only what it sends."""
    signal: int = 0
    """Of a signal: its number."""
    shape: str = ""
    """Of a partition: ``majority-ring``; ``groups`` where they were given."""
    seed: int = 0
    """Of a partition: what its groups were drawn by."""
    processes: int = 0
    """Of a kill or a signal: how many processes it ended or was sent to."""
    generation: int = 0
    """Of a revival: the generation that it started."""
    with_disk: bool = False
    """Of a revival: whether the disk was kept."""

    @property
    def in_force(self) -> bool:
        """Whether it lasts, holds, and was not taken back."""
        return self.kind in LASTING and self.applied_at is not None and self.healed_at_manager is None


LASTING = frozenset(
    (
        FaultKind.DISCONNECT,
        FaultKind.RESET,
        FaultKind.PARTITION,
        FaultKind.DEGRADE,
        FaultKind.PAUSE,
        FaultKind.DISK_FULL,
    )
)
"""The kinds that hold until they are taken back."""


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
    """Whether a disconnect or a reset is in force."""
    paused: bool = False
    """Whether it is frozen by a pause."""
    faults: tuple[int, ...] = ()
    """What else is in force on it: lines of the ledger."""


@dataclass(frozen=True, slots=True)
class Pong:
    """The manager was reached."""

    round_trip_ns: int
    """From the call to its answer, on this machine's monotonic clock, in nanoseconds."""
    manager_at: Stamp
    """The manager's clock when it had the call."""
    clock: ClockBound
    """How this machine's clock stands to the manager's, as far as this one exchange tells."""
