"""What readers see: frozen pictures that the edges turn into answers.

The machine keeps the jobs that live and the last few that ended; the store makes the same picture of older
ones.
"""

from __future__ import annotations

from collections.abc import Callable

from .frozen import frozen
from .model import ClockBound, NodeState, Resources, Stamp
from .records import FaultRecord, JobRecord, NodeRecord, RunRecord, StoryRecord, TaskRecord


@frozen
class Wait:
    """What a waiting job waits for, for people: `before`, the other job that it waits for, `after`.

    Where the other one is none, `before` is all of it.
    """

    before: str = ""
    other: JobRecord | None = None
    after: str = ""

    def told(self, sees: Callable[[JobRecord], bool]) -> str:
        """The whole text, for whom `sees` tells which jobs there are: another job has no number for him."""
        if self.other is None:
            return self.before
        which = f"job {self.other.job_id}" if sees(self.other) else "another user's job"
        return f"{self.before}{which}{self.after}"


@frozen
class JobView:
    """A job whole. The tuples are in the order of their keys.

    `queue_place` counts from 1; 0 when it does not wait.

    `tasks`, `runs` and `faults` are those of the latest attempt; `story` is of all.
    """

    job: JobRecord
    tasks: tuple[TaskRecord, ...] = ()
    runs: tuple[RunRecord, ...] = ()
    faults: tuple[FaultRecord, ...] = ()
    story: tuple[StoryRecord, ...] = ()
    queue_place: int = 0
    queue_length: int = 0
    waits_for: Wait = Wait()


@frozen
class NodeView:
    """A volunteer as it stands. `busy` maps slot to (job id, task)."""

    record: NodeRecord
    state: NodeState
    busy: tuple[tuple[int, int, str], ...]
    free: Resources
    clock: ClockBound | None
    last_heard_at: Stamp | None


@frozen
class ClusterView:
    """The cluster in numbers."""

    slots: int
    free_slots: int
    drained_slots: int
    queued_jobs: int
    active_jobs: int
