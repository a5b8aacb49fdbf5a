"""The part of a manager's users' side that knows users, teams and tokens, in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
from syndicate.v1 import common_pb2 as common
from syndicate.v1 import scheduler_pb2 as scheduler
from syndicate.v1 import scheduler_pb2_grpc

TOKEN = "a-token-of-tests"
BOOT = "boot-m"
NOW_S = 20.0
STUDENT, STAFF, ADMIN = scheduler.USER_ROLE_STUDENT, scheduler.USER_ROLE_STAFF, scheduler.USER_ROLE_ADMIN
READ, SUBMIT, ALL = scheduler.TOKEN_SCOPE_READ, scheduler.TOKEN_SCOPE_SUBMIT, scheduler.TOKEN_SCOPE_ALL


def stamp(seconds: float, boot: str = BOOT) -> common.Stamp:
    """An instant so many seconds after the job's start, on the manager's clock unless told otherwise."""
    return common.Stamp(
        boot_id=boot,
        monotonic_ns=1_000_000_000_000 + int(seconds * 1e9),
        utc_ns=1_750_000_000_000_000_000 + int(seconds * 1e9),
    )


class FakeIdentity(scheduler_pb2_grpc.SchedulerServicer):
    """Users, teams, tokens and the audit log, with the rules that commands depend on."""

    def __init__(self) -> None:
        self.users: dict[str, scheduler.User] = {}
        self.teams: dict[str, scheduler.Team] = {}
        self.tokens: dict[str, scheduler.Token] = {}
        self.secrets: dict[str, str] = {}
        """Secret to token id."""
        self.lines: list[scheduler.AuditLine] = []
        self.puts: list[scheduler.PutUsersRequest] = []
        self.meanwhile: Callable[[], object] = lambda: None
        """What somebody else does before the next change of a user or a team arrives."""
        self.lost_secrets = 0
        """So many answers with a secret get lost: the repeat is answered without it."""
        self.unavailable = 0
        """So many calls are refused as by a manager that is starting."""
        self.busy: list[str] = []
        """For each call that is put off: what it is told as `retry_after_s`."""
        self.fills_in_quotas = False
        """As an older manager that tells one who one is."""
        self.tokens_left = 1 << 30
        """After so many tokens a user has too many."""
        self.users["root"] = scheduler.User(name="root", role=ADMIN, created_at=stamp(-86400))
        self.add_token("root", TOKEN)

    def add_user(self, name: str, role: scheduler.UserRole.ValueType = STUDENT, team: str = "") -> str:
        """A user with a token; returns its secret."""
        self.users[name] = scheduler.User(name=name, role=role, team=team, created_at=stamp(-3600))
        if team:
            self.teams.setdefault(team, scheduler.Team(name=team))
        return self.add_token(name, f"secret-of-{name}")

    def add_token(
        self, user: str, secret: str, scope: scheduler.TokenScope.ValueType = ALL, **values: Any
    ) -> str:
        """A token; returns its secret."""
        token_id = f"t-{len(self.tokens) + 1}"
        self.tokens[token_id] = scheduler.Token(
            token_id=token_id, user=user, scope=scope, created_at=stamp(0), **values
        )
        self.secrets[secret] = token_id
        return secret

    def WhoAmI(self, request: scheduler.WhoAmIRequest, context: Any) -> Any:
        token = self.enter(context)
        answer = scheduler.WhoAmIResponse(user=self.users[token.user], token=token)
        held = scheduler.Quota(running_jobs=2, queued_jobs=10, submissions_per_day=20, machines=8)
        held.MergeFrom(answer.user.quota)  # a zero is no bound of the user's own
        (answer.user.quota if self.fills_in_quotas else answer.user.in_force).CopyFrom(held)
        answer.usage.CopyFrom(scheduler.Usage(running_jobs=1, submissions_left=14.7, machines=1))
        if answer.user.team:
            answer.team_quota.CopyFrom(scheduler.Quota(running_jobs=4, machines=-1))
            answer.team_usage.CopyFrom(scheduler.Usage(running_jobs=1, submissions_left=float("inf")))
        return answer

    def PutUsers(self, request: scheduler.PutUsersRequest, context: Any) -> Any:
        caller = self.users[self.enter(context, STAFF, ALL).user]
        self.meanwhile()
        for user in request.users:
            there = self.users.get(user.name)
            if request.only_new and there is not None:
                text = f"user {user.name} is there already"
                refuse(context, grpc.StatusCode.ALREADY_EXISTS, "USER_EXISTS", text, {"name": user.name})
            if caller.role < ADMIN and max(user.role, there.role if there is not None else 0) > STUDENT:
                self.too_low(context, "admin")
        after = {**self.users, **{user.name: user for user in request.users}}
        if not any(user.role == ADMIN and not user.disabled for user in after.values()):
            text = "nobody would be left who is an admin"
            refuse(context, grpc.StatusCode.FAILED_PRECONDITION, "LAST_ADMIN", text)
        added = sum(user.name not in self.users for user in request.users)
        for user in request.users:
            kept, there = scheduler.User(), self.users.get(user.name)
            kept.CopyFrom(user)
            if there is not None and request.HasField("update_mask"):
                kept.CopyFrom(there)
                request.update_mask.MergeMessage(user, kept, replace_message_field=True)
            kept.created_at.CopyFrom(stamp(NOW_S) if there is None else there.created_at)
            self.users[user.name] = kept
            if user.team:
                self.teams.setdefault(user.team, scheduler.Team(name=user.team))
        self.puts.append(request)
        return scheduler.PutUsersResponse(added=added, changed=len(request.users) - added)

    def ListUsers(self, request: scheduler.ListUsersRequest, context: Any) -> Any:
        self.enter(context, STAFF)
        names = [name for name in sorted(self.users) if request.name in ("", name)]
        part, rest = page(names, request)
        return scheduler.ListUsersResponse(users=[self.users[name] for name in part], next_page_token=rest)

    def PutTeam(self, request: scheduler.PutTeamRequest, context: Any) -> Any:
        self.enter(context, STAFF, ALL)
        self.meanwhile()
        there = self.teams.get(request.team.name)
        if there is not None and request.HasField("update_mask"):
            request.update_mask.MergeMessage(request.team, there, replace_message_field=True)
        else:
            self.teams[request.team.name] = request.team
        return scheduler.PutTeamResponse(added=there is None)

    def ListTeams(self, request: scheduler.ListTeamsRequest, context: Any) -> Any:
        self.enter(context, STAFF)
        for team in self.teams.values():
            team.members = sum(user.team == team.name for user in self.users.values())
        part, rest = page(sorted(self.teams), request)
        return scheduler.ListTeamsResponse(teams=[self.teams[name] for name in part], next_page_token=rest)

    def CreateToken(self, request: scheduler.CreateTokenRequest, context: Any) -> Any:
        caller = self.users[self.enter(context, STUDENT, ALL).user]
        name = request.user or caller.name
        if name not in self.users:
            refuse(context, grpc.StatusCode.NOT_FOUND, "NO_SUCH_USER", f"no user {name}")
        if name != caller.name and (caller.role < STAFF or self.users[name].role >= caller.role < ADMIN):
            self.too_low(context, "admin")
        if not self.tokens_left:
            text = f"{name} has too many tokens"
            refuse(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_TOKENS", text)
        self.tokens_left -= 1
        values: dict[str, Any] = {"note": request.note}
        if request.expires_in_s:
            values["expires_at"] = stamp(NOW_S + request.expires_in_s)
        secret = f"syn_t-{len(self.tokens) + 1}_{name}0123456789abcdef"
        token_id = self.secrets[self.add_token(name, secret, request.scope or ALL, **values)]
        if self.lost_secrets:
            self.lost_secrets -= 1
            secret = ""
        return scheduler.CreateTokenResponse(token=self.tokens[token_id], secret=secret)

    def ListTokens(self, request: scheduler.ListTokensRequest, context: Any) -> Any:
        caller = self.users[self.enter(context).user]
        wanted = "" if request.all else request.user or caller.name
        if wanted != caller.name and caller.role < STAFF:
            self.too_low(context, "staff")
        found = [key for key, token in reversed(self.tokens.items()) if wanted in ("", token.user)]
        part, rest = page(found, request)
        return scheduler.ListTokensResponse(tokens=[self.tokens[key] for key in part], next_page_token=rest)

    def RevokeToken(self, request: scheduler.RevokeTokenRequest, context: Any) -> Any:
        caller = self.users[self.enter(context, STUDENT, ALL).user]
        token = self.tokens.get(request.token_id)
        if token is None or (token.user != caller.name and caller.role < STAFF):
            text = f"no token {request.token_id}"
            refuse(context, grpc.StatusCode.NOT_FOUND, "NO_SUCH_TOKEN", text)
            raise AssertionError("a refused call ends")
        token.revoked_at.CopyFrom(stamp(NOW_S))
        return scheduler.RevokeTokenResponse(token=token)

    def ListAudit(self, request: scheduler.ListAuditRequest, context: Any) -> Any:
        self.enter(context, STAFF)
        found = [
            line
            for line in reversed(self.lines)
            if request.user in ("", line.who)
            and (not request.job_id or line.subject == f"job {request.job_id}")
            and not (request.denied and line.allowed)
        ]
        part, rest = page(found, request)
        return scheduler.ListAuditResponse(lines=part, next_page_token=rest)

    def enter(
        self,
        context: Any,
        role: scheduler.UserRole.ValueType = STUDENT,
        scope: scheduler.TokenScope.ValueType = READ,
    ) -> scheduler.Token:
        """The token of a call that may be made; ends any other."""
        metadata = dict(context.invocation_metadata())
        secret = metadata.get("authorization", "").removeprefix("Bearer ")
        token = self.tokens.get(self.secrets.get(secret, ""))
        unauthenticated = grpc.StatusCode.UNAUTHENTICATED
        if token is None or token.HasField("revoked_at"):
            refuse(context, unauthenticated, "BAD_TOKEN", "no such token")
            raise AssertionError("a refused call ends")
        if token.HasField("expires_at") and token.expires_at.utc_ns <= stamp(NOW_S).utc_ns:
            refuse(context, unauthenticated, "TOKEN_EXPIRED", "the token has expired")
        if self.users[token.user].disabled:
            refuse(context, unauthenticated, "USER_DISABLED", f"user {token.user} is disabled")
        if self.unavailable:
            self.unavailable -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "the manager is starting")
        if self.busy:
            values = {"retry_after_s": self.busy.pop(0)}
            text = "too many calls a second"
            refuse(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS", text, values)
        if self.users[token.user].role < role:
            self.too_low(context, "admin" if role == ADMIN else "staff")
        if token.scope < scope:
            needs = scheduler.TokenScope.Name(scope).removeprefix("TOKEN_SCOPE_").lower()
            text = f"this token does not allow that; it needs scope {needs}"
            refuse(context, grpc.StatusCode.PERMISSION_DENIED, "OUT_OF_SCOPE", text, {"needs": needs})
        return token

    def too_low(self, context: Any, needs: str) -> None:
        """Refuses for want of a role."""
        denied = grpc.StatusCode.PERMISSION_DENIED
        refuse(context, denied, "ROLE_TOO_LOW", f"this needs role {needs}", {"needs": needs})


def page(found: list[Any], request: Any) -> tuple[list[Any], str]:
    """One page of a list, two long where nothing is asked for, and where the next one begins."""
    start, size = int(request.page_token or 0), request.page_size or 2
    rest = str(start + size) if start + size < len(found) else ""
    return found[start : start + size], rest


def refuse(
    context: grpc.ServicerContext,
    code: grpc.StatusCode,
    reason: str,
    text: str,
    values: dict[str, str] | None = None,
) -> None:
    """Ends a call as the manager does, with its reason in plain trailing metadata."""
    metadata = [("syndicate-reason", reason)]
    metadata += [(f"syndicate-meta-{key}", value) for key, value in (values or {}).items()]
    context.set_trailing_metadata(tuple(metadata))
    context.abort(code, text)
