"""The way forward: a gang reserves, prepares and starts together, or not at all.

    RESERVING   Reserve to every slot; all READY → PREPARING, anything else → back to the queue
    PREPARING   Prepare to every slot; all DONE → Start: the master, then all slaves, then all clients
    RUNNING     from when every Start is acknowledged

An attempt number names one reservation: a reservation that fails raises it, so that a Release which comes
late can never hit the next one (rule 3 of `transitions`). Only what fails after the reservation counts
towards `max_attempts`.
"""

from __future__ import annotations

from collections import Counter

from . import commands, ledger, lives, stopping
from .effects import Prepare, Reserve, Start
from .limits import why_not_losing
from .model import AnswerCode, JobState, Member, Reason, Role, Source, Stamp, TaskState
from .prefixes import is_address
from .records import TaskRecord
from .snapshot import Placement
from .state import LiveJob, LiveTask, Node, Pending, Slot
from .story import tell
from .transitions import JobCause, TaskCause
from .verdict import bad_source
from .words import count, duration
from .world import World, nanoseconds

# The manager waits for less than the time that a lock lasts, so that a Prepare finds it locked.
PART_OF_TTL = 0.8
# A slot that is busy or fails is left alone twice as long each time, up to so many times `busy_backoff_s`.
MAX_BACKOFF = 32
_GROUPS = (Role.MASTER, Role.SLAVE, Role.CLIENT)
# What a volunteer says of a source, and not of itself.
_OF_THE_JOB = {
    AnswerCode.BAD_SOURCE: Reason.BAD_SOURCE,
    AnswerCode.OUT_OF_MEMORY: Reason.OUT_OF_MEMORY,
    AnswerCode.DISK_FULL: Reason.DISK_FULL,
}


def members_of(machines: int, clients: int) -> list[tuple[str, Role]]:
    """The names and roles of a gang: master, slaves, clients."""
    return [
        ("master", Role.MASTER),
        *[(f"slave-{i}", Role.SLAVE) for i in range(machines - 1)],
        *[(f"client-{i}", Role.CLIENT) for i in range(clients)],
    ]


def begin(world: World, job: LiveJob, placement: Placement) -> None:
    """Asks the chosen slots to lock themselves; the caller has verified that they are free."""
    record, config = job.record, world.config
    world.queue.remove(record.job_id)
    world.queue.started(record.owner, record.spec.slots, record.team)
    world.move_job(job, JobCause.PLACED)
    job.domain = placement.domain
    names = members_of(record.spec.machines, record.spec.clients)
    for (name, role), (volunteer_id, number) in zip(names, placement.slots, strict=True):
        node = world.nodes[volunteer_id]
        task = LiveTask(
            TaskRecord(
                record.job_id,
                record.attempt,
                name,
                role,
                volunteer_id,
                node.record.boot_id,
                number,
                TaskState.RESERVING,
            )
        )
        job.tasks[name] = task
        world.lock(node, node.slots[number], world.ref(task))
        reserve = Reserve(config.reserve_ttl_s)
        task.command_id = commands.issue(world, node, world.ref(task), number, reserve, before_commit=True)
    _phase(world, job, PART_OF_TTL * config.reserve_ttl_s)
    world.touch(job)


def reserve_answered(
    world: World, node: Node, pending: Pending, code: AnswerCode, address: str, detail: str
) -> None:
    """A slot is locked, or it is not: then the whole gang is off."""
    found = _awaited(world, pending)
    if found is None:
        return
    job, task = found
    slot = node.slots[task.record.slot]
    address = address or slot.address
    if code is AnswerCode.READY and is_address(address):
        world.move_task(job, task, TaskCause.READY, address=address)
        world.touch(job)
        return
    _back_off(world, node, slot)
    world.unlock(node, slot)
    match code:
        case AnswerCode.BUSY:
            why = "is busy"
        case AnswerCode.READY:
            why = f"has no IPv4 address ({address!r:.80})" if address else "has no address"
        case _:
            why = f"cannot be had ({detail or code.name.lower()})"
    stopping.refuse(world, job, f"slot {slot.number} of {node.record.volunteer_id} {why}")


def prepare_answered(world: World, pending: Pending, code: AnswerCode, detail: str) -> None:
    """A member is prepared, or its source is bad, or its machine could not do it."""
    found = _awaited(world, pending)
    if found is None:
        return
    job, task = found
    if code is AnswerCode.DONE:
        world.node_of(task).slots[task.record.slot].refusals = 0
        world.move_task(job, task, TaskCause.PREPARED)
        world.touch(job)
    else:
        _failed(world, job, task, code, "could not be prepared", detail)


def start_answered(
    world: World, node: Node, pending: Pending, code: AnswerCode, detail: str, applied_at: Stamp | None
) -> None:
    """make was exec'd, or it was not."""
    found = _awaited(world, pending)
    if found is None:
        return
    job, task = found
    if code is AnswerCode.DONE:
        at, _ = world.on_clock(node, applied_at, pending.first_sent_ns)
        lives.started(world, job, task, pending.command.ref.generation, at)
        ledger.pump(world, job, task)
    elif task.record.state is TaskState.STARTING:
        _failed(world, job, task, code, "could not be started", detail)


def advance(world: World, job: LiveJob) -> None:
    """Takes the gang to its next phase once all members are there."""
    if job.record.state is JobState.RESERVING:
        if all(task.record.state is TaskState.RESERVED for task in job.tasks.values()):
            _prepare(world, job)
    elif all(task.record.state >= TaskState.PREPARED for task in job.tasks.values()):
        _start_next_group(world, job)


def overdue(world: World, job: LiveJob) -> None:
    """The phase has taken too long, or the job its time limit."""
    if job.record.state is JobState.PREPARING and world.ns >= job.limit_deadline_ns:
        limit = duration(nanoseconds(job.record.spec.time_limit_s))
        stopping.stop(
            world, job, JobState.TIMED_OUT, Reason.TIME_LIMIT, f"did not run within its time limit of {limit}"
        )
        return
    if world.ns < job.phase_deadline_ns:
        _arm(world, job)
        return
    waited = [task for task in job.tasks.values() if task.command_id]
    late = ", ".join(f"{task.record.task} on {task.record.volunteer_id}" for task in waited)
    why = f"no answer in time from {late}"
    if job.record.state is JobState.RESERVING:
        stopping.refuse(world, job, why)
    else:
        stopping.fail(world, job, Reason.INFRASTRUCTURE, why)


def _awaited(world: World, pending: Pending) -> tuple[LiveJob, LiveTask] | None:
    """The task that waits for this very answer."""
    found = world.find(pending.command.ref)
    if found is None or found[1].command_id != pending.command.command_id:
        return None
    found[1].command_id = ""
    return found


def _unable(world: World, job: LiveJob) -> str:
    """Why not all members can lose what they do not sync: a machine may have come since the job was checked.

    An older one would take the order and lose nothing, and the job's verdict would claim what nobody tried.
    """
    members = (task for task in job.tasks.values() if task.record.role is not Role.CLIENT)
    found = (why_not_losing(world.node_of(task).record) for task in members)
    return next((why for why in found if why), "")


def _prepare(world: World, job: LiveJob) -> None:
    record = job.record
    addresses = Counter(task.record.address for task in job.tasks.values())
    twice = [address for address, number in addresses.items() if number > 1]
    if twice:
        owners = [t.record for t in job.tasks.values() if t.record.address == twice[0]]
        where = ", ".join(f"slot {t.slot} of {t.volunteer_id}" for t in owners)
        stopping.fail(world, job, Reason.INFRASTRUCTURE, f"{twice[0]} is the address of {where}")
        return
    if record.spec.lose_unsynced and (unable := _unable(world, job)):
        stopping.fail(world, job, Reason.INFRASTRUCTURE, unable)
        return
    world.move_job(job, JobCause.RESERVED, reserved_at=world.now)
    limit = nanoseconds(record.spec.time_limit_s) + nanoseconds(world.config.prepare_timeout_s)
    job.limit_deadline_ns = world.ns + limit
    tell(world, job, "job.reserved", f"reserved {count(len(job.tasks), 'slot')}")
    members = tuple(
        Member(task.record.task, task.record.role, task.record.address) for task in job.tasks.values()
    )
    for task in job.tasks.values():
        world.move_task(job, task, TaskCause.PREPARE)
        source = _source_of(job, task)
        role, spec = task.record.role, record.spec
        loses = spec.lose_unsynced and role is not Role.CLIENT  # clients are never killed
        action = Prepare(source, role, members, spec.limits, spec.name, loses)
        task.command_id = commands.issue(
            world, world.node_of(task), world.ref(task), task.record.slot, action
        )
    _phase(world, job, world.config.prepare_timeout_s)


def _source_of(job: LiveJob, task: LiveTask) -> Source:
    spec = job.record.spec
    if task.record.role is Role.CLIENT and spec.client is not None:
        return spec.client
    return spec.source


def _start_next_group(world: World, job: LiveJob) -> None:
    for role in _GROUPS:
        group = [task for task in job.tasks.values() if task.record.role is role]
        waiting = [task for task in group if task.record.state is TaskState.PREPARED]
        for task in waiting:
            world.move_task(job, task, TaskCause.START, generation=1)
            task.tried = 1
            task.command_id = commands.issue(
                world, world.node_of(task), world.ref(task), task.record.slot, Start()
            )
        if waiting:
            # Sent again after one timeout, given up after two.
            _phase(world, job, 2 * world.config.command_timeout_s)
        if any(task.record.state is TaskState.STARTING for task in group):
            return
    _running(world, job)


def _running(world: World, job: LiveJob) -> None:
    record = job.record
    same_boot = record.queued_at.boot_id == world.now.boot_id
    took_ns = world.ns - record.queued_at.monotonic_ns if same_boot else 0
    world.move_job(job, JobCause.STARTED, started_at=world.now, gang_start_ns=took_ns)
    since = f" {duration(took_ns)} after it was queued" if took_ns > 0 else ""
    tell(world, job, "job.started", f"all of {count(len(job.tasks), 'member')} run{since}")
    job.limit_deadline_ns = world.ns + nanoseconds(record.spec.time_limit_s)
    world.timers.set(("job", record.job_id), job.limit_deadline_ns)
    world.touch(job)


def _failed(world: World, job: LiveJob, task: LiveTask, code: AnswerCode, what: str, detail: str) -> None:
    if code in _OF_THE_JOB:
        end = bad_source(task.record, _OF_THE_JOB[code], detail)
        stopping.stop(world, job, end.state, end.reason, end.detail, end.result)
        return
    record = task.record
    node = world.node_of(task)
    _back_off(world, node, node.slots[record.slot])
    line = f"{record.task} {what} on {record.volunteer_id}: {detail or code.name.lower()}"
    stopping.fail(world, job, Reason.INFRASTRUCTURE, line)


def _back_off(world: World, node: Node, slot: Slot) -> None:
    """The slot is left alone for a while, so that the next attempt goes elsewhere where it can."""
    seconds = min(2**slot.refusals, MAX_BACKOFF) * world.config.busy_backoff_s
    slot.refusals = min(slot.refusals + 1, MAX_BACKOFF)
    slot.back_at_ns = world.ns + nanoseconds(seconds)
    world.timers.set(("slot", node.record.volunteer_id, slot.number), slot.back_at_ns)


def _phase(world: World, job: LiveJob, seconds: float) -> None:
    job.phase_deadline_ns = world.ns + nanoseconds(seconds)
    _arm(world, job)


def _arm(world: World, job: LiveJob) -> None:
    due = job.phase_deadline_ns
    if job.record.state is JobState.PREPARING:
        due = min(due, job.limit_deadline_ns)
    world.timers.set(("job", job.record.job_id), due)
