"""What the machine remembers between events: mutable, private to the core, reached through `World` alone."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from .clock import Interval
from .effects import Command, FaultReply, FinishReply
from .errors import CoreError
from .frozen import frozen
from .model import Degradation, FaultKind, OpenBarrier, Resources, Stamp, TaskRef
from .records import FaultRecord, JobRecord, NodeRecord, PlanRecord, RunRecord, StoryRecord, TaskRecord

# A task in one attempt, whichever its generation: job id, attempt, task.
TaskKey = tuple[int, int, str]


class Plane(Enum):
    """The parts of a member's state that a command sets as a whole."""

    NETWORK = "network"
    TASK = "task"


def key_of(ref: TaskRef) -> TaskKey:
    """The task that a ref names, without its generation."""
    return ref.job_id, ref.attempt, ref.task


@dataclass(slots=True)
class Pending:
    """A command without an answer. `session` is the stream that it was last sent through.

    `first_sent_ns` bounds from below when its effect can have come about; None where an earlier manager sent
    it.
    """

    command: Command
    first_sent_ns: int | None
    sent_ns: int
    session: str | None


@dataclass(slots=True)
class Slot:
    """A slot of a volunteer. `ref` is the task that it is locked for; free to be chosen from `back_at_ns` on.

    One that is not `offered` any more only waits for its task to go.
    """

    number: int
    address: str = ""
    offered: bool = False
    ref: TaskRef | None = None
    back_at_ns: int = 0
    refusals: int = 0


@dataclass(slots=True)
class Node:
    """A volunteer. `session` is None while it is away; `gone` once its tasks were given up.

    `welcomed` once it was heard after its Welcome, which is sent when its row is durable: what is sent before
    that would overtake the Welcome, and mean nothing to the volunteer. `instance` is of its last Hello,
    `worn` of its last heartbeat: it refuses jobs until it was booted again.
    """

    record: NodeRecord
    heard: Stamp
    session: str | None = None
    welcomed: bool = False
    free: Resources = field(default_factory=Resources)
    clock: Interval | None = None
    slots: dict[int, Slot] = field(default_factory=dict)
    pending: dict[str, Pending] = field(default_factory=dict)
    seen: bool = False
    gone: bool = False
    instance: str = ""
    worn: bool = False


@frozen
class What:
    """What a call asks for, apart from whom: the fields of its lines, see `FaultRecord`.

    `scope` is a Heal's: the calls whose lines it takes back, None for all. `groups` are a Partition's, by
    address.
    """

    kind: FaultKind
    with_disk: bool = True
    lease_s: float = 0.0
    degradation: Degradation | None = None
    one_way: bool = False
    signal: int = 0
    shape: str = ""
    seed: int = 0
    text: str = ""
    scope: frozenset[int] | None = None
    groups: tuple[tuple[str, ...], ...] = ()


@dataclass(slots=True, eq=False)
class Asked:
    """A fault that was asked for, at one member or at several: under way, or kept for repeats.

    `ops` are the members where it is not over, `told` what came of it at the others. `tasks` is in the order
    in which they were named; of several it is not known after a restart, and `digest` stands for it and for
    whatever else of the call is not plain. `waiters` are the calls that wait for the answer. `call_id` is the
    id of its first line, 0 while it has none. Where it failed at one member, `undone` tells what came of
    taking it back at the others; None before that is begun. `heals` are the calls that one of a replay takes
    back: their lines may come later than it.
    """

    number: int
    job_id: int
    request_id: str
    what: What
    digest: str
    tasks: tuple[str, ...] = ()
    ops: dict[str, FaultOp] = field(default_factory=dict)
    told: dict[str, FaultReply | CoreError] = field(default_factory=dict)
    waiters: list[int] = field(default_factory=list)
    call_id: int = 0
    undone: dict[str, FaultReply | CoreError] | None = None
    heals: tuple[Asked, ...] = ()

    @property
    def kind(self) -> FaultKind:
        """What is to be done."""
        return self.what.kind


@dataclass(slots=True, eq=False)
class FaultOp:
    """A fault at one member that is not over; `fault` is its line in the ledger, once sent.

    One with `undo` takes back what its call did. `planes` are the parts of the member's state that it sets,
    `left` how many of them are still to be sent, the one under way not counted.
    """

    asked: Asked
    task: str
    requested_by: str
    requested_at: Stamp
    cut_out: tuple[str, ...] = ()
    cut_in: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    undo: bool = False
    fault: FaultRecord | None = None
    command_id: str = ""
    planes: tuple[Plane, ...] = ()
    left: int = 0
    kind: FaultKind = field(init=False)

    def __post_init__(self) -> None:
        self.kind = FaultKind.HEAL if self.undo else self.asked.what.kind

    @property
    def scope(self) -> frozenset[int] | None:
        """The calls whose lines it takes back; None for all."""
        if self.undo:
            return frozenset({self.asked.call_id})
        if self.asked.heals:
            return frozenset(asked.call_id for asked in self.asked.heals)
        return self.asked.what.scope


@dataclass(slots=True)
class LiveTask:
    """A member in the current attempt. `command_id` is its unanswered Reserve, Prepare, Start or Release.

    `tried` is the highest generation that any start was asked for; `killed` is what the last Kill that was
    answered found, as (generation, processes). `lines` are those of the ledger that are in force, by id.
    `unsure` has the parts of its state, and `unsure_life` its life, of which the last command was answered
    with a failure: it may have come about all the same.
    """

    record: TaskRecord
    runs: dict[int, RunRecord] = field(default_factory=dict)
    ops: deque[FaultOp] = field(default_factory=deque)
    command_id: str = ""
    tried: int = 0
    killed: tuple[int, int] = (0, 0)
    lines: dict[int, FaultRecord] = field(default_factory=dict)
    unsure: set[Plane] = field(default_factory=set)
    unsure_life: bool = False


@frozen
class Stand:
    """A call of a client, or of a user, that stands for a planned one and waits until that holds.

    `names` are the members in the order in which they were named; `groups` are a Partition's, by address.
    """

    call: int
    names: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...] = ()


@dataclass(slots=True)
class Replay:
    """The calls that a job makes again, by number, and how far it is; but for `plan` of this attempt alone.

    `next` is the first that has not come yet. `asked` are those that have, `flying` the numbers of those that
    are under way. `claims` has by request id the one that it stands for. `unclaimed` is for looking up what
    nothing stands for yet, and made when it is first asked: see `replay.counterpart`.
    """

    plan: dict[int, PlanRecord]
    next: int = 1
    told: bool = False
    asked: dict[int, Asked] = field(default_factory=dict)
    flying: dict[int, None] = field(default_factory=dict)
    claims: dict[str, int] = field(default_factory=dict)
    stands: dict[int, list[Stand]] = field(default_factory=dict)
    unclaimed: dict[tuple[FaultKind, str], dict[frozenset[Any] | None, deque[int]]] = field(
        default_factory=dict
    )


@dataclass(slots=True)
class Board:
    """What a job's sync server told last, at `at` on the manager's clock; None before it told anything."""

    event_id: int = 0
    at: Stamp | None = None
    total: int = 0
    open: tuple[OpenBarrier, ...] = ()
    more: int = 0


@dataclass(slots=True, eq=False)
class Drop:
    """An order to drop a barrier, or all (""), that is not answered; `waiters` are the calls that wait."""

    request_id: str
    barrier: str
    waiters: list[int]


@dataclass(slots=True)
class LiveJob:
    """A job in memory. `tasks` is in the order master, slaves, clients; `faults` is of the current attempt.

    `requests` has by request id the faults that are under way and those that are kept for repeats;
    `remembered` counts the members of the latter. `finishes` has by client what Finish was answered.
    `failures` counts what `max_attempts` bounds. One that is not `whole` has ended, and only the store has
    its runs, faults, story and results. `replay` is there while a job that replays another one lives.
    `drops` has by command id what its sync server was asked to drop.
    """

    record: JobRecord
    tasks: dict[str, LiveTask] = field(default_factory=dict)
    faults: dict[int, FaultRecord] = field(default_factory=dict)
    story: list[StoryRecord] = field(default_factory=list)
    requests: dict[str, Asked] = field(default_factory=dict)
    remembered: int = 0
    finishes: dict[str, FinishReply] = field(default_factory=dict)
    next_fault_id: int = 1
    failures: int = 0
    ops_waiting: int = 0
    phase_deadline_ns: int = 0
    limit_deadline_ns: int = 0
    domain: str = ""
    whole: bool = True
    replay: Replay | None = None
    board: Board = field(default_factory=Board)
    drops: dict[str, Drop] = field(default_factory=dict)
