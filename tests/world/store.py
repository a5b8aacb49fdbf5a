"""What is durable at a manager: rows by key, and the checks that belong to rows.

The store is where promises become true, so some of them are checked here: a terminal job stays as it is, a
line of a story is never rewritten, one request makes one job, and no slot is written down for two tasks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from syndicate.manager.core.model import JobState, TaskState
from syndicate.manager.core.records import (
    AuditRecord,
    EpochRecord,
    FaultRecord,
    JobRecord,
    NodeRecord,
    PlanRecord,
    Record,
    RunRecord,
    StoryRecord,
    TaskRecord,
    TeamRecord,
    TokenRecord,
    UserRecord,
)

from .world import Violation, World

TERMINAL = frozenset(
    {
        JobState.SUCCEEDED,
        JobState.FAILED,
        JobState.UNKNOWN,
        JobState.CANCELLED,
        JobState.TIMED_OUT,
        JobState.LOST,
    }
)
WITHOUT_SLOT = frozenset({TaskState.RELEASED, TaskState.LOST})


def key_of(record: Record) -> tuple[object, ...]:
    """The primary key, as `records` documents it."""
    match record:
        case JobRecord():
            return ("job", record.job_id)
        case TaskRecord():
            return ("task", record.job_id, record.attempt, record.task)
        case RunRecord():
            return ("run", record.job_id, record.attempt, record.task, record.generation)
        case FaultRecord():
            return ("fault", record.job_id, record.fault_id)
        case PlanRecord():
            return ("plan", record.job_id, record.number)
        case StoryRecord():
            return ("story", record.job_id, record.sequence)
        case NodeRecord():
            return ("node", record.volunteer_id)
        case EpochRecord():
            return ("epoch",)
        case UserRecord() | TeamRecord():
            return type(record).__name__, record.name
        case TokenRecord():
            return "token", record.token_id
        case AuditRecord():
            return "audit", record.line


@dataclass
class Ended:
    """A job's verdict, and the true time at which it was durable."""

    record: JobRecord
    at: int


class Store:
    """The rows of one cluster."""

    def __init__(self, world: World, owner: str) -> None:
        self._world, self._owner = world, owner
        self._rows: dict[tuple[object, ...], Record] = {}
        self._requests: dict[str, int] = {}
        self._slots: dict[tuple[str, int], TaskRecord] = {}
        self.jobs: dict[int, JobRecord] = {}
        self.ended: dict[int, Ended] = {}

    def records(self) -> list[Record]:
        """Everything that is durable, in the order of first writing."""
        return list(self._rows.values())

    def job_of(self, request_id: str) -> JobRecord | None:
        """The job that a request made."""
        job_id = self._requests.get(request_id)
        return None if job_id is None else self.jobs[job_id]

    def tasks(self, job_id: int, attempt: int) -> list[TaskRecord]:
        """The tasks of an attempt."""
        return [
            row
            for row in self._rows.values()
            if isinstance(row, TaskRecord) and (row.job_id, row.attempt) == (job_id, attempt)
        ]

    def faults(self) -> list[FaultRecord]:
        """All lines of all ledgers."""
        return [row for row in self._rows.values() if isinstance(row, FaultRecord)]

    def plans(self) -> list[PlanRecord]:
        """All calls that replays are to make."""
        return [row for row in self._rows.values() if isinstance(row, PlanRecord)]

    def commit(self, records: Iterable[Record]) -> None:
        """One transaction."""
        for record in records:
            match record:
                case JobRecord():
                    self._job(record)
                case TaskRecord():
                    self._task(record)
                case StoryRecord():
                    before = self._rows.get(key_of(record))
                    if before is not None and before != record:
                        raise Violation(
                            f"{self._owner}: a line of a story was rewritten: {before} → {record}"
                        )
            self._rows[key_of(record)] = record

    def _job(self, record: JobRecord) -> None:
        before = self.jobs.get(record.job_id)
        if before is not None and before.state in TERMINAL and before != record:
            raise Violation(f"{self._owner}: job {record.job_id} had ended: {before} → {record}")
        if self._requests.setdefault(record.request_id, record.job_id) != record.job_id:
            raise Violation(f"{self._owner}: request {record.request_id} made two jobs")
        self.jobs[record.job_id] = record
        if record.state in TERMINAL and record.job_id not in self.ended:
            self.ended[record.job_id] = Ended(record, self._world.now)
            self._world.note(
                self._owner, "job ended", f"{record.job_id} {record.state.name} {record.reason.name}"
            )

    def _task(self, record: TaskRecord) -> None:
        place = record.volunteer_id, record.slot
        holder = self._slots.get(place)
        mine = holder is not None and (holder.job_id, holder.attempt, holder.task) == (
            record.job_id,
            record.attempt,
            record.task,
        )
        if record.state in WITHOUT_SLOT:
            if mine:
                del self._slots[place]
            return
        if holder is not None and not mine:
            raise Violation(f"{self._owner}: slot {place} is {holder}'s and {record}'s")
        self._slots[place] = record

    def held(self) -> dict[tuple[str, int], TaskRecord]:
        """Slots that are written down as held."""
        return dict(self._slots)
