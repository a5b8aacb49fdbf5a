"""Faults as clients ask for them, and as volunteers answer. Order and bookkeeping are `ledger`'s."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

from . import ledger, lives, stopping
from .clients import caller_of, require_running
from .effects import FaultReply
from .errors import BadRequest, CoreError, Exhausted, FaultFailed, NotFound
from .events import ChaosRequest, DisconnectRequested, KillRequested, ReviveRequested
from .model import AnswerCode, FaultKind, Reason, Stamp
from .records import FaultRecord
from .state import Answered, FaultOp, LiveJob, LiveTask, Node, Pending
from .world import World


def requested(world: World, event: ChaosRequest) -> None:
    """A client asks for a fault: it is answered at once where nothing is to be done, else when it holds."""
    job, client = caller_of(world, event.caller)
    first = job.requests.get(event.request_id) if event.request_id else None
    if first is not None:
        _require_same(job, first, event)
        if isinstance(first, FaultOp):
            ledger.join(world, first, event.call)
        else:
            world.reply(event.call, first.value)
        return
    require_running(job, client)
    target = _member_at(job, event.ip)
    if job.ops_waiting >= ledger.MAX_WAITING:
        raise Exhausted("TOO_MANY_FAULTS", f"{ledger.MAX_WAITING} faults of this job wait already")
    if len(job.faults) >= ledger.MAX_LINES:
        raise Exhausted("TOO_MANY_FAULTS", f"the ledger of this job is full ({ledger.MAX_LINES} lines)")
    world.ops_made += 1
    op = FaultOp(
        number=world.ops_made,
        job_id=job.record.job_id,
        task=target.record.task,
        kind=_kind_of(event),
        request_id=event.request_id,
        requested_by=client.record.task,
        requested_at=world.now,
        with_disk=_with_disk(event),
    )
    ledger.add(world, job, target, op, event.call)


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
        _failed(world, job, task, op.fault, code, detail)
        return
    at, error_ns = world.on_clock(node, applied_at, pending.first_sent_ns)
    fault = replace(
        op.fault,
        processes=processes,
        applied_at=applied_at or world.now,
        applied_at_manager=at,
        applied_error_ns=error_ns,
        duration_ns=duration_ns,
        already=op.kind is FaultKind.KILL and processes == 0,
    )
    world.save_fault(job, fault)
    ledger.learn(task, fault)
    _took_effect(world, job, task, fault, at)
    ledger.close(world, job, task, reply_of(world, node, fault))
    ledger.pump(world, job, task)
    world.touch(job)


def reply_of(world: World, node: Node, fault: FaultRecord) -> FaultReply | CoreError:
    """What the callers of a fault that is over are told, now or after a restart."""
    if fault.error or fault.applied_at is None:
        return FaultFailed("FAULT_FAILED", fault.error)
    by_volunteer = fault.applied_at.boot_id == node.record.boot_id
    return FaultReply(
        fault.fault_id,
        fault.already,
        fault.applied_at if by_volunteer else None,
        ledger.clock_of(world, node),
        fault.processes,
        fault.generation,
    )


def _took_effect(world: World, job: LiveJob, task: LiveTask, fault: FaultRecord, at: Stamp) -> None:
    match fault.kind:
        case FaultKind.KILL:
            lives.killed(world, job, task, fault.generation, fault.processes, fault.requested_by, at)
        case FaultKind.REVIVE:
            lives.started(world, job, task, fault.generation, at)
        case FaultKind.DISCONNECT | FaultKind.RECONNECT:
            cut = fault.kind is FaultKind.DISCONNECT
            world.save_task(job, task, replace(task.record, disconnected=cut))


def _failed(
    world: World, job: LiveJob, task: LiveTask, fault: FaultRecord, code: AnswerCode, detail: str
) -> None:
    line = detail or f"{task.record.volunteer_id} answered {code.name}"
    fault = replace(fault, error=line)
    world.save_fault(job, fault)
    ledger.learn(task, fault)
    ledger.close(world, job, task, FaultFailed("FAULT_FAILED", line))
    if code is AnswerCode.UNKNOWN_TASK:
        why = f"{task.record.volunteer_id} does not know it any more"
        stopping.member_lost(world, job, task, Reason.INFRASTRUCTURE, why)
    else:
        ledger.pump(world, job, task)
    world.touch(job)


def _member_at(job: LiveJob, ip: str) -> LiveTask:
    try:
        address = str(ipaddress.IPv4Address(ip))
    except ValueError:
        raise BadRequest("NOT_AN_ADDRESS", f"{ip!r:.80} is not an IPv4 address", field="ip") from None
    for task in job.tasks.values():
        if task.record.address == address:
            return task
    raise NotFound("NO_SUCH_MEMBER", f"{address} is no member of job {job.record.job_id}")


def _require_same(job: LiveJob, first: FaultOp | Answered, event: ChaosRequest) -> None:
    """Raises BadRequest where a request id comes again with another request."""
    asked = _kind_of(event), _member_at(job, event.ip).record.task, _with_disk(event)
    if asked != (first.kind, first.task, first.with_disk):
        text = f"request_id was used for another call, a {first.kind.name} of {first.task}"
        raise BadRequest("BAD_FIELD", text, field="request_id")


def _with_disk(event: ChaosRequest) -> bool:
    return event.with_disk if isinstance(event, ReviveRequested) else True


def _kind_of(event: ChaosRequest) -> FaultKind:
    if isinstance(event, KillRequested):
        return FaultKind.KILL
    if isinstance(event, ReviveRequested):
        return FaultKind.REVIVE
    return FaultKind.DISCONNECT if isinstance(event, DisconnectRequested) else FaultKind.RECONNECT
