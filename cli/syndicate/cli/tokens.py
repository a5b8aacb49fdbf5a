"""What is asked of a token that is to be made."""

from __future__ import annotations

import re
from dataclasses import dataclass

from syndicate.cli import exit_codes
from syndicate.cli.durations import parse_duration
from syndicate.cli.failure import CliError
from syndicate.client_api import SchedulerClient
from syndicate.v1 import scheduler_pb2
from syndicate.v1.scheduler_pb2 import CreateTokenResponse, TokenScope

MOST_NOTE = 200
_TOKEN = re.compile(r"syn_([a-z0-9-]+)_[A-Za-z0-9]+")
SCOPES: dict[str, TokenScope.ValueType] = {
    "read": scheduler_pb2.TOKEN_SCOPE_READ,
    "submit": scheduler_pb2.TOKEN_SCOPE_SUBMIT,
    "all": scheduler_pb2.TOKEN_SCOPE_ALL,
}


@dataclass(frozen=True, slots=True)
class TokenWish:
    """Note, scope and time of a token. Empty or unset ones are the manager's defaults."""

    note: str = ""
    scope: TokenScope.ValueType = scheduler_pb2.TOKEN_SCOPE_UNSPECIFIED
    expires_in_s: float = 0.0

    def make(self, client: SchedulerClient, user: str) -> CreateTokenResponse:
        """Makes one for a user; the caller's own for an empty name."""
        return client.create_token(
            user=user, note=self.note, scope=self.scope, expires_in_s=self.expires_in_s
        )


def token_id_of(text: str) -> str:
    """The id, also of a whole token that was given in its place: the manager writes ids down."""
    whole = _TOKEN.fullmatch(text)
    return whole[1] if whole else text


def only_with_a_token(wish: TokenWish, remedy: str) -> None:
    """Raises CliError for what is asked of a token where none is to be made."""
    asked = {"--note": wish.note, "--scope": wish.scope, "--expires": wish.expires_in_s}
    for option in (name for name, value in asked.items() if value):
        raise CliError(f"{option} is a token's, and none is asked for", remedy, code=exit_codes.USAGE)


def token_wish(note: str, scope: str, expires: str) -> TokenWish:
    """The wish of these options. Raises CliError."""
    if len(note) > MOST_NOTE or not note.isprintable():
        raise CliError(
            f"--note has at most {MOST_NOTE} characters, all of them printable", code=exit_codes.USAGE
        )
    if scope and scope not in SCOPES:
        raise CliError(
            f"--scope {scope!r} is no scope", f"There are: {', '.join(SCOPES)}.", code=exit_codes.USAGE
        )
    return TokenWish(
        note,
        SCOPES.get(scope, scheduler_pb2.TOKEN_SCOPE_UNSPECIFIED),
        parse_duration(expires, "--expires") if expires else 0.0,
    )
