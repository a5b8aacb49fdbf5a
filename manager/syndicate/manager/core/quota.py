"""What users and teams may have at once: asked when a job is submitted, and when it could start.

A job whose owner, or whose owner's team, has used up `queued_jobs` or `submissions_per_day` is refused, and
so is one that alone has more slots than `machines`. `running_jobs` and `machines` of all jobs together hold
up a job that waits: it keeps its place, others pass it, and `waits_for` says what ends the wait.

An owner who is no user, for instance of a job that an admin submitted in somebody's name, has no bounds.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from .bucket import Bucket
from .errors import Exhausted
from .frozen import frozen
from .model import UNBOUNDED, Config, Quota, UserRole
from .records import UserRecord
from .words import count
from .world import World

_DAY_S: Final = 86_400.0
_UNSAID: Final = Quota()


@frozen
class Usage:
    """What is in use of a quota; `submissions_left` is infinite where they are not counted."""

    running_jobs: int
    queued_jobs: int
    submissions_left: float
    machines: int


@frozen
class Party:
    """A user or a team, with its bounds. `key` is its name among all parties."""

    key: str
    who: str
    quota: Quota


def default_for(config: Config, role: UserRole) -> Quota:
    """The bounds of a user of whom none are said."""
    if role is UserRole.ADMIN:
        return UNBOUNDED
    return config.staff_quota if role is UserRole.STAFF else config.student_quota


def filled_in(quota: Quota, default: Quota) -> Quota:
    """The quota with the defaults where it says 0."""
    if quota == _UNSAID:
        return default
    return Quota(
        quota.running_jobs or default.running_jobs,
        quota.queued_jobs or default.queued_jobs,
        quota.submissions_per_day or default.submissions_per_day,
        quota.machines or default.machines,
    )


def of_user(config: Config, user: UserRecord) -> Quota:
    """A user's bounds, its role's defaults filled in."""
    return filled_in(user.quota, default_for(config, user.role))


def parties(world: World, owner: str, team: str) -> list[Party]:
    """Those whose bounds hold for a job: its owner, and the team that it was submitted in."""
    return _parties(world, owner, team, unbounded=True)


def _parties(world: World, owner: str, team: str, unbounded: bool = False) -> list[Party]:
    """Those whose bounds hold for a job; also those who have no bound at all where that is asked for."""
    found = []
    if (user := world.users.get(owner)) is not None:
        bounds = of_user(world.config, user)
        if unbounded or bounds is not UNBOUNDED:
            found.append(Party(f"user {owner}", owner, bounds))
    if team and (known := world.teams.get(team)) is not None:
        bounds = filled_in(known.quota, world.config.team_quota)
        if unbounded or bounds is not UNBOUNDED:
            found.append(Party(f"team {team}", f"team {team}", bounds))
    return found


def usage(world: World, party: Party, now_ns: int) -> Usage:
    """What a party has."""
    share = world.queue.share(party.key)
    per_day = party.quota.submissions_per_day
    left = (
        _bucket(world, party, now_ns).left(now_ns, per_day / _DAY_S, per_day)
        if per_day >= 0
        else float("inf")
    )
    return Usage(share.running, share.waiting, left, share.slots)


def check(world: World, owner: str, team: str, slots: int) -> None:
    """Raises Exhausted (QUOTA_MACHINES, QUOTA_QUEUED, QUOTA_SUBMISSIONS) where a job may not be submitted."""
    for party in _parties(world, owner, team):
        quota, share = party.quota, world.queue.share(party.key)
        if 0 <= quota.machines < slots:
            has = (
                f"{party.who} may have {count(quota.machines, 'slot')} at once, and this job needs {slots:,}"
            )
            raise Exhausted("QUOTA_MACHINES", has, most=str(quota.machines))
        if 0 <= quota.queued_jobs <= share.waiting:
            has = f"{count(share.waiting, 'job')} of {party.who} {'waits' if share.waiting == 1 else 'wait'}"
            raise Exhausted("QUOTA_QUEUED", f"{has} already, which is the most", most=str(quota.queued_jobs))
        per_day = quota.submissions_per_day
        if (
            per_day >= 0
            and (left := _bucket(world, party, world.ns).left(world.ns, per_day / _DAY_S, per_day)) < 1
        ):
            wait_s = (1 - left) * _DAY_S / per_day if per_day else _DAY_S
            raise Exhausted(
                "QUOTA_SUBMISSIONS",
                f"{party.who} may submit {count(per_day, 'job')} a day and has done so; the next can go in "
                f"{wait_s:,.0f} s",
                most=str(per_day),
                retry_after_s=f"{wait_s:.1f}",
            )


def spend(world: World, owner: str, team: str, at_ns: int) -> None:
    """Counts a submission that was made at a time on the manager's monotonic clock."""
    for party in _parties(world, owner, team):
        per_day = party.quota.submissions_per_day
        if per_day > 0:
            _bucket(world, party, at_ns).owe(at_ns, per_day / _DAY_S, per_day, 1.0)


def _bucket(world: World, party: Party, at_ns: int) -> Bucket:
    # It begins with what was submitted first, which may be before the host's clock began: below 0.
    return world.submissions.setdefault(party.key, Bucket(at_ns=at_ns))


class Gate:
    """Which of the waiting jobs may start beside each other; one for each look at the queue."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._running: Counter[str] = Counter()
        self._slots: Counter[str] = Counter()

    def admits(self, job_id: int, slots: int) -> bool:
        """Whether the job may start too. If so, it counts for those that are asked about after it."""
        record = self._world.jobs[job_id].record
        found = _parties(self._world, record.owner, record.team)
        if any(self._holds_up(party, slots) for party in found):
            return False
        for party in found:
            self._running[party.key] += 1
            self._slots[party.key] += slots
        return True

    def held_by(self, job_id: int, slots: int) -> Party | None:
        """Whose bounds keep the job from starting now; None where nobody's do."""
        record = self._world.jobs[job_id].record
        found = _parties(self._world, record.owner, record.team)
        return next((party for party in found if self._holds_up(party, slots)), None)

    def _holds_up(self, party: Party, slots: int) -> bool:
        quota = party.quota
        if quota.running_jobs < 0 and quota.machines < 0:
            return False
        share = self._world.queue.share(party.key)
        if 0 <= quota.running_jobs <= share.running + self._running[party.key]:
            return True
        return 0 <= quota.machines < share.slots + self._slots[party.key] + slots
