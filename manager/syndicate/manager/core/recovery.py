"""A manager that starts again: takes the rows back, then decides what becomes of each job.

    QUEUED                  waits on
    RESERVING               waits again, as a new attempt; the locks lapse by themselves
    PREPARING               STOPPING, to be requeued: what was prepared is released
    RUNNING                 goes on; volunteers have `lost_after_s` to come back with the tasks
    STOPPING                goes on to its verdict; every slot is told again
    faults without an answer   are sent again under the same name, and written down when they are answered
    planned ones of a replay   come at their times; those whose time is over at once

`load` only reads, so that the first step of the machine carries everything that recovery changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from . import fault_lines, healing, ledger, quota, replay, replaying, stopping
from .asked import forget_taken_back, restored, settle
from .errors import InvariantError
from .faults import reply_of
from .model import FaultKind, JobState, Reason, Stamp
from .records import (
    AuditRecord,
    FaultRecord,
    JobRecord,
    NodeRecord,
    PlanRecord,
    Record,
    RunRecord,
    StoryRecord,
    TaskRecord,
    TeamRecord,
    TokenRecord,
    UserRecord,
)
from .state import Asked, FaultOp, LiveJob, LiveTask, Node, Plane, Slot
from .story import tell
from .transitions import ACTIVE_JOB_STATES, FINAL_TASK_STATES, TERMINAL_JOB_STATES
from .world import REMEMBERED_SUBMITS, World, nanoseconds

_Row = TypeVar("_Row", bound=Record)


def load(
    world: World, records: Iterable[Record], now: Stamp, requests: Iterable[tuple[str, int, str]] = ()
) -> None:
    """Takes the rows in, in any order. Rows of attempts that are over or of unknown jobs mean nothing.

    `requests` are those of jobs that have ended, oldest first: request id, job, owner.
    """
    world.set_clock(now)
    rows = list(records)
    _load_users(world, rows)
    for node_row in _of(rows, NodeRecord):
        if not node_row.forgotten:
            _load_node(world, node_row)
    for job_row in sorted(_of(rows, JobRecord), key=lambda row: row.job_id):
        world.jobs[job_row.job_id] = LiveJob(job_row)
        world.next_job_id = max(world.next_job_id, job_row.job_id + 1)
    _load_submits(world, requests)
    for line in sorted(_of(rows, StoryRecord), key=lambda row: row.sequence):
        if (job := world.jobs.get(line.job_id)) is not None and job.whole:
            job.story.append(line)
            job.failures += line.event == "job.requeued"
    for task_row in sorted(_of(rows, TaskRecord), key=_rank):
        if (job := _in_attempt(world, task_row)) is not None:
            job.tasks[task_row.task] = LiveTask(task_row, tried=task_row.generation)
    for run in sorted(_of(rows, RunRecord), key=lambda row: row.generation):
        if (job := _in_attempt(world, run)) is not None and job.whole:
            task = job.tasks[run.task]
            task.runs[run.generation] = run
            task.tried = max(task.tried, run.generation)
    for fault in sorted(_of(rows, FaultRecord), key=lambda row: row.fault_id):
        _load_fault(world, fault)
    _load_plans(world, _of(rows, PlanRecord))
    for job in world.jobs.values():
        if job.record.state in ACTIVE_JOB_STATES:
            world.active[job.record.job_id] = job
            world.timers.set(("job", job.record.job_id), world.ns)
            _load_slots(world, job)
            _load_requests(world, job)
    _take_places(world)
    # Lines of submissions are written in the order of the jobs, and before any other line about one.
    written = max((row.job_id for row in _of(rows, AuditRecord) if row.allowed), default=0)
    for job in sorted(world.jobs.values(), key=lambda job: job.record.job_id):
        record = job.record
        quota.spend(world, record.owner, record.team, world.when(record.submitted_at))
        if record.job_id > written and record.submitter is not None:
            world.audit_due.append((record.job_id, record.submitted_at, record.submitter))


def _load_users(world: World, rows: list[Record]) -> None:
    world.users = {row.name: row for row in _of(rows, UserRecord)}
    world.teams = {row.name: row for row in _of(rows, TeamRecord)}
    world.tokens = {row.token_id: row for row in _of(rows, TokenRecord) if not row.forgotten}
    world.audit_lines = max((row.line for row in _of(rows, AuditRecord)), default=0)


def _load_submits(world: World, requests: Iterable[tuple[str, int, str]]) -> None:
    """What a job of now was made by comes before what older ones were."""
    ended = {job_id: (request_id, owner) for request_id, job_id, owner in requests}
    for job in world.jobs.values():
        record = job.record
        if record.state in TERMINAL_JOB_STATES:
            job.whole = False
            ended[record.job_id] = (record.request_id, record.owner)
        else:
            world.submits[record.request_id] = (record.job_id, record.owner)
    for job_id, (request_id, owner) in sorted(ended.items())[-REMEMBERED_SUBMITS:]:
        if request_id not in world.submits:
            world.submits[request_id] = (job_id, owner)
            world.old_submits.append(request_id)


def resume(world: World) -> None:
    """Goes on with every job; part of the first step."""
    if world.audit_due:
        world.write_audit()
    for job in [job for _, job in sorted(world.active.items())]:
        match job.record.state:
            case JobState.RESERVING:
                stopping.refuse(world, job, "the manager was restarted")
            case JobState.PREPARING:
                why = "the manager was restarted while it was prepared"
                stopping.fail(world, job, Reason.INFRASTRUCTURE, why)
            case JobState.RUNNING:
                _go_on(world, job)
            case _:
                stopping.release_all(world, job)
    world.plan_all = True


def _load_node(world: World, row: NodeRecord) -> None:
    node = world.nodes[row.volunteer_id] = Node(row, world.now)
    for number, address in row.slots:
        node.slots[number] = Slot(number, address, offered=True)
    due = world.ns + nanoseconds(world.config.lost_after_s)
    world.timers.set(("node", row.volunteer_id), due)
    world.capacity_known = False


def _of(rows: list[Record], kind: type[_Row]) -> list[_Row]:
    return [row for row in rows if isinstance(row, kind)]


def _in_attempt(world: World, row: TaskRecord | RunRecord | FaultRecord) -> LiveJob | None:
    """The job of a row that is about its current attempt."""
    job = world.jobs.get(row.job_id)
    if job is None or row.attempt != job.record.attempt or job.record.state is JobState.QUEUED:
        return None
    return job


def _load_fault(world: World, fault: FaultRecord) -> None:
    if fault.job_id in world.jobs:
        # Lines are counted over all attempts.
        known = world.jobs[fault.job_id]
        known.next_fault_id = max(known.next_fault_id, fault.fault_id + 1)
    job = _in_attempt(world, fault)
    if job is None or not job.whole:
        return
    job.faults[fault.fault_id] = fault
    task = job.tasks[fault.task]
    task.tried = max(task.tried, fault.generation)
    if fault.applied_at is not None or fault.error:
        # One that failed and took nothing back was about whatever was not known then.
        ledger.learn(task, fault, fault_lines.planes_of(job, fault) or list(Plane))
    healing.load(task, fault)
    if fault.kind is FaultKind.KILL and fault.applied_at is not None:
        task.killed = (fault.generation, fault.processes)


def _rank(record: TaskRecord) -> tuple[int, int]:
    """The order master, slaves, clients, each by number."""
    _, _, number = record.task.partition("-")
    return record.role, int(number or 0)


def _load_plans(world: World, rows: list[PlanRecord]) -> None:
    plans: dict[int, list[PlanRecord]] = {}
    for row in sorted(rows, key=lambda row: row.number):
        plans.setdefault(row.job_id, []).append(row)
    for job_id, plan in plans.items():
        job = world.jobs.get(job_id)
        if job is not None and job.whole:
            job.replay = replay.restored(job, plan)


def _load_slots(world: World, job: LiveJob) -> None:
    for task in job.tasks.values():
        record = task.record
        node = world.nodes.get(record.volunteer_id)
        if node is None:
            raise InvariantError(f"job {record.job_id}: the store does not have {record.volunteer_id}")
        job.domain = node.record.reach_domain
        if record.state in FINAL_TASK_STATES:
            continue
        slot = node.slots.setdefault(record.slot, Slot(record.slot))
        if record.boot_id == node.record.boot_id:
            world.lock(node, slot, world.ref(task))


def _load_requests(world: World, job: LiveJob) -> None:
    """Brings the lines of each call together: what is under way, what is told, what was taken back."""
    calls: dict[object, Asked] = {}
    for fault in job.faults.values():
        if fault.requested_by == healing.HEALER:
            continue
        # Managers of before did not write down which lines are one call's.
        key = fault.call_id or fault.request_id or fault.fault_id
        asked = calls.get(key)
        if asked is None:
            asked = calls[key] = restored(world, job, fault)
            asked.call_id = fault.call_id or fault.fault_id
        undo, came_of_it = fault.requested_by == healing.ROLLBACK, asked.told
        if undo:
            came_of_it = asked.undone = {} if asked.undone is None else asked.undone
        if fault.applied_at is None and not fault.error:
            _load_op(world, job, fault, asked, undo)
        else:
            told = reply_of(world, world.node_of(job.tasks[fault.task]), fault)
            came_of_it[fault.task] = told
    for asked in calls.values():
        if not asked.ops:
            settle(asked)
    job.remembered = _kept(job)


def _load_op(world: World, job: LiveJob, fault: FaultRecord, asked: Asked, undo: bool) -> None:
    op = FaultOp(asked, fault.task, fault.requested_by, fault.requested_at, undo=undo, fault=fault)
    world.asked[asked.number] = asked
    asked.ops[fault.task] = op
    job.tasks[fault.task].ops.append(op)
    job.ops_waiting += 1


def _take_places(world: World) -> None:
    """Fills the queue; owners' turns are in the order in which their jobs last got slots, by the calendar."""
    for job in world.jobs.values():
        state = job.record.state
        if state is JobState.QUEUED:
            stopping.enqueue(world, job)
        elif state in TERMINAL_JOB_STATES:
            stopping.keep_in_part(job)
            world.ended.append(job.record.job_id)
    started = [job.record for job in world.jobs.values() if job.record.reserved_at is not None]
    started += [job.record for job in world.active.values() if job.record.reserved_at is None]
    for record in sorted(started, key=lambda row: (row.reserved_at or world.now).utc_ns):
        world.queue.started(record.owner, record.spec.slots, record.team)
        if record.state not in ACTIVE_JOB_STATES:
            world.queue.ended(record.owner, record.spec.slots, record.team)


def _go_on(world: World, job: LiveJob) -> None:
    record = job.record
    limit_ns = nanoseconds(record.spec.time_limit_s)
    # After a reboot of the manager's machine its clock says nothing of the start: the limit counts from now.
    known = record.started_at is not None and record.started_at.boot_id == world.now.boot_id
    started_ns = record.started_at.monotonic_ns if known and record.started_at else world.ns
    job.limit_deadline_ns = started_ns + limit_ns
    world.timers.set(("job", record.job_id), job.limit_deadline_ns)
    tell(world, job, "manager.restarted", "it goes on")
    _roll_back(world, job)
    replaying.resumed(world, job)
    for task in job.tasks.values():
        for op in task.ops:
            if op.fault is not None:
                ledger.send(world, job, task, op)
        for line in task.lines.values():
            healing.watch_lease(world, line)
        if task.record.state not in FINAL_TASK_STATES and not world.holds(task):
            # The volunteer was rebooted, and the manager died between its Hello and what follows from it.
            why = f"{task.record.volunteer_id} was rebooted"
            stopping.member_lost(world, job, task, Reason.VOLUNTEER_LOST, why)
            if job.record.state is not JobState.RUNNING:
                return
    world.touch(job)


def _roll_back(world: World, job: LiveJob) -> None:
    """The manager died between the failure of a call at one member and taking it back at all others."""
    for asked in list(job.requests.values()):
        over = all(op.undo for op in asked.ops.values())
        begun = over and ledger.take_back(world, job, asked, rest=asked.undone is not None)
        if not asked.ops and not begun:
            forget_taken_back(asked)
            if not asked.told:
                del job.requests[asked.request_id]
    job.remembered = _kept(job)


def _kept(job: LiveJob) -> int:
    return sum(len(asked.told) for asked in job.requests.values() if not asked.ops)
