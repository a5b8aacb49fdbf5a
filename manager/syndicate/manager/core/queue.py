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
from itertools import accumulate, islice
from typing import Protocol

from .snapshot import Waiting

# Places up to here are exact; those behind may be off by as many as there are owners.
EXACT_PLACES = 1000
# Owners without a job whose last start is remembered, so that nobody gains a turn by coming back.
REMEMBERED_OWNERS = 10_000


class Gate(Protocol):
    """Which jobs may start beside each other; see `quota.Gate`."""

    def admits(self, job_id: int, slots: int) -> bool:
        """Whether the job may start too; if so it counts for those that are asked about after it."""


@dataclass(slots=True)
class Share:
    """What a user (`user NAME`) or a team (`team NAME`) has: jobs with slots, their slots, jobs that wait."""

    running: int = 0
    slots: int = 0
    waiting: int = 0


@dataclass(slots=True)
class _Owner:
    """`sums` has for each waiting job the slots of it and of those before it, counted on from `base`."""

    waiting: list[int] = field(default_factory=list)
    in_use: int = 0
    last_start: int = 0
    base: int = 0
    sums: list[int] | None = field(default_factory=list)


class Queue:
    """Waiting jobs by owner."""

    def __init__(self) -> None:
        # Those who have jobs that wait, or slots in use; of others only when they last started.
        self._owners: dict[str, _Owner] = {}
        self._last_starts: dict[str, int] = {}
        self._jobs: dict[int, tuple[Waiting, str, str]] = {}
        self._shares: dict[str, Share] = {}
        self._starts = 0
        self._places: dict[int, int] | None = None

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, job_id: int) -> bool:
        return job_id in self._jobs

    def get(self, job_id: int) -> Waiting:
        """The job as placement sees it."""
        return self._jobs[job_id][0]

    def first_of(self, job_id: int) -> Waiting:
        """The job that its owner has waited for longest."""
        return self._jobs[self._owners[self._jobs[job_id][1]].waiting[0]][0]

    def share(self, key: str) -> Share:
        """What a party has; `key` as in `Share`. Not to be changed."""
        return self._shares.get(key) or Share()

    def push(self, job: Waiting, owner: str, team: str = "") -> None:
        """The job waits from now on."""
        who = self._owner(owner)
        ids = who.waiting
        if ids and job.job_id < ids[-1]:
            insort(ids, job.job_id)
            who.sums = None
        else:
            ids.append(job.job_id)
            if who.sums is not None:
                who.sums.append((who.sums[-1] if who.sums else who.base) + job.slots)
        self._jobs[job.job_id] = (job, owner, team)
        self._count(owner, team, waiting=1)
        self._places = None

    def remove(self, job_id: int) -> None:
        """The job does not wait any more."""
        _, owner, team = self._jobs.pop(job_id)
        who = self._owners[owner]
        index = bisect_left(who.waiting, job_id)
        del who.waiting[index]
        if index or who.sums is None:
            who.sums = None
        else:
            who.base = who.sums.pop(0)
        self._count(owner, team, waiting=-1)
        self._places = None
        self._forget_idle(owner)

    def started(self, owner: str, slots: int, team: str = "") -> None:
        """The owner has had a turn, and uses so many slots more."""
        who = self._owner(owner)
        self._starts += 1
        who.in_use += slots
        who.last_start = self._starts
        self._count(owner, team, running=1, slots=slots)
        self._places = None

    def ended(self, owner: str, slots: int, team: str = "") -> None:
        """The owner uses so many slots less."""
        self._owners[owner].in_use -= slots
        self._count(owner, team, running=-1, slots=-slots)
        self._places = None
        self._forget_idle(owner)

    def firsts(self) -> Iterator[tuple[Waiting, int]]:
        """Of each owner who waits the first job, and how many the owner has waiting."""
        return (
            (self._jobs[who.waiting[0]][0], len(who.waiting)) for who in self._owners.values() if who.waiting
        )

    def in_use(self) -> dict[str, int]:
        """Slots in use by owner, without those who use none."""
        return {name: who.in_use for name, who in self._owners.items() if who.in_use}

    def head(self) -> Waiting | None:
        """The job whose turn it is."""
        turn = min(self._turns(), default=None)
        return None if turn is None else self._jobs[self._owners[turn[2]].waiting[0]][0]

    def order(self, gate: Gate | None = None) -> Iterator[Waiting]:
        """All that wait, in turn, as if each started when its turn came. Not to be changed meanwhile.

        With a gate, without those that it does not admit, and of their owners' without those behind them.
        """
        turns = [(*turn, 0) for turn in self._turns()]
        heapq.heapify(turns)
        starts = self._starts
        while turns:
            in_use, _, name, index = turns[0]
            ids = self._owners[name].waiting
            job = self._jobs[ids[index]][0]
            if gate is not None and not gate.admits(job.job_id, job.slots):
                heapq.heappop(turns)
                continue
            yield job
            starts += 1
            if index + 1 < len(ids):
                heapq.heapreplace(turns, (in_use + job.slots, starts, name, index + 1))
            else:
                heapq.heappop(turns)

    def place(self, job_id: int) -> int:
        """The job's place, from 1; one behind `EXACT_PLACES` is right to within the number of owners."""
        if len(self._jobs) > EXACT_PLACES:
            about = self._place_by_share(job_id)
            if about > EXACT_PLACES + len(self._owners):
                return about
        if self._places is None:
            first = islice(self.order(), EXACT_PLACES + 2 * len(self._owners))
            self._places = {job.job_id: place for place, job in enumerate(first, 1)}
        return self._places[job_id]

    def _place_by_share(self, job_id: int) -> int:
        """Counts whose turn comes at a smaller share of the slots; of equals the last start decides."""
        job, owner, _ = self._jobs[job_id]
        mine = self._owners[owner]
        own_sum = self._sums(mine)[bisect_left(mine.waiting, job_id)]
        share = mine.in_use + own_sum - job.slots - mine.base
        place = 1
        for name, who in self._owners.items():
            if not who.waiting or who is mine:
                continue
            sums, wanted = self._sums(who), share - who.in_use + who.base
            before = min(bisect_left(sums, wanted) + 1, len(sums)) if who.base < wanted else 0
            if before < len(sums) and (sums[before - 1] if before else who.base) == wanted:
                before += (who.last_start, name) < (mine.last_start, owner)
            place += before
        return place + bisect_left(mine.waiting, job_id)

    def _sums(self, who: _Owner) -> list[int]:
        if who.sums is None:
            who.base = 0
            who.sums = list(accumulate(self._jobs[job_id][0].slots for job_id in who.waiting))
        return who.sums

    def _turns(self) -> Iterator[tuple[int, int, str]]:
        """The rank of each owner who waits; the lowest goes first."""
        return ((who.in_use, who.last_start, name) for name, who in self._owners.items() if who.waiting)

    def _owner(self, name: str) -> _Owner:
        who = self._owners.get(name)
        if who is None:
            who = self._owners[name] = _Owner(last_start=self._last_starts.pop(name, 0))
        return who

    def _count(self, owner: str, team: str, running: int = 0, slots: int = 0, waiting: int = 0) -> None:
        for key in (f"user {owner}", f"team {team}") if team else (f"user {owner}",):
            share = self._shares.setdefault(key, Share())
            share.running += running
            share.slots += slots
            share.waiting += waiting
            if not (share.running or share.slots or share.waiting):
                del self._shares[key]

    def _forget_idle(self, name: str) -> None:
        who = self._owners[name]
        if who.waiting or who.in_use:
            return
        del self._owners[name]
        self._last_starts[name] = who.last_start
        if len(self._last_starts) > REMEMBERED_OWNERS:
            del self._last_starts[next(iter(self._last_starts))]
