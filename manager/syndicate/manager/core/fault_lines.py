"""What the line of an operation says: what it takes back, which parts of its target it sets, and to what.

Nothing here is sent, or waits: see `ledger`.
"""

from __future__ import annotations

from . import desired, healing
from .asked import line_id
from .desired import CUTS, LASTING
from .effects import Action
from .errors import FaultFailed
from .healing import doubtful, plane_of
from .model import FaultKind, Role, TaskState
from .records import FaultRecord
from .state import FaultOp, LiveJob, LiveTask, Plane, What
from .world import World

# What is done to processes: no state of the target is sent.
AT_PROCESSES = frozenset({FaultKind.KILL, FaultKind.REVIVE, FaultKind.SIGNAL})
_TAKE_BACK = frozenset({FaultKind.RECONNECT, FaultKind.RESUME, FaultKind.HEAL})
_UNDO = What(FaultKind.HEAL, text="it failed elsewhere")


def write_down(world: World, job: LiveJob, task: LiveTask, op: FaultOp) -> None:
    """The line of an operation, saved with intent: before anything is sent."""
    match op.kind:
        case FaultKind.KILL:
            # A revival that failed may run all the same.
            generation = max(task.record.generation, task.tried if task.unsure_life else 0)
        case FaultKind.REVIVE:
            # Never one that was tried before, not even by a revival that failed.
            generation = max(task.record.generation, task.tried) + 1
            task.tried = generation
        case FaultKind.PAUSE | FaultKind.SIGNAL:
            generation = task.record.generation
        case _:
            generation = 0
    op.fault = _line(job, op, generation, _heals(task, op))
    world.save_fault(job, op.fault)


def note_refusal(world: World, job: LiveJob, op: FaultOp, why: str) -> FaultFailed:
    """Writes down what was not even tried: nobody is told of it otherwise."""
    world.save_fault(job, _line(job, op, error=why))
    return FaultFailed("FAULT_FAILED", why)


def _line(
    job: LiveJob, op: FaultOp, generation: int = 0, heals: tuple[int, ...] = (), error: str = ""
) -> FaultRecord:
    """The next line of the ledger, about an operation."""
    what, fault_id = _UNDO if op.undo else op.asked.what, healing.next_fault_id(job)
    op.asked.call_id = op.asked.call_id or fault_id
    return FaultRecord(
        job.record.job_id,
        fault_id,
        job.record.attempt,
        "" if op.undo else line_id(op.asked),
        op.kind,
        op.task,
        op.requested_by,
        op.requested_at,
        what.with_disk,
        generation,
        error=error,
        call_id=op.asked.call_id,
        lease_s=what.lease_s,
        heals=heals,
        cut_out=op.cut_out,
        cut_in=op.cut_in,
        degradation=what.degradation,
        peers=op.peers,
        one_way=what.one_way,
        signal=what.signal,
        shape=what.shape,
        seed=what.seed,
        text=what.text,
    )


def _heals(task: LiveTask, op: FaultOp) -> tuple[int, ...]:
    """The lines in force that an operation takes back."""
    lines, kind = task.lines, op.kind
    if not lines or kind not in _TAKE_BACK:
        return ()
    if kind is FaultKind.HEAL:
        scope = op.scope
        return tuple(
            line.fault_id
            for line in lines.values()
            if scope is None or (line.call_id or line.fault_id) in scope
        )
    kinds = CUTS if kind is FaultKind.RECONNECT else (FaultKind.PAUSE,)
    return tuple(line.fault_id for line in lines.values() if line.kind in kinds)


def holds_already(job: LiveJob, task: LiveTask, op: FaultOp) -> bool:
    """Whether a target is for sure as an operation would make it."""
    alive, lost = task.record.state is TaskState.RUNNING, task.record.state is TaskState.LOST
    kind, lines = op.kind, task.lines.values()
    match kind:
        case FaultKind.KILL:
            return not alive and (lost or not task.unsure_life)
        case FaultKind.REVIVE:
            return alive and op.asked.what.with_disk
        case FaultKind.SIGNAL | FaultKind.PARTITION | FaultKind.DEGRADE:
            return False
        case FaultKind.HEAL if op.scope is not None and not op.undo:
            return not _heals(task, op) and not doubtful(job, task, op.scope)
        case FaultKind.HEAL if not op.undo:
            return not lines and (lost or not task.unsure)
    sure = lost or plane_of(op.asked.kind) not in task.unsure
    if kind in LASTING:
        # What ends by itself does not stand for what was asked for now.
        return sure and any(line.kind is kind and not line.lease_s for line in lines)
    return sure and not _heals(task, op)


def planes_of(job: LiveJob, fault: FaultRecord) -> set[Plane]:
    """The parts of a target's state that a line is about; of a Heal those of the lines that it takes back."""
    kinds = {fault.kind}
    if fault.kind is FaultKind.HEAL:
        kinds = {job.faults[healed].kind for healed in fault.heals if healed in job.faults}
    return {plane_of(kind) for kind in kinds}


def planes_to_set(job: LiveJob, task: LiveTask, op: FaultOp) -> tuple[Plane, ...]:
    """The parts of the target's state that an operation which is written down has to set."""
    if op.kind in AT_PROCESSES or op.fault is None:
        return ()
    if op.kind is not FaultKind.HEAL:
        return (plane_of(op.kind),)
    planes = planes_of(job, op.fault)
    if op.undo:
        planes.add(plane_of(op.asked.kind))
    elif op.scope is None:
        planes |= task.unsure
    else:
        planes |= doubtful(job, task, op.scope)
    # One that took nothing back before a restart was about what was unsure then.
    return tuple(plane for plane in Plane if plane in planes) or tuple(Plane)


def state_with(job: LiveJob, task: LiveTask, fault: FaultRecord, plane: Plane) -> Action:
    """The target's state as it is to be once this line holds."""
    lines = [line for line in task.lines.values() if line.fault_id not in fault.heals]
    if fault.kind in LASTING:
        lines.append(fault)
    if plane is Plane.TASK:
        return desired.task(lines)
    others = [
        other.record.address
        for other in job.tasks.values()
        if other.record.role is not Role.CLIENT and other is not task
    ]
    return desired.network(lines, others, lambda name: job.tasks[name].record.address)
