"""Faults as clients ask for them, and as volunteers answer. Order and bookkeeping are `ledger`'s."""

from __future__ import annotations

from . import healing, ledger, lives, orders, stopping
from .asked import join, make, require_same
from .clients import caller_of, name_of, require_running
from .desired import LASTING
from .effects import FaultReply, FaultsReply
from .errors import Away, CoreError, Exhausted, Refused
from .events import ChaosRequest, UserCaller
from .model import AnswerCode, FaultKind, Reason, Stamp
from .orders import MAX_MEMBERS, Order, Part
from .records import FaultRecord, changed
from .state import Asked, FaultOp, LiveJob, LiveTask, Node, Pending
from .world import World

__all__ = ["MAX_MEMBERS", "answered", "reply_of", "requested"]

_MENDS = frozenset({FaultKind.HEAL, FaultKind.RECONNECT, FaultKind.RESUME, FaultKind.REVIVE})


def requested(world: World, event: ChaosRequest) -> None:
    """Somebody asks for a fault: it is answered at once where nothing is to be done, else when it holds.

    What can be refused is refused before the first member is touched.
    """
    job, client = caller_of(world, event.caller)
    by = name_of(event.caller)
    asked = job.requests.get(event.request_id) if event.request_id else None
    if asked is None:
        require_running(job, client)
    order = orders.read(job, event)
    if order.what.kind is FaultKind.HEAL:
        _heal(world, job, client, event, order, asked, by)
        return
    if asked is not None:
        require_same(asked, order.what, order.names, order.extra)
        rest = rest_of(order.parts, asked)
        if not rest:
            join(world, asked, event.call)
            return
        if asked.undone is not None and asked.ops:
            # What it failed with is not known any more since a restart.
            raise Away("MANAGER_BUSY", "what this call did is being taken back; try again")
        require_running(job, client)
        _require_room(job, len(rest), order.what.kind)
    else:
        rest = order.parts
        _require_room(job, len(rest), order.what.kind)
        require_able(world, order)
        asked = make(world, job, event.request_id, order.what, order.names, order.extra)
        ops = ops_at(world, asked, rest, by)
        require_no_obstacle(world, job, ops)
        write_audit(world, job, event, order)
        ledger.add(world, job, ops, asked, event.call)
        return
    ledger.add(world, job, ops_at(world, asked, rest, by), asked, event.call)


def _heal(
    world: World,
    job: LiveJob,
    client: LiveTask | None,
    event: ChaosRequest,
    order: Order,
    asked: Asked | None,
    by: str,
) -> None:
    """As any other fault, but its members are those where something is to heal at the time.

    Where one cannot be healed now, the others are all the same. A repeat is about what its first call found:
    what came after it stays.
    """
    parts = order.parts
    if asked is not None:
        require_same(asked, order.what, (), order.extra)
        before = asked.call_id or job.next_fault_id
        parts = [part for part in rest_of(parts, asked) if any(line < before for line in part.task.lines)]
        if not parts:
            join(world, asked, event.call)
            return
        require_running(job, client)
        asked.tasks = (*(asked.tasks or tuple(asked.told)), *(part.task.record.task for part in parts))
    elif not parts:
        world.reply(event.call, FaultsReply(()))
        return
    else:
        asked = make(world, job, event.request_id, order.what, (), order.extra)
        asked.tasks = order.names
    _require_room(job, len(parts), order.what.kind)
    write_audit(world, job, event, order)
    ledger.add(world, job, ops_at(world, asked, parts, by), asked, event.call)


def rest_of(parts: list[Part], asked: Asked) -> list[Part]:
    """The members where it is neither under way nor done."""
    known = asked.ops.keys() | asked.told.keys()
    return [part for part in parts if part.task.record.task not in known]


def ops_at(world: World, asked: Asked, parts: list[Part], by: str) -> list[FaultOp]:
    return [
        FaultOp(asked, part.task.record.task, by, world.now, part.cut_out, part.cut_in, part.peers)
        for part in parts
    ]


def write_audit(world: World, job: LiveJob, event: ChaosRequest, order: Order) -> None:
    if isinstance(event.caller, UserCaller):
        method = order.what.kind.name.title().replace("_", "")
        world.audit(event.caller.origin, method, f"job {job.record.job_id}", job.record.job_id)


def answered(
    world: World,
    node: Node,
    pending: Pending,
    code: AnswerCode,
    detail: str,
    processes: int,
    applied_at: Stamp | None,
    duration_ns: int,
) -> None:
    """A volunteer has done what a line of the ledger says, or could not."""
    found = world.find(pending.command.ref)
    if found is None:
        return
    job, task = found
    op = task.ops[0] if task.ops else None
    if op is None or op.fault is None or op.command_id != pending.command.command_id:
        return
    if code is not AnswerCode.DONE:
        _failed(world, job, task, op, code, detail)
        return
    at, error_ns = world.on_clock(node, applied_at, pending.first_sent_ns)
    if op.left:
        ledger.partly_done(world, job, task, op, at, error_ns)
        return
    fault = changed(
        op.fault,
        processes=processes,
        applied_at=applied_at or world.now,
        applied_at_manager=at,
        applied_error_ns=error_ns,
        duration_ns=duration_ns,
        already=op.kind is FaultKind.KILL and processes == 0,
    )
    world.save_fault(job, fault)
    ledger.learn(task, fault, op.planes)
    _took_effect(world, job, task, fault, at)
    ledger.close(world, job, task, reply_of(world, node, fault))
    ledger.pump(world, job, task)
    if job.replay is not None:
        world.touch(job)  # this may have been the end of a planned call


def reply_of(world: World, node: Node, fault: FaultRecord) -> FaultReply | CoreError:
    """What the callers of a fault that is over are told, now or after a restart."""
    if fault.error or fault.applied_at is None:
        return healing.failure(fault)
    by_volunteer = fault.applied_at.boot_id == node.record.boot_id
    return FaultReply(
        fault.fault_id,
        fault.already,
        fault.applied_at if by_volunteer else None,
        ledger.clock_of(world, node),
        fault.processes,
        fault.generation,
        fault.heals,
        fault.healed_by == healing.ROLLBACK,
    )


def _took_effect(world: World, job: LiveJob, task: LiveTask, fault: FaultRecord, at: Stamp) -> None:
    match fault.kind:
        case FaultKind.KILL:
            lives.killed(world, job, task, fault.generation, fault.processes, fault.requested_by, at)
        case FaultKind.REVIVE:
            lives.started(world, job, task, fault.generation, at)
        case _ if fault.kind in LASTING:
            healing.holds(world, job, task, fault)
        case _ if fault.heals:
            error_ns = fault.applied_error_ns
            healing.ends(world, job, task, fault.heals, at, error_ns, fault.requested_by)


def _failed(world: World, job: LiveJob, task: LiveTask, op: FaultOp, code: AnswerCode, detail: str) -> None:
    assert op.fault is not None, "what is answered was written down"  # noqa: S101  # for the type checker
    line = detail or f"{task.record.volunteer_id} answered {code.name}"
    if ledger.healed_already(job, op):
        line += "; what its network suffered is healed"
    fault = changed(op.fault, error=line)
    world.save_fault(job, fault)
    ledger.failed(world, task, op, fault)
    ledger.close(world, job, task, healing.failure(fault))
    if code is AnswerCode.UNKNOWN_TASK:
        why = f"{task.record.volunteer_id} does not know it any more"
        stopping.member_lost(world, job, task, Reason.INFRASTRUCTURE, why)
    else:
        ledger.pump(world, job, task)
    world.touch(job)


def _require_room(job: LiveJob, more: int, kind: FaultKind) -> None:
    if job.ops_waiting + more > ledger.MAX_WAITING:
        waiting = f"{job.ops_waiting:,} faults of this job wait already"
        raise Exhausted("TOO_MANY_FAULTS", f"{waiting}: at most {ledger.MAX_WAITING:,} may")
    # What was done can still be taken back when the ledger is full for everything else.
    most = ledger.MAX_LINES + (ledger.LINES_TO_MEND if kind in _MENDS else 0)
    if len(job.faults) + more > most:
        lines = f"the ledger of this job has {len(job.faults):,} lines"
        raise Exhausted("TOO_MANY_FAULTS", f"{lines}: at most {most:,} may be in it")


def require_able(world: World, order: Order) -> None:
    """Raises Refused where a member's machine lacks a capability, so that none of them is touched."""
    if not order.needs:
        return
    for part in order.parts:
        record = world.node_of(part.task).record
        for need in order.needs:
            if need not in record.capabilities:
                why = dict(record.cannot).get(need, "its volunteer does not say that it can")
                text = f"{record.volunteer_id}, which has {part.task.record.task}, cannot do {need}: {why}"
                raise Refused("CANNOT", text, capability=need, volunteer=record.volunteer_id, why=why)


def require_no_obstacle(world: World, job: LiveJob, ops: list[FaultOp]) -> None:
    """Raises what several members would fail with as far as it is known now, so that none of them is touched.

    One that has operations waiting may be otherwise when its turn comes.
    """
    if len(ops) == 1:
        return
    for op in ops:
        task = job.tasks[op.task]
        obstacle = None if task.ops else ledger.outlook(world, task, op)
        if isinstance(obstacle, CoreError):
            text = f"{obstacle.detail}; nothing was done at the other members"
            raise type(obstacle)(obstacle.reason, text)
