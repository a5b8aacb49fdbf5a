"""What readers see: frozen pictures that the edges turn into answers.

The machine keeps the jobs that live and the last few that ended; the store makes the same picture of older
ones.
"""

from __future__ import annotations

from .frozen import frozen
from .model import ClockBound, NodeState, Resources, Stamp
from .records import FaultRecord, JobRecord, NodeRecord, RunRecord, StoryRecord, TaskRecord


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
    waits_for: str = ""


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
