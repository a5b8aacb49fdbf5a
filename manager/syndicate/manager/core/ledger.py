"""The ledger of faults: what was asked for, in order, written down before it is done.

A target has at most one operation under way; the others wait behind it in the order in which they were asked
for, so that a Kill and a Revive sent together come out as that. Whether an operation is needed at all is
decided when its turn comes. The line in the ledger is saved when the command goes out: what was never sent
leaves no line.

An operation outlives its callers: when the answer is late they are told that it is not known whether it holds
(TooLate), and the line stays open until the volunteer answers or the attempt ends.
"""

from __future__ import annotations

from dataclasses import replace

from . import commands
from .asked import ended, join, line_id, over_at, too_late, under_way
from .clock import bound
from .effects import Action, FaultReply, Kill, Revive, SetNetwork
from .errors import Away, CoreError, FaultFailed, Refused
from .model import ClockBound, FaultKind, Role, Stamp, TaskState
from .records import FaultRecord
from .state import Asked, FaultOp, LiveJob, LiveTask, Node
from .world import World

# Operations that may wait in one job, lines that one attempt may have.
MAX_WAITING = 1000
MAX_LINES = 10_000
HEALER = "job end"
# An operation waits while its target is on the way to its first start.
_READY_FOR_FAULTS = frozenset({TaskState.RUNNING, TaskState.KILLED, TaskState.EXITED, TaskState.LOST})


def clock_of(world: World, node: Node) -> ClockBound | None:
    """How a volunteer's clock stands to the manager's now."""
    return None if node.clock is None else bound(node.clock, world.ns)


def add(
    world: World, job: LiveJob, targets: list[LiveTask], asked: Asked, requested_by: str, call: int
) -> None:
    """An operation takes its place behind the others of each target; the caller waits for all of them."""
    ops = [FaultOp(asked, task.record.task, requested_by, world.now) for task in targets]
    under_way(world, job, asked, ops)
    join(world, asked, call)
    job.ops_waiting += len(ops)
    for task, op in zip(targets, ops, strict=True):
        task.ops.append(op)
        pump(world, job, task)


def pump(world: World, job: LiveJob, task: LiveTask) -> None:
    """Begins the target's next operation, if none is under way; answers those that need no command."""
    while task.ops and task.ops[0].fault is None and task.record.state in _READY_FOR_FAULTS:
        op = task.ops[0]
        value = outlook(world, task, op.kind, op.asked.with_disk)
        if value is not None:
            close(world, job, task, value)
        else:
            _write_down(world, job, task, op)
            send(world, job, task, op)


def outlook(world: World, task: LiveTask, kind: FaultKind, with_disk: bool) -> FaultReply | CoreError | None:
    """What comes of a fault whose turn it is, where that is known without a command."""
    name, state = task.record.task, task.record.state
    if state not in _READY_FOR_FAULTS:
        return None
    node = world.node_of(task)
    alive = state is TaskState.RUNNING
    # Of a task that is to live, only its volunteer can say that it does.
    unsure = kind is FaultKind.REVIVE and node.session is None
    if _holds_already(task, kind, with_disk) and not unsure:
        return FaultReply(0, True, None, clock_of(world, node), 0, task.record.generation)
    if state is TaskState.LOST:
        return FaultFailed("FAULT_FAILED", f"the machine of {name} is gone")
    if kind is FaultKind.REVIVE and alive and not with_disk:
        return Refused("TASK_ALIVE", f"{name} lives: only a dead task can lose its disk")
    if node.session is None:
        return Away("VOLUNTEER_AWAY", f"{node.record.volunteer_id}, which has {name}, is away")
    return None


def send(world: World, job: LiveJob, task: LiveTask, op: FaultOp) -> None:
    """Sends the command of an operation that is written down; again under the same name after a restart."""
    fault = op.fault
    assert fault is not None, "an operation is written down before it is sent"  # noqa: S101  # for the type checker
    action: Action
    generation = task.record.generation
    match op.kind:
        case FaultKind.KILL:
            action, generation = Kill(), fault.generation
        case FaultKind.REVIVE:
            action, generation = Revive(op.asked.with_disk), fault.generation
        case FaultKind.DISCONNECT:
            action = SetNetwork(_cut_set(job, task))
        case FaultKind.RECONNECT:
            action = SetNetwork(())
    op.command_id = commands.issue(
        world,
        world.node_of(task),
        world.ref(task, generation),
        task.record.slot,
        action,
        command_id=commands.fault_command_id(world, fault.job_id, fault.fault_id),
        since_ns=world.when(fault.requested_at),
        # A kill takes milliseconds of all processors, in which a second one would wait: they begin together.
        # Those of one call do.
        together=op.kind is FaultKind.KILL and not op.asked.digest,
    )


def close(world: World, job: LiveJob, task: LiveTask, value: FaultReply | CoreError) -> None:
    """The target's first operation is over."""
    over_at(world, job, task.ops.popleft(), value)


def overdue(world: World, number: int) -> None:
    """The callers of a fault have waited long enough. What was not sent yet of it will not be."""
    asked = world.asked.get(number)
    if asked is None:
        return
    too_late(world, asked)
    job = world.jobs[asked.job_id]
    for op in list(asked.ops.values()):
        if op.fault is None:
            job.tasks[op.task].ops.remove(op)
            over_at(world, job, op, None)


def learn(task: LiveTask, fault: FaultRecord) -> None:
    """Remembers whether the target may be other than its row says: a fault that failed may have been applied.

    A Kill that failed and was applied all the same is told by the end of its generation.
    """
    match fault.kind:
        case FaultKind.DISCONNECT | FaultKind.RECONNECT:
            task.unsure_cut = bool(fault.error)
        case FaultKind.REVIVE:
            task.unsure_life = bool(fault.error)
        case FaultKind.KILL if not fault.error:
            task.unsure_life = False


def target_lost(world: World, job: LiveJob, task: LiveTask, why: str) -> None:
    """The job goes on without a target: what is under way there failed, what waits is looked at."""
    if task.ops and (fault := task.ops[0].fault) is not None:
        commands.forget(world.node_of(task), task.ops[0].command_id)
        world.save_fault(job, replace(fault, error=why))
        close(world, job, task, FaultFailed("FAULT_FAILED", why))
    pump(world, job, task)


def end_attempt(world: World, job: LiveJob) -> None:
    """The attempt is over: nobody waits for its faults any more, and open lines are closed."""
    for task in job.tasks.values():
        for op in task.ops:
            if op.asked.ops:
                ended(world, job, op.asked)
            if op.fault is not None:
                commands.forget(world.node_of(task), op.command_id)
                world.save_fault(job, replace(op.fault, error="the attempt ended before it was answered"))
        task.ops.clear()


def heal(world: World, job: LiveJob) -> None:
    """Writes down that the end of the job takes back the cuts in force; Release does it."""
    for task in job.tasks.values():
        if task.record.disconnected:
            fault_id = _next_fault_id(job)
            line = FaultRecord(
                job.record.job_id,
                fault_id,
                job.record.attempt,
                "",
                FaultKind.RECONNECT,
                task.record.task,
                HEALER,
                world.now,
            )
            world.save_fault(job, line)


def healed(
    world: World, job: LiveJob, task: LiveTask, applied_at: Stamp | None, since_ns: int | None
) -> None:
    """The slot of a task that was cut off is given back, or lost: closes its healing line."""
    for fault in list(job.faults.values()):
        if fault.task != task.record.task or fault.requested_by != HEALER or fault.applied_at or fault.error:
            continue
        if applied_at is None:
            world.save_fault(job, replace(fault, error="its machine is gone"))
        else:
            at, error_ns = world.on_clock(world.node_of(task), applied_at, since_ns)
            world.save_fault(
                job, replace(fault, applied_at=applied_at, applied_at_manager=at, applied_error_ns=error_ns)
            )


def _write_down(world: World, job: LiveJob, task: LiveTask, op: FaultOp) -> None:
    match op.kind:
        case FaultKind.KILL:
            # A revival that failed may run all the same.
            generation = max(task.record.generation, task.tried if task.unsure_life else 0)
        case FaultKind.REVIVE:
            # Never one that was tried before, not even by a revival that failed.
            generation = max(task.record.generation, task.tried) + 1
            task.tried = generation
        case _:
            generation = 0
    op.fault = FaultRecord(
        job.record.job_id,
        _next_fault_id(job),
        job.record.attempt,
        line_id(op.asked),
        op.kind,
        op.task,
        op.requested_by,
        op.requested_at,
        op.asked.with_disk,
        generation,
    )
    world.save_fault(job, op.fault)


def _next_fault_id(job: LiveJob) -> int:
    job.next_fault_id += 1
    return job.next_fault_id - 1


def _holds_already(task: LiveTask, kind: FaultKind, with_disk: bool) -> bool:
    alive, lost = task.record.state is TaskState.RUNNING, task.record.state is TaskState.LOST
    match kind:
        case FaultKind.KILL:
            return not alive and (lost or not task.unsure_life)
        case FaultKind.REVIVE:
            return alive and with_disk
        case FaultKind.DISCONNECT:
            return task.record.disconnected and (lost or not task.unsure_cut)
        case FaultKind.RECONNECT:
            return not task.record.disconnected and (lost or not task.unsure_cut)


def _cut_set(job: LiveJob, task: LiveTask) -> tuple[str, ...]:
    """All master and slave addresses of the job but the target's own."""
    return tuple(
        other.record.address
        for other in job.tasks.values()
        if other.record.role is not Role.CLIENT and other is not task
    )
