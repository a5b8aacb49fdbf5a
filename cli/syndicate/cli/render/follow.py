"""``--follow``: what is printed as a job goes on, from its snapshots and its output."""

from __future__ import annotations

from collections import deque

from syndicate.cli.render import words
from syndicate.cli.render.job_lines import (
    applied_text,
    cut_peers,
    end_lines,
    fault_text,
    fault_word,
    labelled,
    member_lines,
    queue_text,
    started_text,
    wrapped,
)
from syndicate.cli.render.log_lines import LogLine
from syndicate.cli.render.neutralise import neutralise_text
from syndicate.cli.render.palette import PLAIN, Palette
from syndicate.cli.render.quantities import seconds_between
from syndicate.cli.render.timeline import fault_time
from syndicate.v1.common_pb2 import Fault, JobState, Reason, Stamp, TaskState
from syndicate.v1.scheduler_pb2 import Job, Task

MAX_HELD_LINES = 10_000
"""Output that comes before the job's start is known waits for it; past this many lines it does not."""
_WHO = 9
_QUIET_EXITS = frozenset((Reason.REASON_STOPPED, Reason.REASON_KILLED_BY_FAULT, Reason.REASON_CANCELLED))


class FollowView:
    """Remembers what was printed of a job, and gives the lines that are new. Pure but for that memory."""

    def __init__(self, width: int = 80, palette: Palette = PLAIN) -> None:
        self._width = width
        self._palette = palette
        self._job: Job | None = None
        self._start: Stamp | None = None
        self._queued_as = ""
        self._told: set[tuple[str, object]] = set()
        self._held: deque[LogLine] = deque()

    @property
    def job(self) -> Job | None:
        """The latest snapshot."""
        return self._job

    def see(self, job: Job) -> list[str]:
        """What a new snapshot adds."""
        lines: list[str] = []
        if self._job is not None and job.attempt != self._job.attempt:
            lines += self._requeued(job)
        self._job = job
        if job.state == JobState.JOB_STATE_QUEUED:
            lines += self._queued(job)
        if job.HasField("started_at") and self._start is None:
            self._start = job.started_at
            lines.append(labelled(f"job {job.job_id}", started_text(job)))
            lines += member_lines(job, self._width)
            lines += [line for held in self._held for line in self._log(held)]
            self._held.clear()
        if self._start is not None:
            lines += self._happened(job, self._start)
        return lines

    def hear(self, line: LogLine) -> list[str]:
        """What a line of output adds. Held back while the job's start is not known."""
        if self._start is None and len(self._held) < MAX_HELD_LINES:
            self._held.append(line)
            return []
        return self._log(line)

    def end(self, hint: str = "") -> list[str]:
        """The last lines."""
        lines = [line for held in self._held for line in self._log(held)]
        self._held.clear()
        return lines + (end_lines(self._job, self._palette, hint) if self._job is not None else [])

    def _requeued(self, job: Job) -> list[str]:
        self._start, self._queued_as = None, ""
        self._told.clear()
        detail = f": {neutralise_text(job.detail)}" if job.detail else ""
        return [
            labelled(f"job {job.job_id}", self._palette.odd("requeued") + f", attempt {job.attempt}{detail}")
        ]

    def _queued(self, job: Job) -> list[str]:
        text = queue_text(job)
        # What stands in brackets is a time that runs: it is no news.
        news = text.partition(" (")[0]
        if news == self._queued_as:
            return []
        self._queued_as = news
        first, *others = wrapped(text, self._width) or [""]
        return [labelled(f"job {job.job_id}", first.strip()), *others]

    def _happened(self, job: Job, start: Stamp) -> list[str]:
        """Faults and endings that were not told yet, in the order of their times."""
        rows: list[tuple[float, str]] = []
        for fault in job.faults:
            at = fault_time(fault)
            if fault.error and self._first("error", fault.fault_id):
                text = f"{fault.task} could not be {fault_word(fault)}: {neutralise_text(fault.error)}"
                rows.append(self._row(start, fault.requested_at, "failed", text))
            elif at is not None and self._first("fault", fault.fault_id):
                rows.append(self._row(start, at, fault_word(fault), self._fault(job, fault)))
        for task in job.tasks:
            if _ended(task) and self._first(task.ref.task, task.ref.generation):
                rows.append(self._row(start, _ended_at(task, job), task.ref.task, _exit_text(task)))
        return [line for _, line in sorted(rows, key=lambda row: row[0])]

    def _fault(self, job: Job, fault: Fault) -> str:
        took = applied_text(fault)
        text = fault.task + fault_text(fault, cut_peers(job, fault.task))
        return f"{text:<56} {took}" if took else text

    def _first(self, kind: str, what: object) -> bool:
        key = (kind, what)
        new = key not in self._told
        self._told.add(key)
        return new

    def _row(self, start: Stamp, at: Stamp, who: str, text: str) -> tuple[float, str]:
        seconds = seconds_between(start, at)
        return (
            seconds,
            f"{round(seconds, 2) + 0.0:6.2f} s   {self._palette.odd(f'{who:<{_WHO}}')} {text}".rstrip(),
        )

    def _log(self, line: LogLine) -> list[str]:
        when = " " * 8
        if self._start is not None:
            when = f"{round(seconds_between(self._start, line.at), 2) + 0.0:6.2f} s"
        text = self._palette.odd(line.text) if line.is_note else line.text
        return [f"{when}   {line.task:<{_WHO}} | {text}".rstrip()]


def _ended(task: Task) -> bool:
    exited = task.state == TaskState.TASK_STATE_EXITED or task.HasField("exit")
    return exited and task.exit.reason not in _QUIET_EXITS and not task.HasField("finished_at")


def _ended_at(task: Task, job: Job) -> Stamp:
    if task.runs and task.runs[-1].HasField("ended_at"):
        return task.runs[-1].ended_at
    return job.ended_at if job.HasField("ended_at") else job.started_at


def _exit_text(task: Task) -> str:
    text = f"ended: make exited {task.exit.exit_status}"
    if task.exit.reason not in (Reason.REASON_EXITED_ZERO, Reason.REASON_EXITED_NONZERO):
        text += f"  {words.reason(task.exit.reason)}"
    if task.exit.recipe_status:
        text += f" (its recipe {task.exit.recipe_status})"
    return text
