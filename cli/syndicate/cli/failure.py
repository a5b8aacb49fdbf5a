"""Errors for people: one clear line, then what to do, then how the command ends."""

from __future__ import annotations

from syndicate.cli import exit_codes
from syndicate.cli.render.fit import UNLIMITED, hung, laid_out
from syndicate.cli.render.neutralise import neutralise_text
from syndicate.client_api import (
    BadRequest,
    NoSuchJob,
    NoSuchNode,
    NotAllowed,
    NotAuthenticated,
    NotTrusted,
    PackError,
    SourceRefused,
    SyndicateError,
    TooLarge,
    Unreachable,
)

NOTHING = "Nothing was submitted."


class CliError(Exception):
    """A command cannot go on. ``lines`` are printed below the message, indented."""

    def __init__(self, message: str, *lines: str, code: int) -> None:
        super().__init__(message)
        self.message = message
        self.lines = lines
        self.code = code

    def text(self, room: int = UNLIMITED) -> str:
        """As it is printed to standard error."""
        rows = hung("error: ", neutralise_text(self.message), room)
        for line in filter(None, self.lines):
            rows += laid_out("  ", neutralise_text(line), room)
        return "\n".join(rows)


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
        return CliError(error.message, error.remedy, NOTHING, code=exit_codes.BAD_SOURCE)
    if isinstance(error, SourceRefused):
        return CliError(f"the manager refuses the source: {error}", NOTHING, code=exit_codes.BAD_SOURCE)
    if isinstance(error, TooLarge):
        hint = error.metadata.get("hint", "").rstrip(".")
        return CliError(str(error), f"{hint}. {NOTHING}" if hint else NOTHING, code=exit_codes.BAD_SOURCE)
    if isinstance(error, NotAuthenticated):
        return CliError(
            f"the manager does not accept the token ({error})",
            "Name the right one:  --token-file FILE or SYNDICATE_TOKEN_FILE or SYNDICATE_TOKEN",
            code=exit_codes.NOT_ALLOWED,
        )
    if isinstance(error, NotAllowed):
        return CliError(f"not allowed: {error}", code=exit_codes.NOT_ALLOWED)
    if isinstance(error, NoSuchJob):
        return CliError(str(error), "Which are there?  syndicatectl jobs --all", code=exit_codes.NOT_FOUND)
    if isinstance(error, NoSuchNode):
        return CliError(str(error), "Which are there?  syndicatectl nodes", code=exit_codes.NOT_FOUND)
    if isinstance(error, BadRequest):
        return CliError(f"the manager refuses it: {error}", code=exit_codes.USAGE)
    return CliError(str(error), code=exit_codes.INTERNAL)
