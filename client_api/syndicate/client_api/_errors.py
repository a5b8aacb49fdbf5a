"""Every error that this package raises.

The whole tree, with the side that is to blame::

    SyndicateError
    ├── ChaosError              a call of Chaos failed
    │   ├── NotConfigured       SYNDICATE_CHAOS is not set                 the surroundings
    │   ├── NotAnAddress        the argument is no IPv4 address            the caller
    │   ├── NoSuchMember        the address is nobody's in this job        the caller
    │   ├── BadField            another argument is malformed              the caller
    │   ├── NoSuchFault         the ledger has no such line                the caller
    │   ├── NoSuchHistory       nobody handed that history over            the caller
    │   ├── HistoryClosed       it was handed over whole, or is another    the caller
    │   ├── HistoryTooLarge     more than a job may hand over              the caller
    │   ├── HistoriesMissing    some clients still run without theirs      the job
    │   ├── TaskAlive           a live task cannot lose its disk           the caller
    │   ├── TaskDead            a dead task cannot be frozen or signalled  the caller
    │   ├── TooManyFaults       calls under way, or lines in the ledger    the caller
    │   ├── ClientFinished      this client has finished already           the caller
    │   ├── NotAClient          only client tasks may call                 the caller
    │   ├── JobNotRunning       the job is ending or has ended             the job
    │   ├── NotInReplay         the job that it replays had no such call   the job
    │   ├── JobIsGraded         its clients judge it: users break nothing  the job
    │   ├── AttemptEnded        the job was requeued meanwhile             the job
    │   ├── CannotDoIt          a member's machine is not able to          the cluster
    │   ├── Unavailable         manager or volunteer is away               the cluster
    │   ├── DeadlineExceeded    no answer in time; the effect may hold     the cluster
    │   └── FaultFailed         the volunteer could not apply it           the cluster
    ├── SchedulerError          a call of SchedulerClient failed
    │   ├── BadRequest          a field is malformed                       the caller
    │   ├── NotAuthenticated    no token, or a wrong one                   the caller
    │   │   ├── TokenExpired    its time is over
    │   │   └── UserDisabled    its user is disabled
    │   ├── NotAllowed          this caller may not do this                the caller
    │   │   ├── RoleTooLow      its user's role may not
    │   │   ├── OutOfScope      its token's scope may not
    │   │   └── NotPublished    students see it once it is published
    │   ├── NoSuchJob           no job of this id, or not for this caller  the caller
    │   ├── NoDisks             it kept none, or has not ended yet         the caller
    │   ├── NoSuchBarrier       no barrier of this name at its server      the caller
    │   ├── NoSuchNode          no volunteer of this id                    the caller
    │   ├── NoSuchUser          no user of this name                       the caller
    │   ├── NoSuchToken         no token of this id                        the caller
    │   ├── UserExists          there is a user of this name already       the caller
    │   ├── LastAdmin           nobody would be left who is an admin       the caller
    │   ├── CannotReplay        there is nothing of that job to replay     the caller
    │   ├── SourceRefused       the manager does not take this source      the caller
    │   ├── TooLarge            more slots than the cluster has            the caller
    │   ├── Exhausted           a bound is reached                         the caller
    │   │   ├── QuotaUsedUp     of the user or of its team
    │   │   ├── QueueFull       of all jobs that wait
    │   │   ├── TooManyCalls    of this user at once or in a second
    │   │   └── TooManyTokens   of one user
    │   ├── NotTrusted          whoever answers is not known as manager    the caller, or somebody in between
    │   └── Unreachable         the manager does not answer                the cluster
    ├── HistoryError            (of history) recorded, read or merged wrongly  the caller
    ├── NotHealed               a nemesis could not take back all it did   the cluster
    └── PackError               a source cannot be sent                    the caller
        ├── NoMakefile          it has none at its root
        ├── MissingTarget       its Makefile lacks a target
        └── SourceTooLarge      it is larger than the manager takes

Where Chaos speaks for a user (``SchedulerClient.chaos``) the manager may also refuse the token or the job:
those are SchedulerErrors.

An error of the server carries ``code`` (gRPC's name), ``reason`` (a constant word) and ``metadata``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


class SyndicateError(Exception):
    """Anything that this package raises on purpose."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What the server said when it refused a call, taken apart."""

    code: str
    """The gRPC status code's name, for instance ``NOT_FOUND``."""
    text: str = ""
    """The server's sentence."""
    reason: str = ""
    """A constant word such as ``NO_SUCH_MEMBER``; empty where the server gave none."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Named values that belong to the reason."""

    def number(self, key: str) -> float | None:
        """The finite number of this name; None where the server gave none, or anything else."""
        try:
            value = float(self.metadata.get(key, ""))
        except ValueError:
            return None
        return value if math.isfinite(value) else None


class _ServerError(SyndicateError):
    """An error that a server may have said."""

    def __init__(self, text: str, failure: Failure | None = None) -> None:
        super().__init__(text)
        self.code = failure.code if failure else ""
        self.reason = failure.reason if failure else ""
        self.metadata: Mapping[str, str] = dict(failure.metadata) if failure else {}


class ChaosError(_ServerError):
    """A call of Chaos failed."""


class NotConfigured(ChaosError):
    """SYNDICATE_CHAOS is not set: this process is no client task of a job."""


class NotAnAddress(ChaosError):
    """The argument is not an IPv4 address."""


class NoSuchMember(ChaosError):
    """The address belongs to no member of the caller's job."""


class TaskAlive(ChaosError):
    """A task that lives cannot be revived without its disk; kill it first."""


class BadField(ChaosError):
    """An argument is malformed; the text names it."""


class NoSuchFault(ChaosError):
    """The job's ledger has no line of this id."""


class NoSuchHistory(ChaosError):
    """No client of the job handed a history of this name over."""


class HistoryClosed(ChaosError):
    """The history was handed over whole, or there is another one of its name: give this one a name."""


class HistoryTooLarge(ChaosError):
    """More bytes, or more histories, than a job may hand over, or than the manager has room for.

    ``most`` is the bound, None where the manager's disk is full.
    """

    def __init__(self, text: str, failure: Failure | None = None) -> None:
        super().__init__(text, failure)
        self.most = failure.number("most") if failure else None


class HistoriesMissing(ChaosError):
    """Clients that still run have not handed everything over in the time given; the text names them."""


class TaskDead(ChaosError):
    """The task is not alive: it cannot be frozen, nor be sent a signal."""


class TooManyFaults(ChaosError):
    """The client has too many calls under way, or its job's ledger is full."""


class CannotDoIt(ChaosError):
    """A member's machine cannot do it; the text says why. Nothing was done.

    ``capability`` is what it lacks, for instance ``delay``; ``volunteer`` is the machine.
    """

    def __init__(self, text: str, failure: Failure | None = None) -> None:
        super().__init__(text, failure)
        self.capability = self.metadata.get("capability", "")
        self.volunteer = self.metadata.get("volunteer", "")


class ClientFinished(ChaosError):
    """This client has called ``finish`` already; it may list members and ping, nothing else."""


class NotAClient(ChaosError):
    """The call did not come through a client's socket."""


class JobNotRunning(ChaosError):
    """The job is ending or has ended."""


class NotInReplay(ChaosError):
    """The job replays another one, which had no such call, or no more of them: nothing was done."""


class JobIsGraded(ChaosError):
    """The job's client is the manager's own: what it finds is a grade, and students may not break it."""


class AttemptEnded(ChaosError):
    """The job was requeued while the call waited: this run of it is over."""


class Unavailable(ChaosError):
    """The manager, or the volunteer of the member, was away until the deadline."""


class DeadlineExceeded(ChaosError):
    """No answer came until the deadline. It is not known whether the effect holds."""


class FaultFailed(ChaosError):
    """The volunteer could not apply it; the text says why, and of several members where it may hold.

    Of what lasts ``metadata["call_id"]`` has the call's first line: ``heal`` of it settles what is left.
    """


class SchedulerError(_ServerError):
    """A call of SchedulerClient failed."""


class BadRequest(SchedulerError):
    """A field of the request is malformed; the text names it."""


class NotAuthenticated(SchedulerError):
    """There is no token, or the manager does not know it."""


class TokenExpired(NotAuthenticated):
    """The token was good, and its time is over."""


class UserDisabled(NotAuthenticated):
    """The token is good, and its user is disabled."""


class NotAllowed(SchedulerError):
    """The manager knows the token, and it may not do this; ``metadata`` may say what that ``needs``."""


class RoleTooLow(NotAllowed):
    """The role of the token's user may not do this."""


class OutOfScope(NotAllowed):
    """The user may do this, but not with a token of this scope."""


class NotPublished(NotAllowed):
    """A client's output is not shown to students before the job is published."""


class NoSuchJob(SchedulerError):
    """The manager has no job of this id, or none that this caller may see."""


class NoDisks(SchedulerError):
    """The job kept no disks, or has not ended yet: the text says which."""


class NoSuchBarrier(SchedulerError):
    """The job's sync server has no barrier of this name."""


class NoSuchNode(SchedulerError):
    """The manager has no volunteer of this id."""


class NoSuchUser(SchedulerError):
    """The manager has no user of this name."""


class NoSuchToken(SchedulerError):
    """The manager has no token of this id, or none that this caller may see."""


class UserExists(SchedulerError):
    """A user that was to be new is there already; ``metadata`` holds its ``name``."""


class LastAdmin(SchedulerError):
    """The change would leave nobody who is an admin."""


class CannotReplay(SchedulerError):
    """The job has not ended, no fault held in it, or what it ran is gone; ``metadata`` has a ``hint``."""


class SourceRefused(SchedulerError):
    """The manager does not take this source: empty, torn, too large, or not a tar archive."""


class TooLarge(SchedulerError):
    """More slots than the cluster has; ``metadata`` holds ``largest_machines`` and a ``hint`` for people."""


class Exhausted(SchedulerError):
    """A bound is reached.

    ``most`` is the bound, ``retry_after_s`` the seconds to wait; each is None where the manager left it out.
    """

    def __init__(self, text: str, failure: Failure | None = None) -> None:
        super().__init__(text, failure)
        self.most = failure.number("most") if failure else None
        self.retry_after_s = failure.number("retry_after_s") if failure else None


class QuotaUsedUp(Exhausted):
    """The quota of the user or of its team is used up; ``reason`` says which part of it."""


class QueueFull(Exhausted):
    """Too many jobs wait."""


class TooManyCalls(Exhausted):
    """The user has too many calls a second or open, or too many streams."""


class TooManyTokens(Exhausted):
    """The user has as many tokens as it may have."""


class NotTrusted(SchedulerError):
    """Whoever answers at the address does not show a certificate that is trusted; nothing was sent to it."""


class Unreachable(SchedulerError):
    """The manager did not answer. ``address``, ``cause`` and ``tried_for_s`` say who, why and how long."""

    def __init__(self, address: str, cause: str, tried_for_s: float, failure: Failure | None = None) -> None:
        super().__init__(f"no manager at {address} ({cause}, tried for {tried_for_s:.0f} s)", failure)
        self.address = address
        self.cause = cause
        self.tried_for_s = tried_for_s


class NotHealed(SyndicateError):
    """A nemesis is over, and some of what it did may still hold; ``unhealed`` says what."""

    def __init__(self, unhealed: tuple[str, ...]) -> None:
        super().__init__(f"not healed: {'; '.join(unhealed)}")
        self.unhealed = unhealed


class PackError(SyndicateError):
    """A source cannot be sent; ``remedy`` says what to do, where there is something to say."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class NoMakefile(PackError):
    """The source has no Makefile at its root."""


class MissingTarget(PackError):
    """The source's Makefile lacks a target."""


class SourceTooLarge(PackError):
    """The source is larger than the manager takes."""
