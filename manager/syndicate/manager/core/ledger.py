"""The ledger of faults: what was asked for, in order, written down before it is done.

A target has at most one operation under way; the others wait behind it in the order in which they were asked
for, so that a Kill and a Revive sent together come out as that. Whether an operation is needed at all is
decided when its turn comes. The line in the ledger is saved when the command goes out: what was never sent
leaves no line.

What lasts is sent as the whole state of its target (`desired`), computed from the lines in force there
(`healing`) and the one that is under way (`fault_lines`).

An operation outlives its callers: when the answer is late they are told that it is not known whether it holds
(TooLate), and the line stays open until the volunteer answers or the attempt ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from . import commands, fault_lines, healing, story
from .asked import conclude, ended, join, make, over_at, too_late, under_way
from .clock import bound
from .desired import LASTING
from .effects import Action, FaultReply, Kill, Revive, Signal
from .errors import Away, CoreError, FaultFailed, Refused
from .healing import LEASE, REPLAY, ROLLBACK, plane_of
from .model import ClockBound, FaultKind, JobState, Stamp, TaskState
from .records import FaultRecord, changed
from .state import Asked, FaultOp, LiveJob, LiveTask, Node, Plane, What
from .world import World, nanoseconds

# Operations that may wait in one job, lines that one attempt may have, and how many more to mend what
# they did.
MAX_WAITING = 1000
MAX_LINES = 10_000
LINES_TO_MEND = 2_000
_LONGEST_PAUSE_S = 600.0  # between two tries to take back what a lease was to end
# An operation waits while its target is on the way to its first start.
_READY_FOR_FAULTS = frozenset({TaskState.RUNNING, TaskState.KILLED, TaskState.EXITED, TaskState.LOST})


def clock_of(world: World, node: Node) -> ClockBound | None:
    """How a volunteer's clock stands to the manager's now."""
    return None if node.clock is None else bound(node.clock, world.ns)


def add(world: World, job: LiveJob, ops: Sequence[FaultOp], asked: Asked, call: int) -> None:
    """Operations take their places behind the others of their targets; the caller waits for all of them."""
    under_way(world, job, asked, ops)
    join(world, asked, call)
    _begin(world, job, ops)


def begin(world: World, job: LiveJob, ops: Sequence[FaultOp], asked: Asked) -> None:
    """As `add`, of a fault for which no caller waits."""
    under_way(world, job, asked, ops)
    _begin(world, job, ops)


def pump(world: World, job: LiveJob, task: LiveTask) -> None:
    """Begins the target's next operation, if none is under way; answers those that need no command."""
    while task.ops and task.ops[0].fault is None and task.record.state in _READY_FOR_FAULTS:
        op = task.ops[0]
        value = outlook(world, task, op)
        if value is not None:
            if isinstance(value, CoreError) and op.requested_by == REPLAY:
                value = fault_lines.note_refusal(world, job, op, value.detail)
            close(world, job, task, value)
        else:
            fault_lines.write_down(world, job, task, op)
            send(world, job, task, op)


def outlook(world: World, task: LiveTask, op: FaultOp) -> FaultReply | CoreError | None:
    """What comes of an operation whose turn it is, where that is known without a command."""
    name, state, kind = task.record.task, task.record.state, op.kind
    if state not in _READY_FOR_FAULTS:
        return None
    node = world.node_of(task)
    alive = state is TaskState.RUNNING
    # Of a task that is to live, only its volunteer can say that it does.
    unsure = kind is FaultKind.REVIVE and node.session is None
    if fault_lines.holds_already(world.jobs[op.asked.job_id], task, op) and not unsure:
        return FaultReply(0, True, None, clock_of(world, node), 0, task.record.generation)
    if state is TaskState.LOST:
        return FaultFailed("FAULT_FAILED", f"the machine of {name} is gone")
    if kind is FaultKind.REVIVE and alive and not op.asked.what.with_disk:
        return Refused("TASK_ALIVE", f"{name} lives: only a dead task can lose its disk")
    if kind in (FaultKind.PAUSE, FaultKind.SIGNAL) and not alive:
        return Refused("TASK_DEAD", f"{name} is not alive: it has no process")
    # What nobody waits for waits for its volunteer; a caller is told.
    if node.session is None and op.requested_by not in (LEASE, ROLLBACK, REPLAY):
        return Away("VOLUNTEER_AWAY", f"{node.record.volunteer_id}, which has {name}, is away")
    return None


def send(world: World, job: LiveJob, task: LiveTask, op: FaultOp) -> None:
    """Sends the command of an operation that is written down; again under the same name after a restart."""
    op.planes = fault_lines.planes_to_set(job, task, op)
    op.left = len(op.planes)
    _send_next(world, job, task, op)


def partly_done(world: World, job: LiveJob, task: LiveTask, op: FaultOp, at: Stamp, error_ns: int) -> None:
    """One command of an operation is done: what it took back is not in force, also where the next fails."""
    plane = op.planes[-op.left - 1]
    task.unsure.discard(plane)
    healing.ends(world, job, task, _of_planes(job, op, (plane,)), at, error_ns, op.requested_by)
    _send_next(world, job, task, op)


def healed_already(job: LiveJob, op: FaultOp) -> bool:
    """Whether an operation that is under way has taken something back by now."""
    return bool(_of_planes(job, op, op.planes[: len(op.planes) - op.left - 1]))


def _of_planes(job: LiveJob, op: FaultOp, planes: Sequence[Plane]) -> list[int]:
    heals = op.fault.heals if op.fault is not None else ()
    known = (job.faults[number] for number in heals if number in job.faults)
    return [line.fault_id for line in known if plane_of(line.kind) in planes]


def close(world: World, job: LiveJob, task: LiveTask, value: FaultReply | CoreError) -> None:
    """The target's first operation is over."""
    _over(world, job, task.ops.popleft(), value)


def overdue(world: World, number: int) -> None:
    """The callers of a fault have waited long enough. What was not sent yet of it will not be."""
    asked = world.asked.get(number)
    if asked is None:
        return
    too_late(world, asked)
    job = world.jobs[asked.job_id]
    for op in list(asked.ops.values()):
        if op.fault is None and not op.undo:
            job.tasks[op.task].ops.remove(op)
            _over(world, job, op, None)


def lease_over(world: World, job_id: int, fault_id: int) -> None:
    """The lease of a line has run out: it is taken back, unless it is already."""
    job = world.jobs.get(job_id)
    line = None if job is None else job.faults.get(fault_id)
    if job is None or line is None or job.record.attempt != line.attempt:
        return
    if job.record.state not in (JobState.PREPARING, JobState.RUNNING):
        return  # Release takes it back
    task = job.tasks.get(line.task)
    if task is None or fault_id not in task.lines:
        return
    scope = frozenset({line.call_id or fault_id})
    if any(op.requested_by == LEASE and op.scope == scope for op in task.ops):
        return  # with another line of its call
    what = What(FaultKind.HEAL, text="its lease ran out", scope=scope)
    asked = make(world, job, "", what, (line.task,))
    begin(world, job, [FaultOp(asked, line.task, LEASE, world.now)], asked)


def failed(world: World, task: LiveTask, op: FaultOp, fault: FaultRecord) -> None:
    """A command of an operation was answered with a failure: what it was about may be so all the same."""
    learn(task, fault, op.planes[-op.left - 1 :])
    if fault.requested_by == LEASE:
        _try_lease_again(world, world.jobs[fault.job_id], fault)


def _try_lease_again(world: World, job: LiveJob, fault: FaultRecord) -> None:
    """What its lease could not take back is tried again, ever more seldom, until it is given up.

    The lines of the ledger count the tries, so that a manager that is restarted goes on; it tries once more.
    """
    stuck = []
    for fault_id in fault.heals:
        tries = healing.lease_tries(job, fault_id)
        if tries < healing.MAX_LEASE_TRIES:
            pause_s = min(world.config.command_timeout_s * 2.0 ** (tries - 1), _LONGEST_PAUSE_S)
            world.timers.set(("lease", job.record.job_id, fault_id), world.ns + nanoseconds(pause_s))
        elif tries == healing.MAX_LEASE_TRIES:
            stuck.append(fault_id)
    if stuck:
        lines = ", ".join(f"{fault_id} ({job.faults[fault_id].kind.name})" for fault_id in stuck)
        text = f"the lease of {lines} ran out, but {tries} tries to take it back failed: {fault.error}"
        story.tell(world, job, "lease.stuck", text, fault.task)


def learn(task: LiveTask, fault: FaultRecord, planes: Iterable[Plane]) -> None:
    """Remembers whether the target may be other than its row says: a fault that failed may have been applied.

    A Kill that failed and was applied all the same is told by the end of its generation.
    """
    match fault.kind:
        case FaultKind.REVIVE:
            task.unsure_life = bool(fault.error)
        case FaultKind.KILL:
            task.unsure_life &= bool(fault.error)
        case FaultKind.SIGNAL:
            pass
        case _ if fault.error:
            task.unsure.update(planes)
        case _:
            task.unsure.difference_update(planes)


def target_lost(world: World, job: LiveJob, task: LiveTask, why: str) -> None:
    """The job goes on without a target: what is under way there failed, what waits is looked at."""
    if task.ops and (fault := task.ops[0].fault) is not None:
        commands.forget(world.node_of(task), task.ops[0].command_id)
        world.save_fault(job, changed(fault, error=why))
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
                world.save_fault(job, changed(op.fault, error="the attempt ended before it was answered"))
        task.ops.clear()


def take_back(world: World, job: LiveJob, asked: Asked, rest: bool = False) -> bool:
    """Takes a fault that failed at one of several members back at the others, if it lasts; False if not.

    Also where it failed, unless that member is sure to be as it was. To be called when no operation of it is
    left, and the callers are to be told when this is over, too; `rest` goes on with it after a restart.
    """
    errors = [told for told in asked.told.values() if isinstance(told, CoreError)]
    begun = asked.undone is not None
    if asked.kind not in LASTING or begun is not rest or not (begun or (errors and len(asked.told) > 1)):
        return False
    tried = asked.ops.keys() | (asked.undone or {}).keys()
    ops = [
        FaultOp(asked, name, ROLLBACK, world.now, undo=True)
        for name, told in asked.told.items()
        if name not in tried and _stays(job.tasks[name], asked, told)
    ]
    if not ops:
        return False
    asked.undone = asked.undone or {}
    asked.ops.update((op.task, op) for op in ops)
    world.asked[asked.number] = asked
    _begin(world, job, ops)
    return True


def _stays(task: LiveTask, asked: Asked, told: FaultReply | CoreError) -> bool:
    """Whether something of a call that failed is left at a member, or may be."""
    if isinstance(told, FaultReply):
        return told.fault_id in task.lines
    return plane_of(asked.kind) in task.unsure and task.record.state is not TaskState.LOST


def _begin(world: World, job: LiveJob, ops: Sequence[FaultOp]) -> None:
    job.ops_waiting += len(ops)
    for op in ops:
        task = job.tasks[op.task]
        task.ops.append(op)
        pump(world, job, task)


def _over(world: World, job: LiveJob, op: FaultOp, value: FaultReply | CoreError | None) -> None:
    if over_at(world, job, op, value) and not take_back(world, job, op.asked):
        conclude(world, job, op.asked)


def _send_next(world: World, job: LiveJob, task: LiveTask, op: FaultOp) -> None:
    fault = op.fault
    assert fault is not None, "an operation is written down before it is sent"  # noqa: S101  # for the type checker
    command_id = commands.fault_command_id(world, fault.job_id, fault.fault_id)
    generation = fault.generation if op.kind in fault_lines.AT_PROCESSES else task.record.generation
    action: Action
    match op.kind:
        case FaultKind.KILL:
            action = Kill()
        case FaultKind.REVIVE:
            action = Revive(fault.with_disk)
        case FaultKind.SIGNAL:
            action = Signal(fault.signal)
        case _:
            plane = op.planes[-op.left]
            op.left -= 1
            action = fault_lines.state_with(job, task, fault, plane)
            if op.kind is FaultKind.HEAL and plane is Plane.TASK:
                command_id += "-task"
    op.command_id = commands.issue(
        world,
        world.node_of(task),
        world.ref(task, generation),
        task.record.slot,
        action,
        command_id=command_id,
        since_ns=world.when(fault.requested_at),
        # A kill takes milliseconds of all processors, in which a second one would wait: they begin together.
        # Those of one call do.
        together=op.kind is FaultKind.KILL and not op.asked.digest,
    )
