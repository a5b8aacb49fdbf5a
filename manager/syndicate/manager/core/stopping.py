"""The way back: a refused reservation, an end, a requeue, a machine that is gone.

A job that stops has its verdict first, in its row; then every slot is told to leave nothing (Release), again
and again until it has answered. A slot is nobody else's before that, even where the job itself waits no
longer:

- for a machine that is away a job waits `stop_timeout_s` and then ends, its task LOST;
- for one that lives and does not answer, four times as long, in which a disk that is kept has time to come;
- a job that is to be requeued waits for a machine that is away until that is given up, since by then its
  lease has ended the old task; with one that lives and does not answer it ends LOST rather than run twice.
"""

from __future__ import annotations

from dataclasses import replace

from . import barriers, commands, healing, ledger, replay
from .effects import Release
from .model import AnswerCode, JobState, Reason, Result, Role, Stamp, TaskExit, TaskState
from .records import JobRecord
from .snapshot import Waiting
from .state import LiveJob, LiveTask, Node, Pending, key_of
from .story import tell, tell_once
from .transitions import FINAL_TASK_STATES, TERMINAL_JOB_STATES, VERDICT_CAUSES, JobCause, TaskCause
from .verdict import verdict as verdict_of
from .words import count, duration
from .world import REMEMBERED_SUBMITS, World, nanoseconds

PATIENCE_WITH_THE_LIVING = 4
# The newest ended jobs are kept whole while they weigh no more than this together; a line of a ledger or a
# story, or a run, weighs about so much.
WHOLE_BYTES = 32 << 20
LINE_BYTES = 900
# What of a task is there may be on its disk.
_WITH_DISK = frozenset(
    {TaskState.PREPARED, TaskState.STARTING, TaskState.RUNNING, TaskState.KILLED, TaskState.EXITED}
)


def enqueue(world: World, job: LiveJob) -> None:
    """The job waits for slots."""
    record, spec = job.record, job.record.spec
    waiting = Waiting(record.job_id, spec.slots, nanoseconds(spec.time_limit_s))
    world.queue.push(waiting, record.owner, record.team)


def stop(
    world: World,
    job: LiveJob,
    verdict: JobState,
    reason: Reason,
    detail: str,
    result: Result | None = None,
) -> None:
    """Ends the attempt with a verdict: a terminal state, or QUEUED for another attempt."""
    ledger.end_attempt(world, job)
    replay.ended(world, job)
    barriers.let_go(world, job)
    healing.job_ends(world, job)
    world.move_job(job, JobCause.STOP, verdict=verdict, reason=reason, detail=detail, result=result)
    for task in job.tasks.values():
        world.save_task(job, task, task.record)  # a gang that was only reserved has no rows yet
    will = "to be queued again" if verdict is JobState.QUEUED else verdict.name
    tell(world, job, "job.stopping", f"{will}: {detail}" if detail else will)
    release_all(world, job)


def release_all(world: World, job: LiveJob) -> None:
    """Tells every slot of a job that stops to leave nothing."""
    keeps = job.record.spec.keep_disks and job.record.verdict is not JobState.QUEUED
    for task in job.tasks.values():
        if task.record.state in FINAL_TASK_STATES:
            continue
        node = world.node_of(task)
        commands.forget(node, task.command_id)
        if world.holds(task):
            release = Release(keep_disk=keeps and task.record.state in _WITH_DISK)
            task.command_id = commands.issue(world, node, world.ref(task), task.record.slot, release)
        else:
            _give_up(world, job, task)
    timeout = nanoseconds(world.config.stop_timeout_s)
    job.phase_deadline_ns = world.ns + PATIENCE_WITH_THE_LIVING * timeout
    world.timers.set(("job", job.record.job_id), world.ns + timeout)
    world.touch(job)


def fail(world: World, job: LiveJob, reason: Reason, detail: str) -> None:
    """The infrastructure has failed the job: another attempt, or LOST when it has failed too often."""
    match job.record.state:
        case JobState.RESERVING | JobState.PREPARING | JobState.RUNNING:
            records = [task.record for task in job.tasks.values()]
            clients = [record for record in records if record.role is Role.CLIENT]
            end = verdict_of(records) if clients and all(client.finished_at for client in clients) else None
            if end is not None:
                # Quick clients finish before their start is acknowledged; what they were told stands.
                stop(world, job, end.state, end.reason, end.detail, end.result)
            elif job.failures + 1 < world.config.max_attempts:
                stop(world, job, JobState.QUEUED, reason, detail)
            else:
                failures = f"the infrastructure failed {count(job.failures + 1, 'time')}, last: {detail}"
                stop(world, job, JobState.LOST, reason, failures)
        case _:
            world.touch(job)


def refuse(world: World, job: LiveJob, why: str) -> None:
    """A reservation did not come together: gives the slots back and lets the job wait on."""
    tell_once(world, job, "job.refused", why)
    for task in job.tasks.values():
        node = world.node_of(task)
        commands.forget(node, task.command_id)
        if world.holds(task):
            commands.issue(world, node, world.ref(task), task.record.slot, Release())
    job.tasks = {}
    world.timers.cancel(("job", job.record.job_id))
    world.queue.ended(job.record.owner, job.record.spec.slots, job.record.team)
    world.move_job(job, JobCause.REFUSED, attempt=job.record.attempt + 1, reserved_at=None)
    enqueue(world, job)
    world.plan_all = True
    world.touch(job)


def member_lost(world: World, job: LiveJob, task: LiveTask, reason: Reason, why: str) -> None:
    """A member's machine has lost it. What it had left to do decides whether the job can go on without."""
    if task.record.state in FINAL_TASK_STATES:
        return
    record = task.record
    if job.record.state is JobState.RESERVING:
        refuse(world, job, f"{record.task}: {why}")
        return
    node = world.node_of(task)
    commands.forget(node, task.command_id)
    if record.task == job.record.spec.sync_server:
        barriers.let_go(world, job)
    # Without clients nothing revives a task: one that has ended has told everything, as one that finished.
    ended = record.state is TaskState.EXITED and job.record.spec.clients == 0
    told_all = ended or record.finished_at is not None
    tell(world, job, "task.lost", why, record.task)
    _end_run(world, task, TaskExit(reason, detail=why))
    healing.slot_given_back(world, job, task, None, None)
    world.move_task(job, task, TaskCause.LOST, exit=record.exit or TaskExit(reason, detail=why))
    if world.holds(task):
        # Something of it may be left there: the slot is locked until the machine says that nothing is.
        commands.issue(world, node, world.ref(task), record.slot, Release())
    if told_all and job.record.state is JobState.RUNNING:
        ledger.target_lost(world, job, task, why)
        world.touch(job)
    else:
        fail(world, job, reason, f"{record.task}: {why}")


def released(world: World, node: Node, pending: Pending, code: AnswerCode, applied_at: Stamp | None) -> None:
    """A Release is answered. That the volunteer knows no such task is as good as done."""
    command = pending.command
    found = world.find(command.ref)
    task = found[1] if found and found[1].record.volunteer_id == node.record.volunteer_id else None
    if code is AnswerCode.FAILED:
        again = commands.issue_again(world, node, pending)
        if task is not None and task.command_id == command.command_id:
            task.command_id = again
        return
    slot = node.slots.get(command.slot)
    if slot is not None and slot.ref is not None and key_of(slot.ref) == key_of(command.ref):
        world.unlock(node, slot)
    if found is None or task is None or task.command_id != command.command_id:
        return
    if task.record.state not in FINAL_TASK_STATES:
        job = found[0]
        _end_run(world, task, TaskExit(Reason.STOPPED))
        healing.slot_given_back(world, job, task, applied_at or world.now, pending.first_sent_ns)
        end = task.record.exit
        if task.record.state is TaskState.RUNNING:
            end = TaskExit(Reason.STOPPED)
        world.move_task(job, task, TaskCause.RELEASED, exit=end)
        world.touch(job)


def overdue(world: World, job: LiveJob) -> None:
    """Some slot has not answered in time."""
    requeue = job.record.verdict is JobState.QUEUED
    late = world.ns >= job.phase_deadline_ns
    for task in job.tasks.values():
        if task.record.state in FINAL_TASK_STATES:
            continue
        away = world.node_of(task).session is None
        if away and not requeue:
            _give_up(world, job, task)
        elif late and not away:
            _give_up(world, job, task)
            _never_again(world, job, task)
    if any(task.record.state not in FINAL_TASK_STATES for task in job.tasks.values()):
        timeout = nanoseconds(world.config.stop_timeout_s)
        world.timers.set(("job", job.record.job_id), world.ns + timeout)
    world.touch(job)


def advance(world: World, job: LiveJob) -> None:
    """Ends STOPPING once every slot is given back or given up."""
    if any(task.record.state not in FINAL_TASK_STATES for task in job.tasks.values()):
        return
    verdict = job.record.verdict
    assert verdict is not None, "a job that stops has a verdict"  # noqa: S101  # for the type checker
    world.timers.cancel(("job", job.record.job_id))
    world.queue.ended(job.record.owner, job.record.spec.slots, job.record.team)
    world.plan_all = True  # a quota may let another job in, on slots that were free before
    if verdict is JobState.QUEUED:
        _requeue(world, job)
    else:
        world.move_job(job, VERDICT_CAUSES[verdict], verdict=None, ended_at=world.now)
        tell(world, job, "job.ended", _last_words(job))
        remember_ended(world, job)


def time_out(world: World, job: LiveJob) -> None:
    """A job that runs has used up its time limit."""
    limit = duration(nanoseconds(job.record.spec.time_limit_s))
    stop(world, job, JobState.TIMED_OUT, Reason.TIME_LIMIT, f"ran longer than its time limit of {limit}")


def cancel(world: World, job: LiveJob, by: str) -> None:
    """Ends a job because somebody wants it; one that has its verdict already stays as it is."""
    detail = f"cancelled by {by}" if by else "cancelled"
    state = job.record.state
    if state is JobState.QUEUED:
        world.queue.remove(job.record.job_id)
        world.move_job(job, JobCause.CANCELLED, reason=Reason.CANCELLED, detail=detail, ended_at=world.now)
        tell(world, job, "job.ended", _last_words(job))
        remember_ended(world, job)
        world.plan_all = True
        world.touch(job)
    elif state is JobState.STOPPING:
        if job.record.verdict is JobState.QUEUED:
            changed = replace(job.record, verdict=JobState.CANCELLED, reason=Reason.CANCELLED, detail=detail)
            world.save_job(job, changed)
            world.touch(job)
    elif state not in TERMINAL_JOB_STATES:
        stop(world, job, JobState.CANCELLED, Reason.CANCELLED, detail)


def remember_ended(world: World, job: LiveJob) -> None:
    """The job has ended: it is kept a while for readers, whole or in part, and the oldest such is let go."""
    remember_submit(world, job.record)
    job.requests, job.remembered, job.replay = {}, 0, None
    job_id, weight = job.record.job_id, _weight(job)
    world.ended.append(job_id)
    world.whole.append((job_id, weight))
    world.whole_bytes += weight
    while world.whole_bytes > WHOLE_BYTES:
        oldest, its_weight = world.whole.popleft()
        world.whole_bytes -= its_weight
        if oldest in world.jobs:
            keep_in_part(world.jobs[oldest])
    while len(world.ended) > world.config.keep_ended:
        del world.jobs[world.ended.popleft()]
        while world.whole and world.whole[0][0] not in world.jobs:
            world.whole_bytes -= world.whole.popleft()[1]


def remember_submit(world: World, record: JobRecord) -> None:
    """The job that a request made has ended: a repeat still gets it, until enough others have ended."""
    world.submits[record.request_id] = (record.job_id, record.owner)
    world.old_submits.append(record.request_id)
    while len(world.old_submits) > REMEMBERED_SUBMITS:
        del world.submits[world.old_submits.popleft()]


def keep_in_part(job: LiveJob) -> None:
    """Lets go of what only readers want of a job that has ended; they get it from the store."""
    job.whole = False
    job.faults, job.story, job.requests, job.remembered = {}, [], {}, 0
    job.record = replace(job.record, result=None)
    for task in job.tasks.values():
        task.runs = {}
        task.record = replace(task.record, result=None)


def _weight(job: LiveJob) -> int:
    """About how many bytes of memory a job keeps that only readers want."""
    lines = len(job.faults) + len(job.story) + sum(len(task.runs) for task in job.tasks.values())
    results = [job.record.result, *(task.record.result for task in job.tasks.values())]
    said = sum(len(result.text) + 200 * len(result.metrics) for result in results if result is not None)
    return LINE_BYTES * lines + said


def _requeue(world: World, job: LiveJob) -> None:
    why = job.record.detail
    job.failures += 1
    job.tasks, job.faults, job.requests, job.finishes = {}, {}, {}, {}
    job.remembered = 0
    world.move_job(
        job,
        JobCause.REQUEUED,
        attempt=job.record.attempt + 1,
        queued_at=world.now,
        verdict=None,
        reason=Reason.UNSPECIFIED,
        detail="",
        reserved_at=None,
        started_at=None,
        gang_start_ns=0,
    )
    tell(world, job, "job.requeued", f"queued again after a failure of the infrastructure: {why}")
    enqueue(world, job)
    world.plan_all = True
    world.touch(job)


def _give_up(world: World, job: LiveJob, task: LiveTask) -> None:
    why = f"{task.record.volunteer_id} has not said that it is gone"
    tell(world, job, "task.lost", why, task.record.task)
    _end_run(world, task, TaskExit(Reason.VOLUNTEER_LOST, detail=why))
    healing.slot_given_back(world, job, task, None, None)
    world.move_task(
        job, task, TaskCause.LOST, exit=task.record.exit or TaskExit(Reason.VOLUNTEER_LOST, detail=why)
    )


def _never_again(world: World, job: LiveJob, task: LiveTask) -> None:
    """What may run still, on a machine whose lease is renewed, must not be started elsewhere."""
    if job.record.verdict is JobState.QUEUED:
        detail = f"{task.record.task} may still run: {task.record.volunteer_id} has not said that it is gone"
        lost = replace(job.record, verdict=JobState.LOST, reason=Reason.INFRASTRUCTURE, detail=detail)
        world.save_job(job, lost)


def _end_run(world: World, task: LiveTask, end: TaskExit) -> None:
    run = task.runs.get(task.record.generation)
    if run is not None and run.ended_at is None:
        world.save_run(task, replace(run, ended_at=world.now, exit=end))


def _last_words(job: LiveJob) -> str:
    record = job.record
    words = record.state.name
    if (
        record.started_at is not None
        and record.started_at.boot_id == (record.ended_at or record.started_at).boot_id
    ):
        ran = (record.ended_at or record.started_at).monotonic_ns - record.started_at.monotonic_ns
        words += f" after {duration(ran)}"
    return f"{words}: {record.detail}" if record.detail else words
