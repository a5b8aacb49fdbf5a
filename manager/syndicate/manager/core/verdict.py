"""What a job has come to: pure functions of its tasks.

Without clients a job ends when every master and slave has ended, and passes iff each exited 0 in its latest
generation. With clients it ends when each client has finished, ended or been killed; the masters and slaves
do not decide. The worst client decides: a fail before an unknown before a pass, and of equals the one with
the lower score. The job's score and text are that client's; its metrics are that client's too, followed by
those that only other clients have, in the order of the clients, up to `MAX_METRICS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .frozen import frozen
from .model import JobState, Outcome, Reason, Result, Role, TaskExit, TaskState
from .records import TaskRecord
from .words import ending, first_line, unquoted

# Ends that whoever wrote the source can mend, and that explain what else went wrong.
MENDABLE = (
    *(Reason.NO_MAKEFILE, Reason.NO_TARGET, Reason.NOTHING_RUN, Reason.BAD_SOURCE),
    *(Reason.OUT_OF_MEMORY, Reason.DISK_FULL),
)
MAX_METRICS = 1000
_OVER = frozenset({TaskState.EXITED, TaskState.KILLED, TaskState.RELEASED, TaskState.LOST})
_BY_OUTCOME = {
    Outcome.PASS: (JobState.SUCCEEDED, Reason.CLIENT_PASSED),
    Outcome.UNKNOWN: (JobState.UNKNOWN, Reason.CLIENT_UNKNOWN),
    Outcome.FAIL: (JobState.FAILED, Reason.CLIENT_FAILED),
}


@frozen
class Verdict:
    """How the job ends: the terminal state, a reason, a line for people, what its clients said."""

    state: JobState
    reason: Reason
    detail: str
    result: Result | None = None


def is_over(task: TaskRecord) -> bool:
    """Whether nothing more will come of a task by itself: it has finished, ended or been killed."""
    return task.finished_at is not None or task.state in _OVER


def verdict(tasks: Sequence[TaskRecord]) -> Verdict | None:
    """The verdict of a job that runs; None while it goes on. `tasks` are master, slaves, clients."""
    clients = [task for task in tasks if task.role is Role.CLIENT]
    deciders = clients or list(tasks)
    if not all(is_over(task) for task in deciders):
        return None
    return _of_clients(clients) if clients else _of_machines(deciders)


def bad_source(task: TaskRecord, reason: Reason, detail: str) -> Verdict:
    """A source that cannot be unpacked. A client's is not the student's fault: nobody can tell then."""
    line = f"{task.task}: {detail or 'the source could not be unpacked'}"
    if task.role is Role.CLIENT:
        return Verdict(JobState.UNKNOWN, reason, line, Result(Outcome.UNKNOWN, text=line))
    return Verdict(JobState.FAILED, reason, line)


def _of_machines(tasks: Sequence[TaskRecord]) -> Verdict:
    failed = [task for task in tasks if _end_of(task).reason is not Reason.EXITED_ZERO]
    if not failed:
        return Verdict(JobState.SUCCEEDED, Reason.EXITED_ZERO, "")
    # sorted() is stable: among equals the master comes before the slaves.
    first = sorted(failed, key=lambda task: _end_of(task).reason not in MENDABLE)[0]
    end = _end_of(first)
    return Verdict(JobState.FAILED, end.reason, f"{first.task}: {ending(end)}")


def _of_clients(clients: Sequence[TaskRecord]) -> Verdict:
    said = {task.task: _result_of(task) for task in clients}
    worst = min(clients, key=lambda task: _badness(said[task.task]))
    result = said[worst.task]
    state, reason = _BY_OUTCOME[result.outcome]
    if worst.finished_at is None and _end_of(worst).reason in MENDABLE:
        reason = _end_of(worst).reason
    metrics = dict(result.metrics)
    for task in clients:
        for name, value in said[task.task].metrics:
            if len(metrics) < MAX_METRICS:
                metrics.setdefault(name, value)
    detail = first_line(result.text)
    if result.outcome is not Outcome.PASS and worst.finished_at is not None:
        detail = f"{worst.task}: {detail or 'reported ' + result.outcome.name.lower()}"
    return Verdict(state, reason, detail, replace(result, metrics=tuple(metrics.items())))


def _badness(result: Result) -> tuple[int, float]:
    return -result.outcome, float("inf") if result.score is None else result.score


def _result_of(task: TaskRecord) -> Result:
    if task.finished_at is not None and task.result is not None:
        return task.result
    return Result(
        Outcome.UNKNOWN, text=f"{task.task} ended without calling Finish: {ending(unquoted(_end_of(task)))}"
    )


def _end_of(task: TaskRecord) -> TaskExit:
    if task.state is TaskState.KILLED and (task.exit is None or task.exit.reason is Reason.EXITED_ZERO):
        return TaskExit(Reason.KILLED_BY_FAULT)
    return task.exit or TaskExit(Reason.UNSPECIFIED, detail="nothing is known of its end")
