"""What is told of a task's generations: started, ended, killed, in whichever order it comes.

An end is told by an event that is repeated until it is acknowledged, a start and a Kill by the answer to a
command. Over a reconnect they can overtake each other; rules 8 and 9 of `transitions` say what is made of it.
"""

from __future__ import annotations

from dataclasses import replace

from . import healing, ledger, stopping
from .model import JobState, Reason, Role, Stamp, TaskExit, TaskState
from .records import RunRecord
from .state import LiveJob, LiveTask
from .story import tell
from .transitions import FINAL_TASK_STATES, TaskCause
from .words import count, ending, unquoted
from .world import World

# Ends that say something of the machine and nothing of the job.
_INFRASTRUCTURE = frozenset(
    {Reason.LEASE_EXPIRED, Reason.VOLUNTEER_LOST, Reason.INFRASTRUCTURE, Reason.STOPPED}
)


def started(world: World, job: LiveJob, task: LiveTask, generation: int, at: Stamp) -> None:
    """make was exec'd, at a time on the manager's clock. Told again, or late, it corrects the time alone."""
    run = task.runs.get(generation)
    if run is not None:
        # The end came first and stood for the start; it cannot lie before it.
        if run.ended_at is not None and at.monotonic_ns < run.started_at.monotonic_ns:
            world.save_run(task, replace(run, started_at=at))
        return
    record = task.record
    world.save_run(task, RunRecord(record.job_id, record.attempt, record.task, generation, at))
    world.move_task(job, task, TaskCause.STARTED, generation=generation, exit=None)
    task.tried = max(task.tried, generation)
    again = f" again, generation {generation}" if generation > 1 else ""
    tell(world, job, "task.started", f"runs on {record.volunteer_id} at {record.address}{again}", record.task)
    world.touch(job)


def exited(
    world: World, job: LiveJob, task: LiveTask, generation: int, end: TaskExit, told_at: Stamp | None
) -> None:
    """A generation ended, as its volunteer tells. Told again it means nothing."""
    record = task.record
    if record.state in FINAL_TASK_STATES or record.state < TaskState.STARTING:
        return
    at, _ = world.on_clock(world.node_of(task), told_at)
    if _proves_start(task, generation):
        started(world, job, task, generation, at)
    elif generation != record.generation or not _is_news(task, end):
        return
    if end.reason in _INFRASTRUCTURE and job.record.state is not JobState.STOPPING:
        stopping.member_lost(world, job, task, end.reason, ending(end))
        return
    killed = end.reason is Reason.KILLED_BY_FAULT
    _ended(world, job, task, TaskCause.KILLED if killed else TaskCause.EXITED, end, at)


def killed(
    world: World, job: LiveJob, task: LiveTask, generation: int, processes: int, by: str, at: Stamp
) -> None:
    """A Kill is answered: no process of the generation is left."""
    task.killed = (generation, processes)
    record = task.record
    if record.generation != generation or record.state in FINAL_TASK_STATES:
        return
    end = TaskExit(Reason.KILLED_BY_FAULT, detail=f"killed by {by} ({count(processes, 'process')})")
    by_signal = record.exit is not None and record.exit.reason is Reason.SIGNALED
    if record.state is TaskState.RUNNING or (
        record.state is TaskState.EXITED and by_signal and processes > 0
    ):
        _ended(world, job, task, TaskCause.KILLED, end, at)


def _proves_start(task: LiveTask, generation: int) -> bool:
    """Whether an end of this generation tells of a start that is not answered yet."""
    if task.record.state is TaskState.STARTING:
        return generation == task.record.generation
    if task.record.state not in (TaskState.KILLED, TaskState.EXITED) or not task.ops:
        return False
    fault = task.ops[0].fault
    return fault is not None and fault.generation == generation > task.record.generation


def _is_news(task: LiveTask, end: TaskExit) -> bool:
    """Whether the end is not known; that of a killed task is news where the Kill found no process."""
    if task.record.state is TaskState.KILLED:
        return end.reason is not Reason.KILLED_BY_FAULT and task.killed == (task.record.generation, 0)
    return task.record.state is TaskState.RUNNING


def _ended(world: World, job: LiveJob, task: LiveTask, cause: TaskCause, end: TaskExit, at: Stamp) -> None:
    run = task.runs.get(task.record.generation)
    if run is not None:
        ended_at = at if at.monotonic_ns >= run.started_at.monotonic_ns else run.started_at
        world.save_run(task, replace(run, ended_at=ended_at, exit=end))
    world.move_task(job, task, cause, exit=end)
    healing.generation_ended(world, job, task, at, cause is TaskCause.KILLED)
    event = "task.killed" if cause is TaskCause.KILLED else "task.exited"
    told = unquoted(end) if task.record.role is Role.CLIENT else end
    tell(world, job, event, ending(told), task.record.task)
    ledger.pump(world, job, task)
    world.touch(job)
