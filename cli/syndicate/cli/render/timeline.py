"""A job's tasks and faults on one time line, in seconds since the job's start. What lanes and story share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from syndicate.cli.render import words
from syndicate.cli.render.fault_words import NOBODY_ASKED, signal_word, what_text
from syndicate.cli.render.quantities import seconds_between
from syndicate.v1.common_pb2 import Fault, FaultKind, Reason, Stamp, TaskState
from syndicate.v1.scheduler_pb2 import Job, Task


@dataclass(frozen=True, slots=True)
class Run:
    """One generation of a task. ``end_s`` is None while it runs."""

    generation: int
    start_s: float
    end_s: float | None


class Suffers(StrEnum):
    """What a task suffers for a while; later ones are drawn over earlier ones."""

    DEGRADED = "degraded"
    DISK_FULL = "disk full"
    CUT = "cut"
    PAUSED = "paused"


SPANS = {
    FaultKind.FAULT_KIND_DISCONNECT: Suffers.CUT,
    FaultKind.FAULT_KIND_RESET: Suffers.CUT,
    FaultKind.FAULT_KIND_PARTITION: Suffers.CUT,
    FaultKind.FAULT_KIND_DEGRADE: Suffers.DEGRADED,
    FaultKind.FAULT_KIND_PAUSE: Suffers.PAUSED,
    FaultKind.FAULT_KIND_DISK_FULL: Suffers.DISK_FULL,
}


@dataclass(frozen=True, slots=True)
class Span:
    """A time in which a task was cut off, frozen or the like. ``end_s`` is None while it is."""

    start_s: float
    end_s: float | None
    what: Suffers = Suffers.CUT
    text: str = "cut"
    """``cut``, ``partition majority-ring``, ``loss 10 % to slave-1``."""
    healed_by: str = ""
    """``lease``, ``kill`` and the like, where nobody asked for the end."""


@dataclass(slots=True)
class Lane:
    """One task over the time of its job."""

    task: str
    runs: list[Run] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    kills_s: list[float] = field(default_factory=list)
    revivals: list[tuple[float, bool]] = field(default_factory=list)
    """When, and whether the disk was kept."""
    signals: list[tuple[float, str]] = field(default_factory=list)
    """When, and what was sent: ``signal QUIT``."""
    ended_s: float | None = None
    """When it finished or its make ended by itself."""
    ending: str = ""
    """``finished: pass``, ``exited 0``, ``exited 2``."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """All lanes, in the order master, slaves, clients."""

    length_s: float
    lanes: tuple[Lane, ...]


def in_order(tasks: Iterable[Task]) -> list[Task]:
    """Master, slaves, clients, each by number: ``slave-2`` before ``slave-10``."""

    def place(task: Task) -> tuple[int, int, str]:
        number = task.ref.task.rpartition("-")[2]
        return task.role, int(number) if number.isdecimal() else 0, task.ref.task

    return sorted(tasks, key=place)


def job_start(job: Job) -> Stamp | None:
    """The zero of a job's time line: when all members ran, or else when it got its slots."""
    for name in ("started_at", "reserved_at"):
        if job.HasField(name):
            return getattr(job, name)  # type: ignore[no-any-return]
    return None


def fault_time(fault: Fault) -> Stamp | None:
    """When a fault held, on the manager's clock; None while it does not hold, or when it failed."""
    if fault.error or not fault.HasField("applied_at"):
        return None
    return fault.applied_at_manager if fault.HasField("applied_at_manager") else fault.requested_at


def timeline(job: Job, now: Stamp) -> Timeline | None:
    """Lays a job out from its start to its end, or to ``now``; None before it has slots."""
    start = job_start(job)
    if start is None:
        return None
    end = job.ended_at if job.HasField("ended_at") else now
    length = max(0.001, seconds_between(start, end))
    lanes = {task.ref.task: _lane(task, start) for task in in_order(job.tasks)}
    for fault in sorted(job.faults, key=lambda fault: fault.fault_id):
        at = fault_time(fault)
        if at is not None and fault.task in lanes:
            healed = fault.healed_at_manager if fault.HasField("healed_at_manager") else None
            healed_s = None if healed is None else max(0.0, seconds_between(start, healed))
            _apply(lanes[fault.task], fault, max(0.0, seconds_between(start, at)), healed_s)
    return Timeline(length, tuple(lanes.values()))


def _lane(task: Task, start: Stamp) -> Lane:
    lane = Lane(task.ref.task)
    for run in task.runs:
        if not run.HasField("started_at"):
            continue
        end = max(0.0, seconds_between(start, run.ended_at)) if run.HasField("ended_at") else None
        lane.runs.append(Run(run.generation, max(0.0, seconds_between(start, run.started_at)), end))
    if task.HasField("finished_at"):
        lane.ended_s = max(0.0, seconds_between(start, task.finished_at))
        lane.ending = f"finished: {words.outcome(task.result.outcome) or 'pass'}"
    elif task.state == TaskState.TASK_STATE_EXITED or _ended_by_itself(task):
        lane.ended_s = lane.runs[-1].end_s if lane.runs else None
        lane.ending = f"exited {task.exit.exit_status}"
    return lane


def _ended_by_itself(task: Task) -> bool:
    return task.exit.reason in (
        Reason.REASON_EXITED_ZERO,
        Reason.REASON_EXITED_NONZERO,
        Reason.REASON_SIGNALED,
        Reason.REASON_NOTHING_RUN,
        Reason.REASON_NO_MAKEFILE,
        Reason.REASON_NO_TARGET,
        Reason.REASON_OUT_OF_MEMORY,
    )


def _apply(lane: Lane, fault: Fault, at_s: float, healed_s: float | None) -> None:
    if fault.kind == FaultKind.FAULT_KIND_KILL:
        lane.kills_s.append(at_s)
    elif fault.kind == FaultKind.FAULT_KIND_REVIVE:
        lane.revivals.append((at_s, fault.with_disk))
    elif fault.kind == FaultKind.FAULT_KIND_SIGNAL:
        lane.signals.append((at_s, f"signal {signal_word(fault.signal)}"))
    elif fault.kind in SPANS:
        told = fault.kind == FaultKind.FAULT_KIND_DISCONNECT and healed_s is None and _is_open(lane)
        if not told:
            by = fault.healed_by if fault.healed_by in NOBODY_ASKED else ""
            lane.spans.append(Span(at_s, healed_s, SPANS[fault.kind], what_text(fault), by))
    elif fault.kind == FaultKind.FAULT_KIND_RECONNECT and _is_open(lane):
        # Of a manager that does not tell when a cut was taken back.
        lane.spans[-1] = replace(lane.spans[-1], end_s=at_s)


def _is_open(lane: Lane) -> bool:
    """Whether the last thing that it suffers is a cut without an end."""
    return bool(lane.spans) and lane.spans[-1].text == "cut" and lane.spans[-1].end_s is None
