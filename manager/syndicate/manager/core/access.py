"""Who may call what, and who sees which job: the one table and the few rules of it.

A call needs a role of its user and a scope of its token. Methods about one job say beside that whose it must
be: what one may not see does not exist for one (NOT_FOUND), what one sees and may not change is refused.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from .errors import NotAllowed, NotFound, Refused
from .frozen import frozen
from .model import JobSpec, Source, TokenScope, UserRole
from .records import JobRecord


class Whose(Enum):
    """Whose job a method is about. Staff may do to all jobs what others may to theirs."""

    NONE = "of no job"
    SEEN = "one's own, a team mate's, or one that is published"
    OWN = "one's own"


@frozen
class Rule:
    """What a method needs. `changes` where its calls go into the audit log."""

    role: UserRole
    scope: TokenScope
    changes: bool = False
    whose: Whose = Whose.NONE


@frozen
class Caller:
    """Who calls: a user, through one of its tokens."""

    name: str
    role: UserRole
    scope: TokenScope
    team: str
    token_id: str

    @property
    def is_staff(self) -> bool:
        """Whether nothing of a job is hidden from it."""
        return self.role >= UserRole.STAFF


@frozen
class Origin:
    """Where a call comes from: the caller, and the address that the manager saw."""

    caller: Caller
    peer: str


@frozen
class UserLimits:
    """What one student may do at once."""

    calls_per_s: float = 50.0
    calls_burst: float = 500.0
    streams: int = 64
    uploads: int = 4
    upload_bytes_per_s: float = float(32 << 20)
    upload_bytes_per_day: float = float(2 << 30)
    changes_per_day: float = 5_000.0


_STUDENT, _STAFF = UserRole.STUDENT, UserRole.STAFF
_READ, _SUBMIT, _ALL = TokenScope.READ, TokenScope.SUBMIT, TokenScope.ALL

RULES: Final[dict[str, Rule]] = {
    "UploadSource": Rule(_STUDENT, _SUBMIT, changes=True),
    "Submit": Rule(_STUDENT, _SUBMIT, changes=True),
    "CancelJob": Rule(_STUDENT, _SUBMIT, changes=True, whose=Whose.OWN),
    "GetJob": Rule(_STUDENT, _READ, whose=Whose.SEEN),
    "ListJobs": Rule(_STUDENT, _READ),
    "WatchJob": Rule(_STUDENT, _READ, whose=Whose.SEEN),
    "ReadLogs": Rule(_STUDENT, _READ, whose=Whose.SEEN),
    "ReadHistories": Rule(_STUDENT, _READ, whose=Whose.SEEN),
    "ReadDisks": Rule(_STUDENT, _READ, whose=Whose.SEEN),
    "ListBarriers": Rule(_STUDENT, _READ, whose=Whose.SEEN),
    "DropBarriers": Rule(_STUDENT, _ALL, changes=True, whose=Whose.OWN),
    "ListNodes": Rule(_STUDENT, _READ),
    "DrainNode": Rule(_STAFF, _ALL, changes=True),
    "GetCluster": Rule(_STUDENT, _READ),
    "PublishJob": Rule(_STAFF, _ALL, changes=True, whose=Whose.SEEN),
    "WhoAmI": Rule(_STUDENT, _READ),
    "PutUsers": Rule(_STAFF, _ALL, changes=True),
    "ListUsers": Rule(_STAFF, _READ),
    "PutTeam": Rule(_STAFF, _ALL, changes=True),
    "ListTeams": Rule(_STAFF, _READ),
    "CreateToken": Rule(_STUDENT, _ALL, changes=True),
    "ListTokens": Rule(_STUDENT, _READ),
    "RevokeToken": Rule(_STUDENT, _ALL, changes=True),
    "ListAudit": Rule(_STAFF, _READ),
}
"""Scheduler's methods. A method without a row is open to nobody."""

_CHAOS: Final = Rule(_STUDENT, _ALL, changes=True, whose=Whose.OWN)
_CHAOS_LOOK: Final = Rule(_STUDENT, _READ, whose=Whose.SEEN)

CHAOS_RULES: Final[dict[str, Rule]] = {
    "Kill": _CHAOS,
    "Revive": _CHAOS,
    "Disconnect": _CHAOS,
    "Reconnect": _CHAOS,
    "Reset": _CHAOS,
    "Partition": _CHAOS,
    "Degrade": _CHAOS,
    "Pause": _CHAOS,
    "Resume": _CHAOS,
    "DiskFull": _CHAOS,
    "Signal": _CHAOS,
    "Heal": _CHAOS,
    "ListFaults": _CHAOS_LOOK,
    "Finish": Rule(_STUDENT, _ALL, changes=True),
    "PutHistory": Rule(_STUDENT, _ALL, changes=True),
    "GatherHistories": Rule(_STUDENT, _ALL, changes=True),
    "ReadHistory": Rule(_STUDENT, _ALL, changes=True),
    "ListMembers": _CHAOS_LOOK,
    "Ping": _CHAOS_LOOK,
}
"""ChaosControl's methods, as users may call them about the job that they name.

Those of CLIENTS_ONLY refuse all of them.
"""

CLIENTS_ONLY: Final = frozenset({"Finish", "PutHistory", "GatherHistories", "ReadHistory"})
"""What only a client of the job may say and ask."""

LOOK_AROUND: Final = Rule(_STUDENT, _READ)
"""What tools ask: which methods there are, and whether they are served."""


def may(caller: Caller, rule: Rule) -> NotAllowed | None:
    """Why the caller may not call such a method; None where it may."""
    if caller.role < rule.role:
        return role_too_low(rule.role)
    if caller.scope < rule.scope:
        needs = rule.scope.name.lower()
        return NotAllowed(
            "OUT_OF_SCOPE", f"this token does not allow that; it needs scope {needs}", needs=needs
        )
    return None


def role_too_low(role: UserRole, what: str = "this") -> NotAllowed:
    """The refusal of something that takes a higher role."""
    needs = role.name.lower()
    return NotAllowed("ROLE_TOO_LOW", f"{what} needs role {needs}", needs=needs)


def sees(caller: Caller, owner: str, team: str, published: bool) -> bool:
    """Whether a job exists as far as the caller is concerned."""
    return caller.is_staff or published or caller.name == owner or bool(team and caller.team == team)


def sees_job(caller: Caller, job: JobRecord) -> bool:
    """The same of a job's row."""
    return sees(caller, job.owner, job.team, job.published)


def no_such_job(job_id: int, hidden: bool = False) -> NotFound:
    """What is said of a job that is not there, and in the same words of one that the caller may not see."""
    error = NotFound("NO_SUCH_JOB", f"there is no job {job_id}")
    error.denied = hidden
    return error


def check_job(caller: Caller, job_id: int, owner: str, whose: Whose) -> None:
    """Raises NotAllowed where a job that the caller sees is not the caller's to change."""
    if whose is Whose.OWN and not caller.is_staff and caller.name != owner:
        raise role_too_low(UserRole.STAFF, f"job {job_id} is {owner}'s: to change it")


def is_default(client: Source | None, default_client: Source | None) -> bool:
    """Whether a client is the manager's default one."""
    return client is not None and default_client is not None and client.sha256 == default_client.sha256


def may_have_source(caller: Caller, job: JobRecord, of_client: bool) -> bool:
    """Whether the caller may have what a task of this job was started from, which lies on its disk, too.

    Students their own job's and their team's; of its client where the owner gave it. That the job, or what
    clients print, is published gives nobody a source.
    """
    if caller.is_staff:
        return True
    if not sees(caller, job.owner, job.team, published=False):
        return False
    foreign = job.submitter is not None and job.submitter[0] != job.owner
    return not (of_client and (job.spec.graded or foreign))


def check_replay(caller: Caller, job: JobRecord, default_client: Source | None) -> None:
    """Raises where the caller may not run this job's sources once more: NotAllowed, and Refused.

    A student may with what he, or his team, could submit anew: his own source, and the client that he gave
    himself or that everybody's jobs get.
    """
    if caller.is_staff:
        return
    job_id, spec = job.job_id, job.spec
    if not sees(caller, job.owner, job.team, published=False):
        raise role_too_low(UserRole.STAFF, f"job {job_id} is {job.owner}'s: to replay it")
    if spec.client is None or is_default(spec.client, default_client):
        return
    if spec.graded:
        raise Refused(
            "CLIENT_CHANGED",
            f"job {job_id} had the client of this manager, which is another one now",
            hint="Submit its source again, or ask staff to replay it",
        )
    if job.submitter is not None and job.submitter[0] != job.owner:
        raise role_too_low(UserRole.STAFF, f"the client of job {job_id} is not {job.owner}'s: to replay it")


def check_chaos(caller: Caller, job_id: int, spec: JobSpec, default_client: Source | None) -> None:
    """Raises NotAllowed where a student would break a job whose client is the manager's default one.

    What that client finds is a grade, and it may not depend on what else was done to the job. Another default
    since its submission makes it no less of one.
    """
    if caller.is_staff or not (spec.graded or is_default(spec.client, default_client)):
        return
    raise NotAllowed(
        "GRADED",
        f"job {job_id} is graded: its client is the one of this manager, and only that may break it. Submit "
        "it with a client of your own, or with none, to break it by hand",
    )
