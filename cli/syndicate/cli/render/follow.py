"""``--follow``: what is printed as a job goes on, from its snapshots and its output."""

from __future__ import annotations

import re
from collections import deque

from syndicate.cli.render import words
from syndicate.cli.render.barriers import barrier_story
from syndicate.cli.render.fault_words import failed_word, fault_word
from syndicate.cli.render.faults import (
    applied_text,
    by_itself,
    cut_peers,
    fault_text,
    once_of_call,
    told_members,
)
from syndicate.cli.render.fit import UNLIMITED, hung
from syndicate.cli.render.job_lines import (
    end_lines,
    labelled,
    labelled_text,
    member_lines,
    queue_text,
    started_text,
)
from syndicate.cli.render.log_lines import LogLine
from syndicate.cli.render.neutralise import neutralise_text
from syndicate.cli.render.ordering import Ordering
from syndicate.cli.render.palette import PLAIN, Palette
from syndicate.cli.render.quantities import seconds_between
from syndicate.cli.render.timeline import fault_time
from syndicate.v1.common_pb2 import Fault, FaultKind, JobState, Reason, Stamp, TaskState
from syndicate.v1.scheduler_pb2 import Job, Task

MAX_HELD_LINES = 10_000
"""Output that comes before the job's start is known waits for it; past this many lines it does not."""
_WHO = 9
_TEXT = 56
_BEFORE_TEXT = 22
"""Columns of a fault's time and word."""
_RUNS_DOWN = re.compile(r" \((?:job \d+|another user's job) (?:ends in|is ending)[^)]*\)")
_QUIET_EXITS = frozenset((Reason.REASON_STOPPED, Reason.REASON_KILLED_BY_FAULT, Reason.REASON_CANCELLED))


class FollowView:
    """Remembers what was printed of a job, and gives the lines that are new. Pure but for that memory.

    Faults and output go through ``order``, where there is one, and come out of it by their times.
    """

    def __init__(
        self,
        width: int = 80,
        palette: Palette = PLAIN,
        room: int = UNLIMITED,
        order: Ordering | None = None,
    ) -> None:
        self._order = order
        self._width = width
        self._room = room
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
            lines += (self._order.rest() if self._order is not None else []) + self._requeued(job)
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
        lines += self._order.rest() if self._order is not None else []
        return lines + (
            end_lines(self._job, self._palette, hint, self._room) if self._job is not None else []
        )

    def _requeued(self, job: Job) -> list[str]:
        self._start, self._queued_as = None, ""
        self._told.clear()
        detail = f": {neutralise_text(job.detail)}" if job.detail else ""
        first, *others = labelled_text(
            f"job {job.job_id}", f"requeued, attempt {job.attempt}{detail}", self._room
        )
        return [first.replace("requeued", self._palette.odd("requeued"), 1), *others]

    def _queued(self, job: Job) -> list[str]:
        text = queue_text(job)
        # A time that runs down is no news.
        news = _RUNS_DOWN.sub("", text)
        if news == self._queued_as:
            return []
        self._queued_as = news
        return labelled_text(f"job {job.job_id}", text, self._room)

    def _happened(self, job: Job, start: Stamp) -> list[str]:
        """Faults, barriers and endings that were not told yet, in the order of their times."""
        rows: list[tuple[float, str, str]] = []
        for fault in job.faults:
            at = fault_time(fault)
            if fault.error and self._first("error", fault.fault_id):
                text = f"{fault.task} could not be {failed_word(fault)}: {neutralise_text(fault.error)}"
                rows.append((seconds_between(start, fault.requested_at), "failed", text))
            elif at is not None and self._first("fault", fault.fault_id) and self._first_of_call(fault):
                rows.append((seconds_between(start, at), fault_word(fault), self._fault(job, fault)))
        for number, (line, text) in enumerate(barrier_story(job)):  # a story only grows
            if self._first("barrier", number):
                rows.append((seconds_between(start, line.at), "barrier", text))
        for task in job.tasks:
            if _ended(task) and self._first(task.ref.task, task.ref.generation):
                ended = seconds_between(start, _ended_at(task, job))
                rows.append((ended, task.ref.task, _exit_text(task)))
        rows.sort(key=lambda row: row[0])
        return [line for row in rows for line in self._emit(row[0], "", self._row(*row))]

    def _fault(self, job: Job, fault: Fault) -> str:
        took = applied_text(fault)
        text = fault_text(fault, cut_peers(job, fault.task)).lstrip()
        if fault.kind != FaultKind.FAULT_KIND_PARTITION:  # which names its members itself
            whom = ", ".join(told_members(job, fault))
            text = whom + fault_text(fault, cut_peers(job, fault.task)) + by_itself(fault)
        # Below each other where there are columns for it.
        column = min(_TEXT, self._room - _BEFORE_TEXT - len(took) - 1)
        return f"{text:<{max(0, column)}} {took}" if took else text

    def _first_of_call(self, fault: Fault) -> bool:
        """Whether a fault is to be told: one line may stand for all that its call did."""
        return not once_of_call(fault) or self._first("call", fault.call_id)

    def _first(self, kind: str, what: object) -> bool:
        key = (kind, what)
        new = key not in self._told
        self._told.add(key)
        return new

    def _row(self, seconds: float, who: str, text: str) -> list[str]:
        first, *others = hung(f"{round(seconds, 2) + 0.0:6.2f} s   {who:<{_WHO}} ", text, self._room)
        return [first.replace(who, self._palette.odd(who), 1), *others]

    def _log(self, line: LogLine) -> list[str]:
        text = self._palette.odd(line.text) if line.is_note else line.text
        if self._start is None:
            return [f"{'':<8}   {line.task:<{_WHO}} | {text}".rstrip()]
        seconds = seconds_between(self._start, line.at)
        when = f"{round(seconds, 2) + 0.0:6.2f} s"
        return self._emit(seconds, line.task, [f"{when}   {line.task:<{_WHO}} | {text}".rstrip()])

    def _emit(self, seconds: float, source: str, lines: list[str]) -> list[str]:
        if self._order is None:
            return lines
        self._order.put(seconds, source, lines)
        return []


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
    if bounds := words.met(task.exit):
        text += f"; {bounds}"
    return text
