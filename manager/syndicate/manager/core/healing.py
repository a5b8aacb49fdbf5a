"""From when on a line of the ledger is in force, and until when.

What lasts is in force from when it held until it is taken back: by a Heal, a Reconnect or a Resume, by its
lease, because its call failed elsewhere, or with what it was about: a Kill ends a Pause, the end of a job or
of a machine everything. Each target has its lines in force at hand (`LiveTask.lines`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from .desired import CUTS, LASTING, OF_TASK
from .errors import FaultFailed
from .model import FaultKind, Stamp, TaskState
from .records import FaultRecord, changed
from .state import LiveJob, LiveTask, Plane
from .world import World, nanoseconds

HEALER: Final = "job end"
LEASE: Final = "lease"
ROLLBACK: Final = "rollback"
# Who asks for what a replay makes again.
REPLAY: Final = "replay"
KILL: Final = "kill"
# A generation that ended by itself while it was frozen.
EXIT: Final = "exit"
# The machine of a member is gone.
LOST: Final = "machine lost"
# How often what a lease was to end is tried to be taken back before it is given up.
MAX_LEASE_TRIES: Final = 10


def holds(world: World, job: LiveJob, task: LiveTask, line: FaultRecord) -> None:
    """A line that lasts is in force from now on."""
    task.lines[line.fault_id] = line
    if line.kind is FaultKind.PAUSE and not _frozen_lives(task, line):
        # Its end was told before the answer.
        killed = task.record.state is TaskState.KILLED
        ends(
            world,
            job,
            task,
            [line.fault_id],
            line.applied_at_manager or world.now,
            0,
            KILL if killed else EXIT,
        )
    watch_lease(world, line)


def ends(
    world: World,
    job: LiveJob,
    task: LiveTask,
    ids: Iterable[int],
    at: Stamp,
    error_ns: int,
    by: str,
) -> None:
    """Lines of a target are not in force any more; those that are not are left alone."""
    for fault_id in ids:
        line = task.lines.pop(fault_id, None)
        if line is not None:
            world.timers.cancel(("lease", line.job_id, fault_id))
            world.save_fault(job, changed(line, healed_at_manager=at, healed_error_ns=error_ns, healed_by=by))


def generation_ended(world: World, job: LiveJob, task: LiveTask, at: Stamp, killed: bool) -> None:
    """No process is left that could be frozen."""
    if task.lines:
        paused = [line.fault_id for line in task.lines.values() if line.kind is FaultKind.PAUSE]
        ends(world, job, task, paused, at, 0, KILL if killed else EXIT)


def watch_lease(world: World, line: FaultRecord) -> None:
    """Its lease, if it has one, runs from when it held; one that ran out long ago is due at once."""
    if line.lease_s and line.applied_at_manager is not None:
        due = world.when(line.applied_at_manager) + nanoseconds(line.lease_s)
        world.timers.set(("lease", line.job_id, line.fault_id), due)


def failure(line: FaultRecord) -> FaultFailed:
    """What is told of a line that failed; of one that may last all the same, by which call it is healed."""
    if line.kind not in LASTING:
        return FaultFailed("FAULT_FAILED", line.error)
    return FaultFailed("FAULT_FAILED", line.error, call_id=str(line.call_id or line.fault_id))


def doubtful(job: LiveJob, task: LiveTask, calls: frozenset[int]) -> set[Plane]:
    """The parts of a target's state at which one of these calls failed, and which may be so all the same."""
    if not task.unsure or task.record.state is TaskState.LOST:
        return set()
    failed = (
        line
        for line in job.faults.values()
        if line.task == task.record.task and line.error and line.kind in LASTING
    )
    return task.unsure & {plane_of(line.kind) for line in failed if (line.call_id or line.fault_id) in calls}


def plane_of(kind: FaultKind) -> Plane:
    """The part of a target's state that a fault is about."""
    return Plane.TASK if kind in OF_TASK or kind is FaultKind.RESUME else Plane.NETWORK


def lease_tries(job: LiveJob, fault_id: int) -> int:
    """How often it was tried in vain to take a line back because its lease ran out."""
    return sum(
        line.requested_by == LEASE and bool(line.error) and fault_id in line.heals
        for line in job.faults.values()
    )


def job_ends(world: World, job: LiveJob) -> None:
    """Writes down that the end of the job takes back what is in force; Release does it."""
    for task in job.tasks.values():
        if task.lines:
            kinds = {line.kind for line in task.lines.values()}
            kind = FaultKind.RECONNECT if kinds <= CUTS else FaultKind.HEAL
            fault_id = next_fault_id(job)
            line = FaultRecord(
                job.record.job_id,
                fault_id,
                job.record.attempt,
                "",
                kind,
                task.record.task,
                HEALER,
                world.now,
                call_id=fault_id,
                heals=tuple(task.lines),
            )
            world.save_fault(job, line)


def slot_given_back(
    world: World, job: LiveJob, task: LiveTask, applied_at: Stamp | None, since_ns: int | None
) -> None:
    """The slot of a task is given back, or lost: nothing is in force on it; its healing line is closed."""
    if applied_at is None:
        at, error_ns, by = world.now, 0, LOST
    else:
        (at, error_ns), by = world.on_clock(world.node_of(task), applied_at, since_ns), HEALER
    if task.lines:
        ends(world, job, task, list(task.lines), at, error_ns, by)
    for fault in list(job.faults.values()):
        if fault.task != task.record.task or fault.requested_by != HEALER or fault.applied_at or fault.error:
            continue
        if applied_at is None:
            world.save_fault(job, changed(fault, error="its machine is gone"))
        else:
            world.save_fault(
                job, changed(fault, applied_at=applied_at, applied_at_manager=at, applied_error_ns=error_ns)
            )


def load(task: LiveTask, fault: FaultRecord) -> None:
    """Takes in a line of the ledger after a restart, in the order of their ids."""
    if fault.applied_at is None or fault.error:
        return
    if fault.kind in LASTING and fault.healed_at_manager is None:
        task.lines[fault.fault_id] = fault
    elif fault.kind is FaultKind.RECONNECT:
        # Managers of before did not write down what was healed.
        for line in [line for line in task.lines.values() if line.kind in CUTS]:
            del task.lines[line.fault_id]


def next_fault_id(job: LiveJob) -> int:
    """The id of the ledger's next line."""
    job.next_fault_id += 1
    return job.next_fault_id - 1


def _frozen_lives(task: LiveTask, line: FaultRecord) -> bool:
    return task.record.state is TaskState.RUNNING and task.record.generation == line.generation
