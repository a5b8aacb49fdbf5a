"""What the manager asks of a store, whichever engine keeps it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from ..core.model import JobState
from ..core.records import JobRecord, Record
from ..core.views import JobView


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

    @property
    def has_old_jobs(self) -> bool:
        """True where `restore` left out ended jobs, so that only the store knows them and their requests."""
        ...

    def restore(self, keep_ended: int) -> Iterable[Record]:
        """All nodes, all live jobs whole, and the `keep_ended` newest that ended. Blocks; before `start`."""
        ...

    def start(self, on_durable: Callable[[int], None], on_failure: Callable[[BaseException], None]) -> None:
        """Begin to take records. Both callbacks run on the loop; after the second nothing more is durable."""
        ...

    def submit(self, records: Sequence[Record]) -> int:
        """Queue records to be made durable together; answers their ticket. Refuses never: see `full`."""
        ...

    async def load_job(self, job_id: int) -> JobView | None:
        """One job whole, as last made durable."""
        ...

    async def list_jobs(
        self, before_id: int | None, limit: int, owner: str, states: Sequence[JobState]
    ) -> list[JobRecord]:
        """Jobs below an id, newest first. An empty owner and no states mean all."""
        ...

    async def find_request(self, request_id: str) -> tuple[int, str] | None:
        """The job that a Submit of this request id made, and its owner, if that job has ended."""
        ...

    async def close(self) -> None:
        """Make durable what was submitted, and let go of the state directory."""
        ...
