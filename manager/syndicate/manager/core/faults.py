"""Faults as clients ask for them, and as volunteers answer. Order and bookkeeping are `ledger`'s."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

from . import ledger, lives, stopping
from .asked import join, make, require_same
from .clients import caller_of, require_running
from .effects import FaultReply
from .errors import BadRequest, CoreError, Exhausted, FaultFailed, NotFound
from .events import ChaosRequest, DisconnectRequested, KillRequested, ReviveRequested
from .model import AnswerCode, FaultKind, Reason, Stamp
from .records import FaultRecord
from .state import LiveJob, LiveTask, Node, Pending
from .world import World

# Members of one call.
MAX_MEMBERS = 1000


def requested(world: World, event: ChaosRequest) -> None:
    """A client asks for a fault: it is answered at once where nothing is to be done, else when it holds.

    What can be refused is refused before the first member is touched.
    """
    job, client = caller_of(world, event.caller)
    asked = job.requests.get(event.request_id) if event.request_id else None
    if asked is None:
        require_running(job, client)
    targets = _members_at(job, event.ips)
    names = tuple(target.record.task for target in targets)
    kind, with_disk = _kind_of(event), _with_disk(event)
    if asked is None:
        _require_room(job, len(targets))
        _require_no_obstacle(world, targets, kind, with_disk)
        asked = make(world, job, event.request_id, kind, with_disk, names)
    else:
        require_same(asked, kind, with_disk, names)
        targets = [t for t in targets if t.record.task not in asked.ops and t.record.task not in asked.told]
        if not targets:
            join(world, asked, event.call)
            return
        require_running(job, client)
        _require_room(job, len(targets))
    ledger.add(world, job, targets, asked, client.record.task, event.call)


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


def _members_at(job: LiveJob, ips: tuple[str, ...]) -> list[LiveTask]:
    """The members at these addresses. Raises BadRequest, NotFound."""
    if not 1 <= len(ips) <= MAX_MEMBERS:
        text = f"{len(ips):,} addresses are named: there must be 1 to {MAX_MEMBERS:,}"
        raise BadRequest("BAD_FIELD", text, field="ips")
    by_address = {task.record.address: task for task in job.tasks.values()}
    found: dict[str, LiveTask] = {}
    for ip in ips:
        try:
            address = str(ipaddress.IPv4Address(ip))
        except ValueError:
            raise BadRequest("NOT_AN_ADDRESS", f"{ip!r:.80} is not an IPv4 address", field="ip") from None
        if address not in by_address:
            raise NotFound("NO_SUCH_MEMBER", f"{address} is no member of job {job.record.job_id}")
        if address in found:
            raise BadRequest("BAD_FIELD", f"{address} is named twice", field="ips")
        found[address] = by_address[address]
    return list(found.values())


def _require_room(job: LiveJob, more: int) -> None:
    if job.ops_waiting + more > ledger.MAX_WAITING:
        waiting = f"{job.ops_waiting:,} faults of this job wait already"
        raise Exhausted("TOO_MANY_FAULTS", f"{waiting}: at most {ledger.MAX_WAITING:,} may")
    if len(job.faults) + more > ledger.MAX_LINES:
        lines = f"the ledger of this job has {len(job.faults):,} lines"
        raise Exhausted("TOO_MANY_FAULTS", f"{lines}: at most {ledger.MAX_LINES:,} may be in it")


def _require_no_obstacle(world: World, targets: list[LiveTask], kind: FaultKind, with_disk: bool) -> None:
    """Raises what several members would fail with as far as it is known now, so that none of them is touched.

    One that has operations waiting may be otherwise when its turn comes.
    """
    if len(targets) == 1:
        return
    for task in targets:
        obstacle = None if task.ops else ledger.outlook(world, task, kind, with_disk)
        if isinstance(obstacle, CoreError):
            text = f"{obstacle.detail}; nothing was done at the other members"
            raise type(obstacle)(obstacle.reason, text)


def _with_disk(event: ChaosRequest) -> bool:
    return event.with_disk if isinstance(event, ReviveRequested) else True


def _kind_of(event: ChaosRequest) -> FaultKind:
    if isinstance(event, KillRequested):
        return FaultKind.KILL
    if isinstance(event, ReviveRequested):
        return FaultKind.REVIVE
    return FaultKind.DISCONNECT if isinstance(event, DisconnectRequested) else FaultKind.RECONNECT
