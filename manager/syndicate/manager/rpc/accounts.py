"""The part of Scheduler about users, teams, tokens and the audit log."""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from typing import Final

from syndicate.v1 import common_pb2
from syndicate.v1 import scheduler_pb2 as pb

from ..core import effects, model, quota, user_events
from ..core.access import role_too_low
from ..core.errors import BadRequest
from ..core.masks import Mask
from ..core.model import TokenScope, UserRole
from ..core.records import AuditRecord, TokenRecord, UserRecord
from ..core.users import digest_of, token_text
from ..engine import Engine
from ..store import Store
from . import caller as callers
from . import convert
from .pages import page, page_number, page_size
from .types import Context

_SECRET_BYTES: Final = 32
# Those who stand in the audit log are users, volunteers (`node NAME`), and logins of the manager's machine,
# which may have any letters and are the longest of them (LOGIN_NAME_MAX).
_LONGEST_WHO: Final = 255


class Accounts:
    """The calls; a base of the servicer. `_engine` and `_store` are its."""

    _engine: Engine
    _store: Store

    async def WhoAmI(self, request: pb.WhoAmIRequest, context: Context) -> pb.WhoAmIResponse:
        """The caller, and what is left of its quota."""
        caller, machine, config = callers.current(), self._engine.machine, self._engine.config
        user, token = machine.user(caller.name), machine.token(caller.token_id)
        assert user is not None  # noqa: S101 - the door has just found both
        assert token is not None  # noqa: S101
        await self._engine.durable()
        answer = pb.WhoAmIResponse(user=user_out(user, quota.of_user(config, user)), token=token_out(token))
        found = machine.parties(user.name, user.team, self._engine.clock.now())
        for party, used in found:
            if party.key == f"user {user.name}":
                answer.usage.CopyFrom(_usage_out(used))
            else:
                answer.team_quota.CopyFrom(quota_out(party.quota))
                answer.team_usage.CopyFrom(_usage_out(used))
        return answer

    # ---- users and teams --------------------------------------------------------------------------------

    async def PutUsers(self, request: pb.PutUsersRequest, context: Context) -> pb.PutUsersResponse:
        """Add or change users, all or none."""
        request_id = convert.request_id(request.request_id)
        origin, mask = callers.origin(context), _mask_in(request)
        wishes = tuple(_wish_in(user, index, mask) for index, user in enumerate(request.users))
        reply = await self._engine.call(
            lambda call: user_events.PutUsers(call, request_id, origin, wishes, request.only_new, mask)
        )
        assert isinstance(reply, effects.PutUsersReply)  # noqa: S101 - the event's contract
        return pb.PutUsersResponse(added=reply.added, changed=reply.changed)

    async def ListUsers(self, request: pb.ListUsersRequest, context: Context) -> pb.ListUsersResponse:
        """Users, by name."""
        size = page_size(request.page_size)
        users, config = self._engine.machine.users(), self._engine.config
        await self._engine.durable()
        found = (
            user_out(user, quota.of_user(config, user))
            for user in users
            if user.name > request.page_token and request.name in ("", user.name)
        )
        rows, more = page(found, size)
        return pb.ListUsersResponse(users=rows, next_page_token=rows[-1].name if more else "")

    async def PutTeam(self, request: pb.PutTeamRequest, context: Context) -> pb.PutTeamResponse:
        """Add a team, or change its quota."""
        request_id = convert.request_id(request.request_id)
        origin, mask = callers.origin(context), _mask_in(request)
        name, wish = request.team.name, _quota_in(request.team.quota)
        reply = await self._engine.call(
            lambda call: user_events.PutTeam(call, request_id, origin, name, wish, mask)
        )
        assert isinstance(reply, effects.PutTeamReply)  # noqa: S101 - the event's contract
        return pb.PutTeamResponse(added=reply.added)

    async def ListTeams(self, request: pb.ListTeamsRequest, context: Context) -> pb.ListTeamsResponse:
        """Teams, by name."""
        size = page_size(request.page_size)
        teams, default = self._engine.machine.teams(), self._engine.config.team_quota
        await self._engine.durable()
        found = (
            pb.Team(
                name=team.name,
                quota=quota_out(team.quota),
                members=members,
                in_force=quota_out(quota.filled_in(team.quota, default)),
            )
            for team, members in teams
            if team.name > request.page_token
        )
        rows, more = page(found, size)
        return pb.ListTeamsResponse(teams=rows, next_page_token=rows[-1].name if more else "")

    # ---- tokens -----------------------------------------------------------------------------------------

    async def CreateToken(self, request: pb.CreateTokenRequest, context: Context) -> pb.CreateTokenResponse:
        """Make a token, and tell its secret this once."""
        request_id = convert.request_id(request.request_id)
        scope = convert.known(TokenScope, request.scope, "scope") if request.scope else None
        if not math.isfinite(request.expires_in_s):
            raise BadRequest("BAD_FIELD", "expires_in_s is not a number of seconds", field="expires_in_s")
        origin, secret = callers.origin(context), secrets.token_hex(_SECRET_BYTES)
        digest = digest_of(secret)
        reply = await self._engine.call(
            lambda call: user_events.CreateToken(
                call, request_id, origin, request.user, request.note, scope, request.expires_in_s, digest
            )
        )
        assert isinstance(reply, effects.TokenReply)  # noqa: S101 - the event's contract
        text = "" if reply.again else token_text(reply.token.token_id, secret)
        return pb.CreateTokenResponse(token=token_out(reply.token), secret=text)

    async def ListTokens(self, request: pb.ListTokensRequest, context: Context) -> pb.ListTokensResponse:
        """Tokens, newest first."""
        size, caller = page_size(request.page_size), callers.current()
        whose = "" if request.all else request.user or caller.name
        if whose != caller.name and not caller.is_staff:
            raise role_too_low(UserRole.STAFF, "the tokens of others:")
        tokens = [token for token in self._engine.machine.tokens() if whose in ("", token.user)]
        await self._engine.durable()
        rows, more = page((token_out(token) for token in _behind(tokens, request.page_token)), size)
        return pb.ListTokensResponse(tokens=rows, next_page_token=rows[-1].token_id if more else "")

    async def RevokeToken(self, request: pb.RevokeTokenRequest, context: Context) -> pb.RevokeTokenResponse:
        """End a token."""
        request_id = convert.request_id(request.request_id)
        origin = callers.origin(context)
        reply = await self._engine.call(
            lambda call: user_events.RevokeToken(call, request_id, origin, request.token_id)
        )
        assert isinstance(reply, effects.TokenReply)  # noqa: S101 - the event's contract
        return pb.RevokeTokenResponse(token=token_out(reply.token))

    # ---- the audit log ----------------------------------------------------------------------------------

    async def ListAudit(self, request: pb.ListAuditRequest, context: Context) -> pb.ListAuditResponse:
        """The audit log, newest first."""
        size = page_size(request.page_size)
        before = page_number(request.page_token)
        if len(request.user) > _LONGEST_WHO:
            return pb.ListAuditResponse()  # nobody's; as in ListJobs
        self._engine.handle(user_events.WriteAudit())
        await self._engine.durable()
        found = await self._store.list_audit(
            before, size + 1, request.user, max(request.job_id, 0), request.denied
        )
        rows, more = page((_line_out(record) for record in found), size)
        return pb.ListAuditResponse(lines=rows, next_page_token=str(rows[-1].line) if more else "")


def _behind(tokens: Sequence[TokenRecord], page_token: str) -> Sequence[TokenRecord]:
    """The tokens after the one that ended the last page."""
    if not page_token:
        return tokens
    for place, token in enumerate(tokens):
        if token.token_id == page_token:
            return tokens[place + 1 :]
    raise BadRequest("BAD_PAGE_TOKEN", f"{page_token[:64]!r} is no page token of this list")


# ---- between the protos and the core --------------------------------------------------------------------


def user_out(user: UserRecord, in_force: model.Quota) -> pb.User:
    """A user, with the bounds that hold."""
    return pb.User(
        name=user.name,
        role=convert.number(user.role),
        team=user.team,
        disabled=user.disabled,
        quota=quota_out(user.quota),
        created_at=convert.stamp_out(user.created_at),
        in_force=quota_out(in_force),
    )


def token_out(token: TokenRecord) -> pb.Token:
    """A token, without anything secret of it."""
    return pb.Token(
        token_id=token.token_id,
        user=token.user,
        note=token.note,
        scope=convert.number(token.scope),
        created_at=convert.stamp_out(token.created_at),
        expires_at=common_pb2.Stamp(utc_ns=token.expires_utc_ns) if token.expires_utc_ns else None,
        revoked_at=convert.stamp_out(token.revoked_at),
        last_used_at=convert.stamp_out(token.last_used_at),
    )


def quota_out(bounds: model.Quota) -> pb.Quota:
    """A quota."""
    return pb.Quota(
        running_jobs=bounds.running_jobs,
        queued_jobs=bounds.queued_jobs,
        submissions_per_day=bounds.submissions_per_day,
        machines=bounds.machines,
    )


def _quota_in(bounds: pb.Quota) -> model.Quota:
    return model.Quota(bounds.running_jobs, bounds.queued_jobs, bounds.submissions_per_day, bounds.machines)


def _mask_in(request: pb.PutUsersRequest | pb.PutTeamRequest) -> Mask | None:
    """None where there is none, which is not one without paths."""
    return Mask(request.update_mask.paths) if request.HasField("update_mask") else None


def _wish_in(user: pb.User, index: int, mask: Mask | None) -> user_events.UserWish:
    needs_role = mask is None or "role" in mask
    try:
        role = convert.known(UserRole, user.role, f"users[{index}].role") if user.role or needs_role else None
    except BadRequest as error:
        error.metadata.update(field=f"users[{index}].role", index=str(index))
        raise
    return user_events.UserWish(user.name, role, user.team, user.disabled, _quota_in(user.quota))


def _usage_out(used: quota.Usage) -> pb.Usage:
    left = used.submissions_left
    return pb.Usage(
        running_jobs=used.running_jobs,
        queued_jobs=used.queued_jobs,
        submissions_left=left if math.isfinite(left) else -1.0,
        machines=used.machines,
    )


def _line_out(record: AuditRecord) -> pb.AuditLine:
    return pb.AuditLine(
        line=record.line,
        at=convert.stamp_out(record.at),
        who=record.who,
        token_id=record.token_id,
        peer=record.peer,
        method=record.method,
        subject=record.subject,
        allowed=record.allowed,
        reason=record.reason,
    )
