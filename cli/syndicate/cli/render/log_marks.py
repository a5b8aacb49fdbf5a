"""Where a job's faults stand among the lines of its output."""

from __future__ import annotations

from collections.abc import Collection

from syndicate.cli.render.faults import told_line, told_members, without_repeats
from syndicate.cli.render.quantities import seconds_between
from syndicate.cli.render.timeline import fault_time
from syndicate.v1.common_pb2 import FaultKind, Stamp
from syndicate.v1.scheduler_pb2 import Job

Mark = tuple[Stamp, str]
"""When, on the manager's clock, and what."""


class LogMarks:
    """The faults of a job that were not told yet, by their times; of these tasks only, or of all."""

    def __init__(self, tasks: Collection[str] = ()) -> None:
        self._tasks = tasks
        self._told: set[int] = set()
        self._waiting: list[Mark] = []

    def see(self, job: Job) -> list[Mark]:
        """What a snapshot of the job adds; it waits for its place, too."""
        fresh: list[Mark] = []
        for fault in without_repeats(job.faults):
            at = fault_time(fault)
            about_all = fault.kind == FaultKind.FAULT_KIND_PARTITION
            if at is None or fault.fault_id in self._told:
                continue
            if not about_all and not any(map(self._is_wanted, told_members(job, fault))):
                continue
            self._told.add(fault.fault_id)
            fresh.append((at, told_line(job, fault)))
        self._waiting = sorted(self._waiting + fresh, key=lambda mark: mark[0].monotonic_ns)
        return fresh

    def before(self, at: Stamp) -> list[str]:
        """What happened before a line that was read at this time."""
        count = sum(seconds_between(mark, at) >= 0 for mark, _ in self._waiting)
        texts = [text for _, text in self._waiting[:count]]
        del self._waiting[:count]
        return texts

    def rest(self) -> list[str]:
        """What happened after the last line."""
        texts = [text for _, text in self._waiting]
        self._waiting.clear()
        return texts

    def _is_wanted(self, task: str) -> bool:
        return not self._tasks or task in self._tasks
