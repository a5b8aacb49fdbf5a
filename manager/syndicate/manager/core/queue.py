"""The jobs that wait, and whose turn it is.

Owners take turns: first the one who has fewer slots in use, then the one whose last start is longer ago.
Inside an owner the lowest job id is first, so a job that is requeued comes before those that were submitted
after it. Everything but looking at the whole order costs the same however many jobs wait.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field

from .snapshot import Waiting


@dataclass(slots=True)
class _Owner:
    waiting: list[int] = field(default_factory=list)
    in_use: int = 0
    last_start: int = 0


class Queue:
    """Waiting jobs by owner."""

    def __init__(self) -> None:
        self._owners: dict[str, _Owner] = {}
        self._jobs: dict[int, tuple[Waiting, str]] = {}
        self._starts = 0
        self._places: dict[int, int] | None = None

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, job_id: int) -> bool:
        return job_id in self._jobs

    def get(self, job_id: int) -> Waiting:
        """The job as placement sees it."""
        return self._jobs[job_id][0]

    def push(self, job: Waiting, owner: str) -> None:
        """The job waits from now on."""
        ids = self._owner(owner).waiting
        if ids and job.job_id < ids[-1]:
            insort(ids, job.job_id)
        else:
            ids.append(job.job_id)
        self._jobs[job.job_id] = (job, owner)
        self._places = None

    def remove(self, job_id: int) -> None:
        """The job does not wait any more."""
        _, owner = self._jobs.pop(job_id)
        ids = self._owners[owner].waiting
        del ids[bisect_left(ids, job_id)]
        self._places = None

    def started(self, owner: str, slots: int) -> None:
        """The owner has had a turn, and uses so many slots more."""
        who = self._owner(owner)
        self._starts += 1
        who.in_use += slots
        who.last_start = self._starts
        self._places = None

    def ended(self, owner: str, slots: int) -> None:
        """The owner uses so many slots less."""
        self._owners[owner].in_use -= slots
        self._places = None

    def in_use(self) -> dict[str, int]:
        """Slots in use by owner, without those who use none."""
        return {name: who.in_use for name, who in self._owners.items() if who.in_use}

    def head(self) -> Waiting | None:
        """The job whose turn it is."""
        return next(self.order(), None)

    def turn_of(self, owner: str) -> tuple[int, int, str]:
        """The owner's rank; the lowest goes first."""
        who = self._owner(owner)
        return who.in_use, who.last_start, owner

    def order(self) -> Iterator[Waiting]:
        """All that wait, in turn, as if each started when its turn came. Not to be changed meanwhile."""
        turns = [(*self.turn_of(name), 0) for name, who in self._owners.items() if who.waiting]
        heapq.heapify(turns)
        starts = self._starts
        while turns:
            in_use, _, name, index = turns[0]
            ids = self._owners[name].waiting
            job = self._jobs[ids[index]][0]
            yield job
            starts += 1
            if index + 1 < len(ids):
                heapq.heapreplace(turns, (in_use + job.slots, starts, name, index + 1))
            else:
                heapq.heappop(turns)

    def place(self, job_id: int) -> int:
        """The job's place, from 1. The first question after a change looks at the whole queue."""
        if self._places is None:
            self._places = {job.job_id: place for place, job in enumerate(self.order(), 1)}
        return self._places[job_id]

    def _owner(self, name: str) -> _Owner:
        who = self._owners.get(name)
        if who is None:
            who = self._owners[name] = _Owner()
        return who
