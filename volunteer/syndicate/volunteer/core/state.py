"""What the machine knows: links, clusters, slots; mutable, and owned by one `Volunteer`."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Network

from .. import local
from .model import Command, Role, Stamp, TaskEvent, TaskExit, TaskId, TaskRef, ref_of
from .transitions import SlotInput, SlotState, next_state

SECOND = 1_000_000_000
_STORY_LINES = 200


class BrokenInvariant(Exception):
    """The machine is in a state that it must never be in: a bug of the core."""


@dataclass(slots=True)
class Link:
    """The stream to one manager. Times are CLOCK_BOOTTIME in nanoseconds."""

    name: str
    cluster_id: str = ""
    opened: bool = False
    welcomed: bool = False
    closing: bool = False
    hello_at: Stamp | None = None
    interval_ns: int = 0
    orphan_ns: int = 0
    sequence: int = 0
    sent: dict[int, Stamp] = field(default_factory=dict)
    acked: int = 0
    acked_at: Stamp | None = None
    heard_ns: int = 0
    next_heartbeat_ns: int = 0


@dataclass(slots=True)
class Cluster:
    """One cluster that this volunteer serves or served. `links` are welcomed ones, the latest last."""

    cluster_id: str
    epoch: int = 0
    network: IPv4Network | None = None
    cursor: int = 0
    draining: bool = False
    lease_until_ns: int = 0
    resend_ns: int = 0
    links: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Waiting:
    """A command that was taken and waits for its answer. `link` is where it was heard last."""

    link: str
    command: Command
    received: Stamp


class Step(StrEnum):
    """What an operation waits for."""

    FETCH = "fetch"  # the source
    PREPARE = "prepare"
    RELAY = "relay"  # the client's socket
    START = "start"
    KILL = "kill"
    REVIVE = "revive"
    NETWORK = "network"
    TASK = "task"  # what it suffers beside its network
    SIGNAL = "signal"
    BARRIERS = "barriers"  # dropped
    END = "end"  # of a release: all processes
    DRAIN = "drain"  # of a release: all output stored by the manager
    KEEP = "keep"  # of a release: the disk handed over to the manager
    REMOVE = "remove"  # of a release: all that the keeper has


@dataclass(slots=True)
class Operation:
    """The one thing that is under way on a slot.

    `request` is what the keeper is asked, `call` its number while the keeper is known to have it. `waiting`
    is the command that is to be answered; the steps of a release have none, their commands are in
    `Slot.releases`.
    """

    step: Step
    deadline_ns: int
    waiting: Waiting | None = None
    request: local.Request | None = None
    call: int | None = None
    generation: int = 0
    retry_ns: int | None = None


@dataclass(frozen=True, slots=True)
class StoryLine:
    """One step in the life of a slot."""

    at: Stamp
    line: str
    state: SlotState
    task: str


@dataclass(slots=True)
class Slot:
    """One slot and the task that it holds.

    `touched`: the keeper may have something of the task. `gone`: it had, and has not any more. `used` is the
    highest generation that the keeper knows of: one whose start failed is used up and was never started.
    """

    number: int
    fixed_address: str = ""
    offered: bool = True
    state: SlotState = SlotState.FREE
    task: TaskId | None = None
    role: Role = Role.MASTER
    address: str = ""
    prefix_length: int = 32
    ttl_ns: int = 0
    lapse_ns: int = 0
    used: int = 0
    started: dict[int, Stamp] = field(default_factory=dict)
    exits: dict[int, TaskExit] = field(default_factory=dict)
    faulted: set[int] = field(default_factory=set)  # generations whose Kill was answered
    failed: set[int] = field(default_factory=set)
    early: list[local.Exit] = field(default_factory=list)
    operation: Operation | None = None
    queue: deque[Waiting] = field(default_factory=deque)
    releases: list[Waiting] = field(default_factory=list)
    touched: bool = False
    gone: bool = False
    abandoned: bool = False
    ended: bool = False
    drained: bool = False
    keep: bool = False  # its disk is to be handed over before it is removed
    news: local.BarriersTold | None = None  # of its barriers, not yet told
    news_told: int = 0  # the event that told the last
    news_known: local.BarriersTold | None = None  # what that was
    lines: deque[StoryLine] = field(default_factory=lambda: deque(maxlen=_STORY_LINES))

    def move(self, line: SlotInput, now: Stamp) -> None:
        """Goes where the table says. Raises IllegalTransition."""
        self.state = next_state(self.state, line)
        self.tell(str(line), now)

    def tell(self, line: str, now: Stamp) -> None:
        """Adds a line to the story."""
        task = self.task
        name = "" if task is None else f"{task.cluster_id}/{task.job_id}/{task.attempt}/{task.task}"
        self.lines.append(StoryLine(now, line, self.state, name))

    def has(self, ref: TaskRef) -> bool:
        """Whether it holds this task, in whichever generation: `task == ref.id`, of which none is made."""
        task = self.task
        return (
            task is not None
            and task.job_id == ref.job_id
            and task.task == ref.task
            and task.attempt == ref.attempt
            and task.cluster_id == ref.cluster_id
        )

    @property
    def holds(self) -> TaskId:
        """The task that is held. Raises BrokenInvariant where the slot is free."""
        if self.task is None:
            raise BrokenInvariant(f"slot {self.number} holds no task")
        return self.task

    @property
    def generation(self) -> int:
        """The latest generation that was started; 0 before the first."""
        return max(self.started, default=0)

    @property
    def work(self) -> Operation:
        """The operation under way. Raises BrokenInvariant where there is none."""
        if self.operation is None:
            raise BrokenInvariant(f"nothing is under way on slot {self.number}")
        return self.operation

    def ref(self, generation: int | None = None) -> TaskRef:
        """The task with its latest generation, or with the one given."""
        return ref_of(self.holds, max(1, self.generation if generation is None else generation))

    def freed(self) -> Slot:
        """The same slot without the task; the story goes on."""
        return Slot(self.number, self.fixed_address, self.offered, lines=self.lines)


@dataclass(slots=True)
class PendingEvent:
    """A TaskEvent that its manager has not acknowledged."""

    cluster_id: str
    event: TaskEvent


__all__ = [
    "SECOND",
    "BrokenInvariant",
    "Cluster",
    "Link",
    "Operation",
    "PendingEvent",
    "Slot",
    "Step",
    "StoryLine",
    "Waiting",
]
