"""Users of a cluster in tests of the core."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from manager_core.harness import Cluster
from syndicate.manager.core.access import Caller, Origin
from syndicate.manager.core.masks import Mask
from syndicate.manager.core.model import Quota, TokenScope, UserRole
from syndicate.manager.core.records import TokenRecord
from syndicate.manager.core.user_events import (
    CreateToken,
    FirstToken,
    PublishJob,
    PutTeam,
    PutUsers,
    RevokeToken,
    UserWish,
)
from syndicate.manager.core.users import FIRST_TOKEN, digest_of

ADMIN = Caller("admin", UserRole.ADMIN, TokenScope.ALL, "", FIRST_TOKEN)
TUTOR = Caller("tutor", UserRole.STAFF, TokenScope.ALL, "", "t-tutor")


class People:
    """A cluster with an admin, and what callers ask of it."""

    def __init__(self, slots: int = 4, **config: Any) -> None:
        self.cluster = Cluster(**config)
        if slots:
            self.cluster.volunteer(slots=slots)
        token = TokenRecord(FIRST_TOKEN, "admin", "", TokenScope.ALL, digest_of("s"), self.cluster.now)
        self.cluster.do(FirstToken(token))
        self._requests = 0

    def request_id(self) -> str:
        """A fresh one."""
        self._requests += 1
        return f"r-{self._requests}"

    def put(
        self,
        *wishes: UserWish,
        by: Caller = ADMIN,
        request_id: str = "",
        only_new: bool = False,
        fields: Iterable[str] | None = None,
    ) -> Any:
        """PutUsers; the reply or the error."""
        request_id, mask = request_id or self.request_id(), mask_of(fields)
        return self.cluster.ask(
            lambda call: PutUsers(call, request_id, Origin(by, "::1"), wishes, only_new, mask)
        )

    def team(self, name: str, quota: Quota, by: Caller = ADMIN, fields: Iterable[str] | None = None) -> Any:
        """PutTeam."""
        request_id, mask = self.request_id(), mask_of(fields)
        return self.cluster.ask(lambda call: PutTeam(call, request_id, Origin(by, "::1"), name, quota, mask))

    def token(
        self,
        by: Caller = ADMIN,
        user: str = "",
        scope: TokenScope | None = None,
        expires_in_s: float = 0.0,
        note: str = "",
        request_id: str = "",
    ) -> Any:
        """CreateToken."""
        request_id = request_id or self.request_id()
        origin = Origin(by, "::1")
        return self.cluster.ask(
            lambda call: CreateToken(
                call, request_id, origin, user, note, scope, expires_in_s, digest_of(request_id)
            )
        )

    def revoke(self, token_id: str, by: Caller = ADMIN) -> Any:
        """RevokeToken."""
        request_id = self.request_id()
        return self.cluster.ask(lambda call: RevokeToken(call, request_id, Origin(by, "::1"), token_id))

    def publish(self, job_id: int, published: bool = True) -> Any:
        """PublishJob, with the row that the store has where the job has ended."""
        request_id, record = self.request_id(), self.cluster.job(job_id).job
        stored = record if record.ended_at is not None else None
        return self.cluster.ask(
            lambda call: PublishJob(call, request_id, Origin(TUTOR, "::1"), job_id, published, stored)
        )


def mask_of(fields: Iterable[str] | None) -> Mask | None:
    """The mask of these fields; None for none."""
    return None if fields is None else Mask(fields)


def student(name: str, team: str = "", quota: Quota | None = None, **fields: Any) -> UserWish:
    """A student as it should be."""
    return UserWish(
        name, fields.pop("role", UserRole.STUDENT), team, fields.pop("disabled", False), quota or Quota()
    )


def called(name: str, role: UserRole = UserRole.STUDENT, token_id: str = "t") -> Caller:
    """A user's call with a token for everything."""
    return Caller(name, role, TokenScope.ALL, "", token_id)
