"""Errors for people: one clear line, then what to do, then how the command ends."""

from __future__ import annotations

import re

from syndicate.cli import exit_codes
from syndicate.cli.render.fit import UNLIMITED, hung, laid_out
from syndicate.cli.render.neutralise import neutralise_text
from syndicate.cli.render.quantities import duration_text
from syndicate.client_api import (
    AttemptEnded,
    BadField,
    BadRequest,
    CannotDoIt,
    CannotReplay,
    ChaosError,
    DeadlineExceeded,
    Exhausted,
    FaultFailed,
    JobIsGraded,
    LastAdmin,
    NoSuchBarrier,
    NoSuchFault,
    NoSuchJob,
    NoSuchMember,
    NoSuchNode,
    NoSuchToken,
    NoSuchUser,
    NotAClient,
    NotAllowed,
    NotAnAddress,
    NotAuthenticated,
    NotPublished,
    NotTrusted,
    OutOfScope,
    PackError,
    QuotaUsedUp,
    RoleTooLow,
    SchedulerError,
    SourceRefused,
    SyndicateError,
    TokenExpired,
    TooLarge,
    TooManyFaults,
    TooManyTokens,
    Unavailable,
    Unreachable,
    UserDisabled,
    UserExists,
)

NOTHING = "Nothing was submitted."
_TOKEN = re.compile(r"\b(syn_[a-z0-9-]+_)[A-Za-z0-9]+|\b([0-9a-f]{8}\.)[A-Za-z0-9_-]{40,}")
"""A user's token, and one by which machines join."""


class CliError(Exception):
    """A command cannot go on. ``lines`` are printed below the message, indented."""

    def __init__(self, message: str, *lines: str, code: int) -> None:
        super().__init__(message)
        self.message = message
        self.lines = lines
        self.code = code

    def text(self, room: int = UNLIMITED) -> str:
        """As it is printed to standard error."""
        rows = hung("error: ", without_tokens(neutralise_text(self.message)), room)
        for line in filter(None, self.lines):
            rows += laid_out("  ", without_tokens(neutralise_text(line)), room)
        return "\n".join(rows)


def without_tokens(text: str) -> str:
    """A text in which no token can be read: errors repeat what stood where it should not."""
    return _TOKEN.sub(r"\1\2…", text)


_WHERE_TO_LOOK: dict[type[SyndicateError], str] = {
    NoSuchJob: "syndicatectl jobs --all",
    NoSuchBarrier: "syndicatectl barriers JOB",
    NoSuchNode: "syndicatectl nodes",
    NoSuchUser: "syndicatectl user list",
    NoSuchToken: "syndicatectl token list",
}

_NO_BARRIERS: dict[str, str] = {
    "JOB_NOT_RUNNING": "What became of its barriers:  syndicatectl show JOB",
    "NO_SYNC_SERVER": "Another time without  --sync-server none",
}


def explain(error: SyndicateError) -> CliError:
    """What an error of client_api means to the user of a command."""
    if isinstance(error, Unreachable):
        return CliError(
            str(error),
            "Does `syndicate-manager` run there?     Another one?  --manager HOST:PORT or SYNDICATE_MANAGER",
            code=exit_codes.MANAGER_AWAY,
        )
    if isinstance(error, NotTrusted):
        return CliError(
            str(error),
            "Name the cluster's authority:  --ca FILE or SYNDICATE_CA     Is it this cluster, this address?",
            code=exit_codes.NOT_ALLOWED,
        )
    if isinstance(error, PackError):
        return CliError(error.message, error.remedy, NOTHING, code=exit_codes.REFUSED)
    if isinstance(error, SourceRefused):
        return CliError(f"the manager refuses the source: {error}", NOTHING, code=exit_codes.REFUSED)
    if isinstance(error, TooLarge):
        hint = error.metadata.get("hint", "").rstrip(".")
        return CliError(str(error), f"{hint}. {NOTHING}" if hint else NOTHING, code=exit_codes.REFUSED)
    if isinstance(error, CannotReplay):
        hint = error.metadata.get("hint", "").rstrip(".")
        code = exit_codes.TRY_AGAIN if error.reason == "JOB_NOT_ENDED" else exit_codes.REFUSED
        return CliError(str(error), f"{hint}. {NOTHING}" if hint else NOTHING, code=code)
    if isinstance(error, (TokenExpired, UserDisabled)):
        return CliError(str(error), "Ask the staff of the cluster.", code=exit_codes.NOT_ALLOWED)
    if isinstance(error, NotAuthenticated):
        return CliError(
            f"the manager does not accept the token ({error})",
            "Name the right one:  --token-file FILE or SYNDICATE_TOKEN_FILE or SYNDICATE_TOKEN",
            code=exit_codes.NOT_ALLOWED,
        )
    if isinstance(error, NotAllowed):
        return CliError(f"not allowed: {error}", _who_may(error), code=exit_codes.NOT_ALLOWED)
    if isinstance(error, Exhausted):
        return _exhausted(error)
    for kind, command in _WHERE_TO_LOOK.items():
        if isinstance(error, kind):
            return CliError(str(error), f"Which are there?  {command}", code=exit_codes.NOT_FOUND)
    if isinstance(error, UserExists):
        name = error.metadata.get("name", "NAME")
        return CliError(str(error), f"Change it:  syndicatectl user change {name} …", code=exit_codes.REFUSED)
    if isinstance(error, LastAdmin):
        return CliError(
            str(error),
            "Another one:  syndicatectl user change NAME --role admin",
            code=exit_codes.REFUSED,
        )
    if isinstance(error, ChaosError):
        return _chaos(error)
    if isinstance(error, BadRequest):
        return CliError(f"the manager refuses it: {error}", code=exit_codes.USAGE)
    if isinstance(error, SchedulerError) and error.reason in _NO_BARRIERS:
        return CliError(str(error), _NO_BARRIERS[error.reason], code=exit_codes.REFUSED)
    return CliError(str(error), code=exit_codes.INTERNAL)


def _chaos(error: ChaosError) -> CliError:
    """What became of a fault: refused, not known, or not done."""
    if isinstance(error, (BadField, NotAnAddress)):
        return CliError(f"the manager refuses it: {error}", code=exit_codes.USAGE)
    if isinstance(error, (NoSuchMember, NoSuchFault)):
        where = "chaos faults JOB" if isinstance(error, NoSuchFault) else "show JOB"
        return CliError(str(error), f"Which are there?  syndicatectl {where}", code=exit_codes.NOT_FOUND)
    if isinstance(error, (JobIsGraded, NotAClient)):
        return CliError(f"not allowed: {error}", code=exit_codes.NOT_ALLOWED)
    if isinstance(error, DeadlineExceeded):
        note = "It is not known whether it holds:  syndicatectl chaos faults JOB"
        return CliError(str(error), note, code=exit_codes.TRY_AGAIN)
    if isinstance(error, Unavailable):
        away = error.reason == "" or error.reason == "MANAGER_AWAY"
        return CliError(str(error), code=exit_codes.MANAGER_AWAY if away else exit_codes.TRY_AGAIN)
    if error.reason == "JOB_NOT_RUNNING":
        note = "Only a running job can be broken:  syndicatectl jobs --state running"
        return CliError(str(error), note, code=exit_codes.REFUSED)
    if isinstance(error, (TooManyFaults, AttemptEnded)):
        return CliError(str(error), code=exit_codes.TRY_AGAIN)
    if isinstance(error, CannotDoIt):
        return CliError(str(error), "Which can?  syndicatectl nodes --wide", code=exit_codes.REFUSED)
    code = exit_codes.INTERNAL if isinstance(error, FaultFailed) or not error.reason else exit_codes.REFUSED
    return CliError(str(error), code=code)


def _who_may(error: NotAllowed) -> str:
    """What to do about it; what is needed the error says itself."""
    if isinstance(error, RoleTooLow):
        return "Who are you?  syndicatectl whoami"
    if isinstance(error, OutOfScope):
        return "What it allows:  syndicatectl whoami     Another one:  --token-file FILE or --context NAME"
    if isinstance(error, NotPublished):
        return "Staff can show it to everybody:  syndicatectl publish JOB"
    return ""


def _exhausted(error: Exhausted) -> CliError:
    """What of a bound can be waited for is to be tried again, what never fits is refused."""
    after = error.retry_after_s
    wait = f"Try again in {duration_text(max(1.0, after))}." if after is not None else "Try again later."
    code = exit_codes.TRY_AGAIN
    if isinstance(error, TooManyTokens):
        wait = "Revoke some:  syndicatectl token list     Then:  syndicatectl token revoke ID"
        code = exit_codes.REFUSED
    elif isinstance(error, QuotaUsedUp):
        if error.reason == "QUOTA_QUEUED":
            wait = "Wait, or end one:  syndicatectl jobs     Then:  syndicatectl cancel JOB"
        elif error.reason == "QUOTA_MACHINES" and after is None:
            wait, code = "Ask for fewer machines.", exit_codes.REFUSED
        wait = f"{wait}     What is left:  syndicatectl whoami"
    return CliError(str(error), wait, code=code)
