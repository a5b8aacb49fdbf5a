"""The two doors: whose tokens open them, and for which methods.

A token of one door means nothing at the other. Users come with `syn_<id>_<secret>`, found by its id in a map
and compared in constant time. Volunteers come with certificates; without TLS they share a token.
"""

from __future__ import annotations

import hmac
from typing import Final, Protocol

from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.reflection import SERVICE_NAME as REFLECTION
from syndicate.v1 import chaos_pb2, scheduler_pb2

from ..core.access import CHAOS_RULES, LOOK_AROUND, RULES, Caller, Rule, may
from ..core.errors import Away, CoreError, NotAllowed, NotKnown
from ..core.model import UserRole
from ..core.records import TokenRecord, UserRecord
from ..core.users import digest_of, has_expired, opens, parts_of
from ..engine import Engine
from . import caller as callers
from .peers import Peers
from .types import Context

_HEALTH: Final = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
_CHAOS: Final = chaos_pb2.DESCRIPTOR.services_by_name["ChaosControl"].full_name
_SCHEDULER: Final = scheduler_pb2.DESCRIPTOR.services_by_name["Scheduler"].full_name


def bad_token() -> NotKnown:
    """The refusal of a credential that nobody has."""
    text = "no or a wrong token: send one of this manager's as metadata `authorization: Bearer TOKEN`"
    return NotKnown("BAD_TOKEN", text)


class Door(Protocol):
    """Who may come in, and to what."""

    def known(self, token: str) -> Caller | None:
        """Whose token it is; None where those who come in have no names. Raises NotKnown."""

    def check(self, caller: Caller | None, method: str) -> bool:
        """Whether the method (`/package.Service/Method`) is one of a user that changes something.

        Raises NotAllowed where the caller may not call it.
        """

    def admit(self, context: Context) -> None:
        """Raises CoreError where the call is not let in. Each begins with it: nothing of it was read."""

    def still(self, context: Context) -> None:
        """Raises CoreError where the call is not let in any more, now that its request is there.

        That may have come long after the headers. A call that is a stream of messages is not asked again.
        """


class CertifiedDoor:
    """For volunteers with certificates: TLS has asked for them, and they say who calls. No token opens it."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    def known(self, token: str) -> None:
        """Nobody yet: what a call shows is seen where it begins."""

    def check(self, caller: Caller | None, method: str) -> bool:
        """Every method of the listener is theirs, and none is a user's."""
        return False

    def admit(self, context: Context) -> None:
        """Raises NotAllowed for a certificate that is none of a volunteer's here, revoked, or expired."""
        self._peers.admit(context)

    def still(self, context: Context) -> None:
        """As when it began: its certificate may have been revoked since."""
        self._peers.admit(context)


class VolunteersDoor:
    """Without certificates: for those who hold the volunteers' token. Who they are, their streams say."""

    def __init__(self, token: str) -> None:
        self._digest = digest_of(token)

    def known(self, token: str) -> None:
        """Nobody by name. Raises NotKnown (BAD_TOKEN)."""
        if not hmac.compare_digest(digest_of(token), self._digest):
            raise bad_token()

    def check(self, caller: Caller | None, method: str) -> bool:
        """Every method of the listener is theirs, and none is a user's."""
        return False

    def admit(self, context: Context) -> None:
        """Any connection will do."""

    def still(self, context: Context) -> None:
        """Any connection will do."""


class UsersDoor:
    """For users, by their own tokens and roles."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._rules: dict[str, Rule] = {f"/{_SCHEDULER}/{name}": rule for name, rule in RULES.items()}
        self._rules.update({f"/{_CHAOS}/{name}": rule for name, rule in CHAOS_RULES.items()})
        self._rules[f"/{REFLECTION}/ServerReflectionInfo"] = LOOK_AROUND
        self._rules[f"/{_HEALTH}/Watch"] = LOOK_AROUND
        # Callers by token, with what they were made of: records are replaced, never changed.
        self._callers: dict[str, tuple[TokenRecord, UserRecord, Caller]] = {}
        self._used: set[str] = set()

    def known(self, token: str) -> Caller:
        """Raises NotKnown (BAD_TOKEN, TOKEN_EXPIRED, USER_DISABLED)."""
        token_id, secret = parts_of(token)
        record = self._engine.machine.token(token_id)
        if record is None or not opens(record, secret):
            raise bad_token()
        try:
            caller = self._caller(record)
        except NotKnown as error:
            error.token_id = token_id
            raise
        self._used.add(token_id)
        return caller

    def check(self, caller: Caller | None, method: str) -> bool:
        """Raises NotAllowed (ROLE_TOO_LOW, OUT_OF_SCOPE)."""
        rule = self._rules.get(method)
        if caller is None or rule is None:
            raise NotAllowed(
                "ROLE_TOO_LOW", "this method is open to nobody", needs=UserRole.ADMIN.name.lower()
            )
        if (refusal := may(caller, rule)) is not None:
            raise refusal
        return rule.changes

    def admit(self, context: Context) -> None:
        """All that it asks was asked a moment ago, as the method was looked up."""

    def still(self, context: Context) -> None:
        """Raises NotKnown, Away where the caller is not any more who it was as its method was looked up."""
        if (error := self.changed(callers.current())) is not None:
            raise error

    def changed(self, caller: Caller) -> CoreError | None:
        """Why a call of this caller would not go on as it began; None where it would."""
        record = self._engine.machine.token(caller.token_id)
        if record is None:
            return bad_token()
        try:
            now = self._caller(record)
        except NotKnown as error:
            return error
        return (
            None if now == caller else Away("MANAGER_AWAY", "what this user may do has changed; call again")
        )

    def take_used(self) -> set[str]:
        """The ids of tokens that were used since this was asked last."""
        used, self._used = self._used, set()
        # Whoever makes and ends tokens on and on leaves nothing behind.
        token = self._engine.machine.token
        self._callers = {key: found for key, found in self._callers.items() if token(key) is found[0]}
        return used

    def _caller(self, record: TokenRecord) -> Caller:
        if record.revoked_at is not None:
            raise bad_token()
        if record.expires_utc_ns and has_expired(record, self._engine.clock.now()):
            raise NotKnown("TOKEN_EXPIRED", "this token has expired: make another one, or ask for one")
        user = self._engine.machine.user(record.user)
        if user is None:
            raise bad_token()
        if user.disabled:
            raise NotKnown("USER_DISABLED", f"the user {user.name} is disabled")
        found = self._callers.get(record.token_id)
        if found is not None and found[0] is record and found[1] is user:
            return found[2]
        caller = Caller(user.name, user.role, record.scope, user.team, record.token_id)
        self._callers[record.token_id] = (record, user, caller)
        return caller
