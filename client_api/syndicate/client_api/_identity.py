"""The calls of ``SchedulerClient`` about users, teams, tokens and the audit log."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask
from syndicate.client_api._errors import NoSuchUser, SchedulerError
from syndicate.v1 import scheduler_pb2, scheduler_pb2_grpc

_MOST_LOST = 3
"""So many tokens in a row may be made without their secrets arriving."""


class IdentityCalls:
    """What SchedulerClient does about identities. Every call raises SchedulerError."""

    _stub: scheduler_pb2_grpc.SchedulerStub

    def whoami(self) -> scheduler_pb2.WhoAmIResponse:
        """The caller's user, its token without the secret, its quota and what it uses."""
        answer: scheduler_pb2.WhoAmIResponse = self._unary(self._stub.WhoAmI, scheduler_pb2.WhoAmIRequest())
        return answer

    def put_users(
        self,
        users: Iterable[scheduler_pb2.User],
        *,
        only_new: bool = False,
        fields: Iterable[str] | None = None,
    ) -> scheduler_pb2.PutUsersResponse:
        """Adds users, or changes those that are there: all or none, at most 10,000.

        Of those that are there only ``fields`` change (``["disabled", "quota.machines"]``); without it all of
        them does, also what somebody else has changed since they were read. Raises BadRequest, LastAdmin,
        RoleTooLow, and UserExists with ``only_new``.
        """
        request = scheduler_pb2.PutUsersRequest(
            request_id=_request_id(), users=users, only_new=only_new, update_mask=_mask(fields)
        )
        answer: scheduler_pb2.PutUsersResponse = self._unary(self._stub.PutUsers, request)
        return answer

    def users(self, *, page_size: int = 0) -> Iterator[scheduler_pb2.User]:
        """Users by name, fetched page by page as they are taken."""
        for answer in self._pages(self._stub.ListUsers, scheduler_pb2.ListUsersRequest(page_size=page_size)):
            yield from answer.users

    def user(self, name: str) -> scheduler_pb2.User:
        """One user. Raises NoSuchUser."""
        request = scheduler_pb2.ListUsersRequest(page_size=1, name=name)
        answer: scheduler_pb2.ListUsersResponse = self._unary(self._stub.ListUsers, request)
        if not answer.users:
            raise NoSuchUser(f"no user {name}")
        return answer.users[0]

    def put_team(self, team: scheduler_pb2.Team, *, fields: Iterable[str] | None = None) -> bool:
        """Adds a team, or changes its quota, or ``fields`` of it alone; returns whether it is new."""
        request = scheduler_pb2.PutTeamRequest(request_id=_request_id(), team=team, update_mask=_mask(fields))
        answer: scheduler_pb2.PutTeamResponse = self._unary(self._stub.PutTeam, request)
        return answer.added

    def teams(self, *, page_size: int = 0) -> Iterator[scheduler_pb2.Team]:
        """Teams by name, fetched page by page as they are taken."""
        for answer in self._pages(self._stub.ListTeams, scheduler_pb2.ListTeamsRequest(page_size=page_size)):
            yield from answer.teams

    def create_token(
        self,
        *,
        user: str = "",
        note: str = "",
        scope: scheduler_pb2.TokenScope.ValueType = scheduler_pb2.TOKEN_SCOPE_UNSPECIFIED,
        expires_in_s: float = 0.0,
    ) -> scheduler_pb2.CreateTokenResponse:
        """Makes a token and tells its secret, this once. Raises NoSuchUser, TooManyTokens, NotAllowed.

        Without ``user`` it is the caller's own; 0 seconds are the manager's default. Where an answer was lost
        on its way nobody knows the secret: that token is revoked, and another one is made.
        """
        for _ in range(_MOST_LOST):
            request = scheduler_pb2.CreateTokenRequest(
                request_id=_request_id(), user=user, note=note, scope=scope, expires_in_s=expires_in_s
            )
            answer: scheduler_pb2.CreateTokenResponse = self._unary(self._stub.CreateToken, request)
            if answer.secret:
                return answer
            self.revoke_token(answer.token.token_id)
        raise SchedulerError(
            f"the manager made {_MOST_LOST} tokens, and the answers were lost; all are revoked"
        )

    def tokens(
        self, *, user: str = "", everybody: bool = False, page_size: int = 0
    ) -> Iterator[scheduler_pb2.Token]:
        """Tokens, newest first, without their secrets; the caller's own unless told otherwise."""
        request = scheduler_pb2.ListTokensRequest(page_size=page_size, user=user, all=everybody)
        for answer in self._pages(self._stub.ListTokens, request):
            yield from answer.tokens

    def revoke_token(self, token_id: str) -> scheduler_pb2.Token:
        """Ends a token for good. Raises NoSuchToken."""
        request = scheduler_pb2.RevokeTokenRequest(request_id=_request_id(), token_id=token_id)
        answer: scheduler_pb2.RevokeTokenResponse = self._unary(self._stub.RevokeToken, request)
        return answer.token

    def publish(self, job_id: int, published: bool = True) -> bool:
        """Lets every user see a job with all its output, or takes that back. Raises NoSuchJob."""
        request = scheduler_pb2.PublishJobRequest(
            request_id=_request_id(), job_id=job_id, published=published
        )
        answer: scheduler_pb2.PublishJobResponse = self._unary(self._stub.PublishJob, request)
        return answer.published

    def audit(
        self, *, user: str = "", job_id: int = 0, denied: bool = False, page_size: int = 0
    ) -> Iterator[scheduler_pb2.AuditLine]:
        """Calls that changed something or were denied, newest first, fetched as they are taken."""
        request = scheduler_pb2.ListAuditRequest(page_size=page_size, user=user, job_id=job_id, denied=denied)
        for answer in self._pages(self._stub.ListAudit, request):
            yield from answer.lines

    def _pages(self, method: Any, request: Any) -> Iterator[Any]:
        """The answers of a list, page by page; the request's ``page_token`` is filled in."""
        while True:
            answer = self._unary(method, request)
            yield answer
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token

    def _unary(self, method: Any, request: Any) -> Any:
        raise NotImplementedError  # SchedulerClient's


def _mask(fields: Iterable[str] | None) -> FieldMask | None:
    return None if fields is None else FieldMask(paths=fields)


def _request_id() -> str:
    return str(uuid.uuid4())
