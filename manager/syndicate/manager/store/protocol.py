"""What the manager asks of a store, whichever engine keeps it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..core.model import JobState
from ..core.records import AuditRecord, JobRecord, Record
from ..core.views import JobView


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who sees its own jobs, its team's, and those that are published."""

    name: str
    team: str


class Store(Protocol):
    """Records with keys, saved whole and in order.

    All methods are called on the event loop's thread and none of them blocks it, except those that say so.
    """

    @property
    def cluster_id(self) -> str:
        """`c-` and 12 hexadecimal digits, made once with the store."""
        ...

    @property
    def epoch(self) -> int:
        """The fencing token of this start: larger than that of every start before."""
        ...

    @property
    def submitted(self) -> int:
        """The last ticket that `submit` gave; 0 before the first."""
        ...

    @property
    def durable(self) -> int:
        """Everything up to this ticket survives a crash."""
        ...

    @property
    def full(self) -> bool:
        """True while so much waits to be written that no new work should be taken."""
        ...

    def restore(self, keep_ended: int) -> Iterable[Record]:
        """All nodes, all live jobs whole, and of the `keep_ended` newest that ended their rows and tasks.

        Those are without results. All users, teams and tokens. Of the audit log the newest line, and the
        allowed one about the newest job. Blocks; before `start`.
        """
        ...

    def requests(self, limit: int) -> list[tuple[str, int, str]]:
        """Request id, job and owner of the newest jobs that ended, oldest first. Blocks; before `start`."""
        ...

    def start(self, on_durable: Callable[[int], None], on_failure: Callable[[BaseException], None]) -> None:
        """Begin to take records. Both callbacks run on the loop; after the second nothing more is durable."""
        ...

    def submit(self, records: Sequence[Record], patience_s: float = 0.0) -> int:
        """Queue records to be made durable together; answers their ticket. Refuses never: see `full`.

        With patience they may wait so long for others that are made durable in the same go.
        """
        ...

    async def load_job(self, job_id: int) -> JobView | None:
        """One job whole, as last made durable."""
        ...

    async def list_jobs(
        self,
        before_id: int | None,
        limit: int,
        owner: str,
        states: Sequence[JobState],
        viewer: Viewer | None = None,
    ) -> list[JobRecord]:
        """Jobs below an id, newest first, that the viewer sees. An empty owner and no states mean all."""
        ...

    async def list_audit(
        self, before: int | None, limit: int, who: str, job_id: int, denied: bool
    ) -> list[AuditRecord]:
        """Lines of the audit log below a line, newest first. An empty name and job 0 mean all."""
        ...

    async def old_jobs(self, keep: int, limit: int) -> list[int]:
        """The oldest jobs that ended, without the `keep` newest of those; at most `limit`."""
        ...

    async def remove_job(self, job_id: int) -> None:
        """Take the rows of a job that has ended out of the store. Raises StoreError where that fails."""
        ...

    async def trim_audit(self, keep: int) -> int:
        """Take all but the newest lines out of the audit log; says how many. Raises StoreError."""
        ...

    async def close(self) -> None:
        """Make durable what was submitted, and let go of the state directory."""
        ...
