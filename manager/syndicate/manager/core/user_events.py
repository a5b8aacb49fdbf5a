"""What users ask about users, tokens and the audit log: a part of the vocabulary of `Machine.handle`.

`origin` says who calls and from where; the line of the audit log is written in the same step as the change.
"""

from __future__ import annotations

from .access import Origin
from .frozen import frozen
from .masks import Mask
from .model import Quota, Stamp, TokenScope, UserRole
from .records import JobRecord, TokenRecord


@frozen
class UserWish:
    """A user as it should be. `role` may be None where it is not to change."""

    name: str
    role: UserRole | None
    team: str
    disabled: bool
    quota: Quota


@frozen
class PutUsers:
    """Add or change users, all or none; of those that are there, what `mask` has. Reply: PutUsersReply.

    Errors: BadRequest, NotAllowed(ROLE_TOO_LOW), Conflict(USER_EXISTS), Refused(LAST_ADMIN).
    """

    call: int
    request_id: str
    origin: Origin
    users: tuple[UserWish, ...]
    only_new: bool = False
    mask: Mask | None = None


@frozen
class PutTeam:
    """Add a team or change its quota, or what `mask` has of it. Reply: PutTeamReply. Errors: BadRequest."""

    call: int
    request_id: str
    origin: Origin
    name: str
    quota: Quota
    mask: Mask | None = None


@frozen
class CreateToken:
    """Make a token whose secret has this SHA-256. Reply: TokenReply.

    `user` empty for the caller's own, `scope` None for as much as the caller's token, `expires_in_s` 0 for
    the manager's default. Errors: BadRequest, NotAllowed, NotFound(NO_SUCH_USER), Exhausted(TOO_MANY_TOKENS).
    """

    call: int
    request_id: str
    origin: Origin
    user: str
    note: str
    scope: TokenScope | None
    expires_in_s: float
    digest: str


@frozen
class RevokeToken:
    """End a token. Reply: TokenReply. Errors: NotAllowed, NotFound(NO_SUCH_TOKEN)."""

    call: int
    request_id: str
    origin: Origin
    token_id: str


@frozen
class PublishJob:
    """Show a job to everybody, or take that back. Reply: PublishReply. Errors: NotFound.

    `stored` is the job's row in the store where it has ended, since memory may not have all of it.
    """

    call: int
    request_id: str
    origin: Origin
    job_id: int
    published: bool
    stored: JobRecord | None = None


@frozen
class TokensUsed:
    """When tokens were last used, by token id."""

    used: tuple[tuple[str, Stamp], ...]


@frozen
class Audited:
    """Something that changed nothing here goes into the audit log: a denied call, an upload."""

    who: str
    token_id: str
    peer: str
    method: str
    subject: str
    allowed: bool
    reason: str = ""
    job_id: int = 0


@frozen
class FirstToken:
    """The token of the first admin, as its file has it. Makes the user where there is none."""

    token: TokenRecord


@frozen
class WriteAudit:
    """Whoever reads the audit log now is to find all that happened before."""


UserCall = PutUsers | PutTeam | CreateToken | RevokeToken | PublishJob
UserEvent = UserCall | TokensUsed | Audited | FirstToken | WriteAudit
