"""A job's tasks and faults on one time line, in seconds since the job's start. What lanes and story share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from syndicate.cli.render import words
from syndicate.cli.render.quantities import seconds_between
from syndicate.v1.common_pb2 import Fault, FaultKind, Reason, Stamp, TaskState
from syndicate.v1.scheduler_pb2 import Job, Task


@dataclass(frozen=True, slots=True)
class Run:
    """One generation of a task. ``end_s`` is None while it runs."""

    generation: int
    start_s: float
    end_s: float | None


@dataclass(frozen=True, slots=True)
class Span:
    """A time in which a task was cut off. ``end_s`` is None while it is."""

    start_s: float
    end_s: float | None


@dataclass(slots=True)
class Lane:
    """One task over the time of its job."""

    task: str
    runs: list[Run] = field(default_factory=list)
    cuts: list[Span] = field(default_factory=list)
    kills_s: list[float] = field(default_factory=list)
    revivals: list[tuple[float, bool]] = field(default_factory=list)
    """When, and whether the disk was kept."""
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
            _apply(lanes[fault.task], fault, max(0.0, seconds_between(start, at)))
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


def _apply(lane: Lane, fault: Fault, at_s: float) -> None:
    if fault.kind == FaultKind.FAULT_KIND_KILL:
        lane.kills_s.append(at_s)
    elif fault.kind == FaultKind.FAULT_KIND_REVIVE:
        lane.revivals.append((at_s, fault.with_disk))
    elif fault.kind == FaultKind.FAULT_KIND_DISCONNECT:
        if not lane.cuts or lane.cuts[-1].end_s is not None:
            lane.cuts.append(Span(at_s, None))
    elif fault.kind == FaultKind.FAULT_KIND_RECONNECT and lane.cuts and lane.cuts[-1].end_s is None:
        lane.cuts[-1] = Span(lane.cuts[-1].start_s, at_s)
