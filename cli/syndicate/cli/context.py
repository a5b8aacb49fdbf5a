"""Which manager a command talks to, and with which token.

In this order: the options, the environment (SYNDICATE_MANAGER, SYNDICATE_TOKEN, SYNDICATE_TOKEN_FILE), the
context file that ``syndicatectl up`` leaves, the default 127.0.0.1:7000 without a token. The context file is
``$XDG_STATE_HOME/syndicate/context.toml`` (``~/.local/state/syndicate/context.toml``); its token is used for
its own manager only.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from syndicate.cli import exit_codes
from syndicate.cli.failure import CliError
from syndicate.client_api import SchedulerClient

DEFAULT_MANAGER = "127.0.0.1:7000"
_USER = re.compile(r"[a-z0-9-]{1,63}")


@dataclass(frozen=True, slots=True)
class Context:
    """What ``up`` leaves for later commands."""

    manager: str
    token_file: str
    directory: str
    """The state folder of the cluster, for ``down``."""


@dataclass(frozen=True, slots=True)
class Target:
    """A manager and the token for it."""

    manager: str
    token: str
    user: str = ""
    """Whose jobs are submitted, where the token leaves that open."""

    def connect(self) -> SchedulerClient:
        """Opens a connection; raises nothing until the first call."""
        return SchedulerClient(self.manager, self.token, user=self.user)


@dataclass(frozen=True, slots=True)
class Given:
    """The options of one command line; None for those that were not given."""

    manager: str | None = None
    token: str | None = None
    token_file: str | None = None
    user: str | None = None

    def over(self, other: Given) -> Given:
        """These options, and the other ones where these say nothing."""
        token_of = self if self.token or self.token_file else other
        return Given(
            self.manager or other.manager, token_of.token, token_of.token_file, self.user or other.user
        )


def context_path(environ: Mapping[str, str]) -> Path:
    """Where the context file is, or would be."""
    state = environ.get("XDG_STATE_HOME") or str(
        Path(environ.get("HOME") or "~").expanduser() / ".local/state"
    )
    return Path(state) / "syndicate" / "context.toml"


def read_context(path: Path) -> Context | None:
    """The context, or None where there is none. Raises CliError for a file that is not one."""
    try:
        values = tomllib.loads(path.read_text())
        return Context(values["manager"], values["token_file"], values["directory"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError) as error:
        raise CliError(
            f"{path} cannot be read ({error})",
            "Remove it; `syndicatectl up` writes it.",
            code=exit_codes.USAGE,
        ) from None


def write_context(path: Path, context: Context) -> None:
    """Writes the context in one step, for its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(f".{os.getpid()}")
    # JSON's strings are TOML's basic strings.
    fresh.write_text(
        "# Written by `syndicatectl up`; removed by `syndicatectl down`.\n"
        f"manager = {json.dumps(context.manager)}\n"
        f"token_file = {json.dumps(context.token_file)}\n"
        f"directory = {json.dumps(context.directory)}\n"
    )
    fresh.chmod(0o600)
    fresh.replace(path)


def resolve(given: Given, environ: Mapping[str, str]) -> Target:
    """Finds manager and token. Raises CliError for a token that cannot be read."""
    context = read_context(context_path(environ))
    manager = given.manager or environ.get("SYNDICATE_MANAGER") or (context.manager if context else "")
    manager = manager or DEFAULT_MANAGER
    host, colon, port = manager.rpartition(":")
    if not (host and colon and port.isdigit()):
        raise CliError(
            f"{manager} is no address of a manager", "It is written HOST:PORT.", code=exit_codes.USAGE
        )
    return Target(manager, _token(given, environ, context, manager), _user(given, environ))


def _token(given: Given, environ: Mapping[str, str], context: Context | None, manager: str) -> str:
    if given.token is not None:
        return given.token
    if given.token_file is not None:
        return _read_token(given.token_file)
    if environ.get("SYNDICATE_TOKEN"):
        return environ["SYNDICATE_TOKEN"]
    if environ.get("SYNDICATE_TOKEN_FILE"):
        return _read_token(environ["SYNDICATE_TOKEN_FILE"])
    if context is not None and context.manager == manager:
        return _read_token(context.token_file)
    return ""


def _user(given: Given, environ: Mapping[str, str]) -> str:
    name = given.user or environ.get("SYNDICATE_USER", "")
    if name and not _USER.fullmatch(name):
        raise CliError(
            f"{name!r} is no user's name", "It is written with a-z, 0-9 and -.", code=exit_codes.USAGE
        )
    login = next((environ[key] for key in ("SUDO_USER", "LOGNAME", "USER") if environ.get(key)), "")
    return name or (login if _USER.fullmatch(login) else "")


def _read_token(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except (OSError, ValueError) as error:
        why = error.strerror.lower() if isinstance(error, OSError) and error.strerror else "not a text"
        raise CliError(f"the token file {path} cannot be read ({why})", code=exit_codes.NOT_ALLOWED) from None
