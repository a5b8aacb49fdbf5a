"""What placement sees: free slots, jobs that will give slots back, jobs that wait. Values only."""

from __future__ import annotations

from .frozen import frozen


@frozen
class FreeNode:
    """A volunteer that can take work: its free slots. `domain`: slots reach each other only inside one."""

    volunteer_id: str
    domain: str
    slots: tuple[int, ...]


@frozen
class Running:
    """A job that gives `slots` usable slots back to its domain by `ends_ns`, None where that is not known."""

    job_id: int
    domain: str
    slots: int
    ends_ns: int | None


@frozen
class Waiting:
    """A job that waits for `slots` slots in one domain, to use them for at most `limit_ns`."""

    job_id: int
    slots: int
    limit_ns: int


@frozen
class Snapshot:
    """The cluster at one instant. `waiting` is in the order in which jobs have their turn."""

    free: tuple[FreeNode, ...]
    running: tuple[Running, ...]
    waiting: tuple[Waiting, ...]


@frozen
class Placement:
    """Slots for a job, master's first, as (volunteer id, slot)."""

    job_id: int
    domain: str
    slots: tuple[tuple[str, int], ...]


@frozen
class Shadow:
    """When the first job that does not fit can start at the latest, where, and how many slots are over then.

    `job_id` is the job whose end it waits for last.
    """

    at_ns: int
    domain: str
    extra: int
    job_id: int
