"""What must hold between two events, as code. Looks at everything: for tests and for crash messages."""

from __future__ import annotations

from collections import Counter

from .desired import LASTING
from .effects import Release
from .errors import InvariantError
from .healing import MAX_LEASE_TRIES, lease_tries
from .model import FaultKind, JobState, TaskState
from .state import LiveJob, LiveTask
from .story import retell
from .transitions import ACTIVE_JOB_STATES, FINAL_TASK_STATES, TERMINAL_JOB_STATES
from .world import World

_T = TaskState
# The states that the tasks of a job can have, by the job's state.
_TASKS_OF = {
    JobState.QUEUED: frozenset[TaskState](),
    JobState.RESERVING: frozenset({_T.RESERVING, _T.RESERVED}),
    JobState.PREPARING: frozenset(_T) - {_T.RESERVING, _T.RESERVED, _T.RELEASED, _T.LOST},
    JobState.RUNNING: frozenset({_T.RUNNING, _T.KILLED, _T.EXITED, _T.LOST}),
    JobState.STOPPING: frozenset(_T),
}


def validate(world: World) -> None:
    """Raises InvariantError with the story of the job concerned where something does not hold."""
    for job in world.jobs.values():
        _job(world, job)
    _slots(world)
    _queue(world)
    _commands(world)


def _require(holds: bool, what: str, job: LiveJob | None = None) -> None:
    if not holds:
        raise InvariantError(what if job is None else f"{what}\n{retell(job)}")


def _job(world: World, job: LiveJob) -> None:
    record, state = job.record, job.record.state
    allowed = _TASKS_OF.get(state, FINAL_TASK_STATES)
    wrong = [task.record for task in job.tasks.values() if task.record.state not in allowed]
    _require(not wrong, f"a job that is {state.name} has tasks in a wrong state", job)
    whole = len(job.tasks) == record.spec.slots
    _require(whole or not job.tasks, "a gang is there in part", job)
    _require(whole or state not in (JobState.RESERVING, JobState.PREPARING, JobState.RUNNING), "no gang", job)
    _require((state is JobState.STOPPING) == (record.verdict is not None), "verdict and state disagree", job)
    _require((state in TERMINAL_JOB_STATES) == (record.ended_at is not None), "end and state disagree", job)
    _require(
        (state in ACTIVE_JOB_STATES) == (record.job_id in world.active), "active and state disagree", job
    )
    _require((state is JobState.QUEUED) == (record.job_id in world.queue), "queue and state disagree", job)
    if state in ACTIVE_JOB_STATES:
        _require(world.timers.is_set(("job", record.job_id)), "nothing bounds the wait", job)
    ops = [op for task in job.tasks.values() for op in task.ops]
    _require(job.ops_waiting == len(ops), "operations miscounted", job)
    mine = [asked for asked in world.asked.values() if asked.job_id == record.job_id]
    _require(sum(len(asked.ops) for asked in mine) == len(ops), "faults and operations disagree", job)
    _require(all(asked.ops for asked in mine), "a fault is under way at no member", job)
    kept = sum(len(asked.told) for asked in job.requests.values() if not asked.ops)
    _require(job.remembered == kept, "faults kept for repeats miscounted", job)
    _replay(world, job)
    for task in job.tasks.values():
        _task(world, job, task)


def _replay(world: World, job: LiveJob) -> None:
    """A job that replays another has its plan while it lives, and no caller is forgotten."""
    replay, lives = job.replay, job.record.state not in TERMINAL_JOB_STATES
    _require((replay is not None) == (lives and job.record.spec.replay_of > 0), "plan and job disagree", job)
    if replay is None:
        return
    waiting = {stand.call for stands in replay.stands.values() for stand in stands}
    mine = {call for call, (job_id, _) in world.stands.items() if job_id == job.record.job_id}
    _require(waiting == mine, "callers and planned calls disagree", job)
    _require(all(replay.asked[number].ops for number in replay.flying), "a planned call is over unseen", job)
    if job.record.state is JobState.RUNNING and replay.next in replay.plan:
        _require(world.timers.is_set(("replay", job.record.job_id)), "nothing makes the next call", job)


def _task(world: World, job: LiveJob, task: LiveTask) -> None:
    record = task.record
    _require((record.job_id, record.attempt) == (job.record.job_id, job.record.attempt), "foreign task", job)
    _require(list(task.runs) == sorted(set(task.runs)), "a generation started twice, or out of order", job)
    _require(max([0, *task.runs]) <= task.tried, "a run that nobody asked for", job)
    open_runs = [run.generation for run in task.runs.values() if run.ended_at is None]
    expected = [record.generation] if record.state is TaskState.RUNNING else []
    _require(open_runs == expected, f"{record.task}: runs {open_runs} are open, not {expected}", job)
    held_by_right = record.state not in FINAL_TASK_STATES and job.record.state in (
        JobState.RESERVING,
        JobState.PREPARING,
    )
    _require(world.holds(task) or not held_by_right, f"{record.task} has no slot", job)
    _require(
        all(op.fault is None for op in list(task.ops)[1:]), "two operations under way on one target", job
    )
    _lines(world, job, task)
    if job.record.state not in (JobState.PREPARING, JobState.RUNNING):
        _require(not task.ops, "an operation outlives its attempt", job)


def _lines(world: World, job: LiveJob, task: LiveTask) -> None:
    """The lines in force at a target are those of the ledger, and each lease is watched over."""
    name, state = task.record.task, task.record.state
    for number, line in task.lines.items():
        _require(job.faults.get(number) is line, f"line {number} is not the ledger's", job)
        holds = line.applied_at is not None and not line.error and line.healed_at_manager is None
        _require(holds and line.task == name and line.kind in LASTING, f"line {number} is not in force", job)
        frozen = line.kind is not FaultKind.PAUSE or state is TaskState.RUNNING
        _require(frozen, f"{name} is frozen, and does not run", job)
        if line.lease_s and job.record.state is JobState.RUNNING:
            ends = any(op.kind is FaultKind.HEAL for op in task.ops)
            ends = ends or world.timers.is_set(("lease", line.job_id, number))
            _require(ends or lease_tries(job, number) >= MAX_LEASE_TRIES, "nothing ends a lease", job)
    _require(not task.lines or state not in FINAL_TASK_STATES, f"{name} is gone, and lines are in force", job)


def _slots(world: World) -> None:
    free = 0
    for node in world.nodes.values():
        for slot in node.slots.values():
            where = (node.record.reach_domain, node.record.volunteer_id, slot.number)
            pooled = world.pool.has(*where)
            _require(not pooled or (slot.ref is None and world.usable(node)), f"{where} is not free")
            free += pooled
    _require(free == world.pool.total, "the pool has slots that no volunteer has")
    places = Counter(
        (task.record.volunteer_id, task.record.slot)
        for job in world.active.values()
        for task in job.tasks.values()
        if world.holds(task)
    )
    twice = [place for place, number in places.items() if number > 1]
    _require(not twice, f"slots in two jobs: {twice}")


def _queue(world: World) -> None:
    in_use: Counter[str] = Counter()
    running: Counter[str] = Counter()
    for job in world.active.values():
        in_use[job.record.owner] += job.record.spec.slots
        running[f"user {job.record.owner}"] += 1
        if job.record.team:
            running[f"team {job.record.team}"] += 1
    for key, number in running.items():
        _require(world.queue.share(key).running == number, f"the running jobs of {key} are miscounted")
    _require(dict(in_use) == world.queue.in_use(), "the owners' shares are wrong")
    waiting = [job.job_id for job in world.queue.order()]
    expected = [job.record.job_id for job in world.jobs.values() if job.record.state is JobState.QUEUED]
    _require(sorted(waiting) == sorted(expected), "the queue has other jobs than those that wait")


def _commands(world: World) -> None:
    for node in world.nodes.values():
        for pending in node.pending.values():
            command = pending.command
            slot = node.slots.get(command.slot)
            # A Release may be about what was found in a slot that had, or gets, another task meanwhile.
            stray = isinstance(command.action, Release)
            known = slot is not None and (stray or slot.ref is not None)
            _require(known, f"a command to a slot that nobody has: {command}")
        attached = node.session is not None
        back = world.sessions.get(node.session or "") == node.record.volunteer_id
        _require(attached == back, f"{node.record.volunteer_id} and its stream disagree")
        timed = world.timers.is_set(("node", node.record.volunteer_id))
        _require(node.gone or timed, f"nothing bounds the wait for {node.record.volunteer_id}")
    waiters = sorted(call for asked in world.asked.values() for call in asked.waiters)
    _require(waiters == sorted(world.calls), "callers and faults disagree")
