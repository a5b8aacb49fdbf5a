"""What must be true when a world has come to rest: promises kept, verdicts right, nothing left.

What must be true at every step is checked where it happens: `truth` (starts), `store` (rows), `clients`
(answers), and the cores' own `validate` in the hosts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product

from syndicate.manager.core import desired
from syndicate.manager.core.healing import REPLAY
from syndicate.manager.core.model import JobState, NodeState, Outcome, Reason, Role
from syndicate.manager.core.records import FaultRecord, JobRecord
from syndicate.manager.core.replay import number_of
from syndicate.manager.core.state import LiveJob, LiveTask, Plane
from syndicate.volunteer.local import SlotState

from . import convert
from .clients import Book, Reports
from .clock import SECOND
from .keeper_model import Slot
from .manager_host import ManagerHost
from .scripts import Script
from .store import TERMINAL
from .truth import TaskTruth, Truth
from .users import Receipt, Users
from .volunteer_host import VolunteerHost
from .world import Violation

STATE_OF = {
    Outcome.PASS: JobState.SUCCEEDED,
    Outcome.UNKNOWN: JobState.UNKNOWN,
    Outcome.FAIL: JobState.FAILED,
}


def unrest(
    managers: Iterable[ManagerHost], users: Iterable[Users], volunteers: Iterable[VolunteerHost]
) -> str:
    """Why the world is not at rest yet; empty when it is."""
    for each in users:
        if not each.settled:
            return "an order has no answer"
    for manager in managers:
        if manager.life is None:
            return f"{manager.name} is down"
        for job in manager.store.jobs.values():
            if job.state not in TERMINAL:
                return f"job {job.job_id} of {manager.name} is {job.state.name} (attempt {job.attempt})"
        if manager.store.held():
            return f"{manager.name} has slots written down: {manager.store.held()}"
        for node in manager.life.machine.nodes():
            if node.busy or node.state is not NodeState.READY:
                return f"{manager.name} sees {node.record.volunteer_id} {node.state.name}, busy {node.busy}"
    for volunteer in volunteers:
        if volunteer.life is None or volunteer.life.core.held():
            return f"{volunteer.name} is down or holds a task"
        for slot in volunteer.keeper.slots:
            if slot.state is not SlotState.EMPTY:
                return f"the keeper of {volunteer.name} holds {slot.prepared}"
    return ""


def check_faults(managers: Mapping[str, ManagerHost], volunteers: Iterable[VolunteerHost]) -> int:
    """Each slot suffers what the ledger says, where nothing is under way; returns how many suffer something.

    A manager that is down knows nothing now, and says so when it is back: what it had under way it repeats.
    """
    hosts = {volunteer.name: volunteer for volunteer in volunteers}
    suffering = 0
    for manager in managers.values():
        if manager.life is None:
            continue
        world = manager.life.machine._world
        for job in world.active.values():
            if job.record.state is not JobState.RUNNING:
                continue
            for task in job.tasks.values():
                keeper = hosts[task.record.volunteer_id].keeper
                slot = keeper.slots[task.record.slot] if keeper.alive else None
                if slot is not None and not task.ops and slot.doing is None and _holds(slot, job, task):
                    suffering += _compare(slot, job, task)
    return suffering


def _holds(slot: Slot, job: LiveJob, task: LiveTask) -> bool:
    """Whether the slot has the task, as the manager thinks; not yet told ends and losses are told later."""
    name = slot.prepared.task if slot.prepared is not None else None
    here = (job.record.job_id, job.record.attempt, task.record.task)
    return name is not None and (name.job_id, name.attempt, name.task) == here


def _compare(slot: Slot, job: LiveJob, task: LiveTask) -> bool:
    lines = [line for line in job.faults.values() if line.task == task.record.task and _in_force(line)]
    others = [
        other.record.address
        for other in job.tasks.values()
        if other.record.role is not Role.CLIENT and other is not task
    ]
    network = desired.network(lines, others, lambda name: job.tasks[name].record.address)
    if Plane.NETWORK not in task.unsure and slot.network != convert.network(network):
        raise Violation(f"{task.record} suffers {slot.network}, the ledger says {network}: {lines}")
    state = desired.task(lines)
    if Plane.TASK not in task.unsure and slot.disk_full != state.disk_full:
        raise Violation(f"the disk of {task.record} is full: {slot.disk_full}, the ledger says {lines}")
    live = slot.live
    # Its end may not be told yet.
    runs = live is not None and live.started_at is not None and live.number == task.record.generation
    if Plane.TASK not in task.unsure and runs and slot.paused != state.paused:
        raise Violation(f"{task.record} is frozen: {slot.paused}, the ledger says {lines}")
    return bool(lines)


def _in_force(line: FaultRecord) -> bool:
    held = line.applied_at is not None and not line.error
    return held and line.kind in desired.LASTING and line.healed_at_manager is None


def check_promises(manager: ManagerHost, users: Users) -> None:
    """Every acknowledged Submit is a job, the same one, with what was ordered."""
    for receipt in users.receipts:
        if receipt.job_id is None:
            continue
        order = receipt.order
        job = manager.store.jobs.get(receipt.job_id)
        if job is None or job.request_id != order.request_id:
            raise Violation(f"job {receipt.job_id} was acknowledged for {order.request_id} and is {job}")
        spec = job.spec
        if (spec.source, spec.machines, spec.clients) != (order.source, order.machines, order.clients):
            raise Violation(f"{order} became {spec}")
        _check_view(manager, job)


def _check_view(manager: ManagerHost, job: JobRecord) -> None:
    """The machine shows what is durable; of jobs that have ended perhaps only the store has all."""
    assert manager.life is not None
    machine = manager.life.machine
    view = machine.job(job.job_id)
    if view is None:
        if job.state not in TERMINAL:
            raise Violation(f"the machine does not show {job}")
        return
    rows = {record.task: record for record in manager.store.tasks(job.job_id, job.attempt)}
    if view.job != job or {task.task: task for task in view.tasks} != rows:
        raise Violation(f"the machine shows {view} for {job} and {rows}")
    if not machine.story(job.job_id):
        raise Violation(f"there is no story of {job}")


def check_replays(manager: ManagerHost) -> int:
    """What a replay does is in its plan, and comes once, not before its time; returns how much of it held."""
    plans = {(row.job_id, row.number): row for row in manager.store.plans()}
    seen: set[tuple[int, int, int, str]] = set()
    held = 0
    for line in manager.store.faults():
        if line.requested_by != REPLAY:
            continue
        number = number_of(line)
        planned, job = plans[line.job_id, number], manager.store.jobs[line.job_id]
        key = line.job_id, line.attempt, number, line.task
        if key in seen:
            raise Violation(f"{planned} came twice: {line}")
        seen.add(key)
        if line.kind is not planned.kind or line.task not in {part.task for part in planned.parts}:
            raise Violation(f"{line} is not what was planned: {planned}")
        start = job.started_at
        current = line.attempt == job.attempt
        if start is not None and current and start.boot_id == line.requested_at.boot_id:
            early_ns = start.monotonic_ns + planned.offset_ns - line.requested_at.monotonic_ns
            if early_ns > 0:
                raise Violation(f"{line} came {early_ns} ns before its time: {planned}")
        held += line.applied_at is not None and not line.error
    return held


def check_verdicts(
    manager: ManagerHost, users: Users, truth: Truth, book: Book, scripts: Mapping[str, Script], calm: bool
) -> None:
    """Every job ended as what its tasks did demands."""
    receipts = {r.job_id: r for r in users.receipts if r.job_id is not None}
    for job_id, ended in manager.store.ended.items():
        job = ended.record
        tasks = truth.of(manager.name, job_id, job.attempt)
        reports = book.get((manager.name, job_id, job.attempt), Reports())
        problem = _problem(job, ended.at, tasks, reports, receipts.get(job_id), scripts)
        if not problem and calm and (job.attempt != 1 or job.state is JobState.LOST):
            problem = "nothing went wrong in this world, but it was not done in the first attempt"
        if problem:
            raise Violation(
                f"job {job_id}.{job.attempt} of {manager.name} is {job.state.name}: {problem}\n{job}"
            )
    for (cluster, job_id, attempt), reports in book.items():
        if cluster == manager.name:
            _check_finished(manager, job_id, attempt, reports)


def _problem(
    job: JobRecord,
    ended_at: int,
    tasks: list[TaskTruth],
    reports: Reports,
    receipt: Receipt | None,
    scripts: Mapping[str, Script],
) -> str:
    match job.state:
        case JobState.CANCELLED:
            return (
                "" if receipt is not None and receipt.cancel_tried_at is not None else "nobody cancelled it"
            )
        case JobState.TIMED_OUT:
            began = min((run.started_at for task in tasks for run in task.runs), default=ended_at)
            ran_s = (ended_at - began) / SECOND
            return (
                "" if ran_s >= job.spec.time_limit_s - 1 else f"it ran {ran_s} s of {job.spec.time_limit_s} s"
            )
        case JobState.LOST:
            return ""
    if scripts[job.spec.source.sha256].bad_source:
        right = job.state is JobState.FAILED and job.reason is Reason.BAD_SOURCE
        return "" if right else "its source is bad"
    if job.spec.clients:
        return _client_problem(job, reports)
    return _plain_problem(job, tasks)


def _plain_problem(job: JobRecord, tasks: list[TaskTruth]) -> str:
    latest = {task.task.task: task.runs[-1] for task in tasks if task.runs}
    if len(latest) != job.spec.machines:
        return f"only {sorted(latest)} ever ran"
    for name, run in latest.items():
        if run.ended_at is None or run.killed:
            return f"{name} did not end by itself: {run}"
    expected = JobState.SUCCEEDED if all(run.good for run in latest.values()) else JobState.FAILED
    return "" if job.state is expected else f"it must be {expected.name}"


def _client_problem(job: JobRecord, reports: Reports) -> str:
    choices = []
    for number in range(job.spec.clients):
        name = f"client-{number}"
        if name in reports.acknowledged:
            choices.append({reports.acknowledged[name]})
        else:
            choices.append({int(Outcome.UNKNOWN)} | reports.tried.get(name, set()))
    allowed = {STATE_OF[Outcome(max(said))] for said in product(*choices)}
    return "" if job.state in allowed else f"its clients said {choices}"


def _check_finished(manager: ManagerHost, job_id: int, attempt: int, reports: Reports) -> None:
    """Once every client's Finish was acknowledged the verdict stands, whatever happens after."""
    job = manager.store.jobs[job_id]
    if len(reports.acknowledged) < job.spec.clients:
        return
    if job.state is JobState.CANCELLED and job.started_at is None:
        return  # they were quicker than the answers to their own starts: until then a user may cancel
    expected = STATE_OF[Outcome(max(reports.acknowledged.values()))]
    if job.attempt != attempt or job.state is not expected:
        raise Violation(
            f"all clients of job {job_id}.{attempt} had finished ({expected.name}), "
            f"yet it is {job.state.name} in attempt {job.attempt}"
        )
