"""Which manager a command talks to, and with which token.

In this order: the options, the environment (SYNDICATE_MANAGER, SYNDICATE_TOKEN, SYNDICATE_TOKEN_FILE), the
context file that ``syndicatectl up`` leaves, the default 127.0.0.1:7000 without a token. The context file is
``$XDG_STATE_HOME/syndicate/context.toml`` (``~/.local/state/syndicate/context.toml``); its token is used for
its own manager only.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from syndicate.cli import exit_codes
from syndicate.cli.failure import CliError, explain
from syndicate.cli.render.job_lines import labelled
from syndicate.cli.render.quantities import duration_text
from syndicate.cli.start_again import lines_to_start_again
from syndicate.cli.terminal import Terminal
from syndicate.client_api import NotAuthenticated, SchedulerClient, Unreachable

DEFAULT_MANAGER = "127.0.0.1:7000"
_USER = re.compile(r"[a-z0-9-]{1,63}")


@dataclass(frozen=True, slots=True)
class Context:
    """What ``up`` leaves for later commands."""

    manager: str
    token_file: str
    directory: str
    """The state folder of the cluster, for ``down``."""
    ca_file: str = ""
    """The certificate of the cluster's own authority; empty where it speaks clear text."""


@dataclass(frozen=True, slots=True)
class Target:
    """A manager and the token for it."""

    manager: str
    token: str
    user: str = ""
    """Whose jobs are submitted, where the token leaves that open."""
    token_from: str = ""
    """Where the token stands, for people; empty when there is none."""
    local: str = ""
    """The manager of the cluster that ``up`` left word of; empty without one."""
    directory: str = ""
    """The state folder of that cluster; empty without one."""
    ca_file: str = ""
    """The certificate of the authority that the manager's is of; empty for those that gRPC trusts."""
    insecure: bool = False
    """Whether to speak clear text."""

    def connect(self, on_away: Callable[[Unreachable | None, float], None] | None = None) -> SchedulerClient:
        """Opens a connection; raises nothing until the first call. ``on_away``: see SchedulerClient."""
        return SchedulerClient(
            self.manager,
            self.token,
            user=self.user,
            ca=self.ca_file or None,
            insecure=self.insecure,
            on_away=on_away,
        )

    def explain(self, error: NotAuthenticated | Unreachable) -> CliError:
        """What to do about a manager that is away, or that does not accept this token."""
        if isinstance(error, NotAuthenticated):
            return self._refused()
        if not _is_loopback(self.manager):
            return explain(error)
        here = "Start one here:  syndicatectl up"
        if self.local and _same(self.local, self.manager):
            here = f"Start it again:  {lines_to_start_again(Path(self.directory))}"
        return CliError(
            str(error),
            f"{here}     Another one?  --manager HOST:PORT or SYNDICATE_MANAGER",
            code=exit_codes.MANAGER_AWAY,
        )

    def _refused(self) -> CliError:
        remedy = "Name the right one:  --token-file FILE or SYNDICATE_TOKEN_FILE or SYNDICATE_TOKEN"
        if self.token:
            message = f"the manager at {self.manager} does not know the token of {self.token_from}"
            return CliError(message, remedy, code=exit_codes.NOT_ALLOWED)
        other = self.local and not _same(self.local, self.manager)
        return CliError(
            f"the manager at {self.manager} asks for a token, and none was sent",
            f"The token that `syndicatectl up` left is for {self.local} only." if other else "",
            remedy.replace("the right one", "one"),
            code=exit_codes.NOT_ALLOWED,
        )


@dataclass(frozen=True, slots=True)
class Given:
    """The options of one command line; None for those that were not given."""

    manager: str | None = None
    token: str | None = None
    token_file: str | None = None
    user: str | None = None
    ca: str | None = None
    insecure: bool = False

    def over(self, other: Given) -> Given:
        """These options, and the other ones where these say nothing."""
        token_of = self if self.token or self.token_file else other
        return Given(
            self.manager or other.manager,
            token_of.token,
            token_of.token_file,
            self.user or other.user,
            self.ca or other.ca,
            self.insecure or other.insecure,
        )


def tell_presence(terminal: Terminal, error: Unreachable | None, seconds: float) -> None:
    """One line on standard error when the manager is away and is tried again, one when it is back."""
    if error is None:
        terminal.note(labelled("manager", f"back after {duration_text(seconds)}"))
    else:
        text = f"away ({error.cause}), retrying for up to {seconds:g} s"
        terminal.note(labelled("manager", text))


def context_path(environ: Mapping[str, str]) -> Path:
    """Where the context file is, or would be."""
    state = environ.get("XDG_STATE_HOME") or str(
        Path(environ.get("HOME") or "~").expanduser() / ".local/state"
    )
    return Path(state) / "syndicate" / "context.toml"


def read_context(path: Path) -> Context | None:
    """The context, or None where there is none for this user. Raises CliError for a file that is not one."""
    try:
        values = tomllib.loads(path.read_text())
        ca_file = str(values.get("ca_file", ""))
        return Context(values["manager"], values["token_file"], values["directory"], ca_file)
    except (FileNotFoundError, PermissionError):
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
        f"ca_file = {json.dumps(context.ca_file)}\n"
    )
    fresh.chmod(0o600)
    fresh.replace(path)


def resolve(given: Given, environ: Mapping[str, str]) -> Target:
    """Finds manager and token. Raises CliError for a token that cannot be read."""
    context = _context_unless_needless(given, environ)
    manager = given.manager or environ.get("SYNDICATE_MANAGER") or (context.manager if context else "")
    manager = manager or DEFAULT_MANAGER
    host, colon, port = manager.rpartition(":")
    if not (host and colon and port.isdigit()):
        raise CliError(
            f"{manager} is no address of a manager", "It is written HOST:PORT.", code=exit_codes.USAGE
        )
    token, token_from = _token(given, environ, context, manager)
    local, directory = (context.manager, context.directory) if context is not None else ("", "")
    ca_file, insecure = _trust(given, environ, context, manager)
    return Target(manager, token, _user(given, environ), token_from, local, directory, ca_file, insecure)


def _trust(
    given: Given, environ: Mapping[str, str], context: Context | None, manager: str
) -> tuple[str, bool]:
    """The authority's file, and whether to speak clear text. What `up` left counts for its manager only."""
    own = context if context is not None and _same(context.manager, manager) else None
    named = given.ca or environ.get("SYNDICATE_CA") or ""
    if given.insecure or (not named and environ.get("SYNDICATE_INSECURE") == "1"):
        return "", True
    if named or own is None:
        return named, False
    return own.ca_file, not own.ca_file


def _context_unless_needless(given: Given, environ: Mapping[str, str]) -> Context | None:
    """The context; a damaged one is no hindrance where options or environment say all of it."""
    manager = given.manager or environ.get("SYNDICATE_MANAGER")
    names = ("SYNDICATE_TOKEN", "SYNDICATE_TOKEN_FILE")
    token = given.token or given.token_file or any(environ.get(name) for name in names)
    try:
        return read_context(context_path(environ))
    except CliError:
        if manager and token:
            return None
        raise


def _token(
    given: Given, environ: Mapping[str, str], context: Context | None, manager: str
) -> tuple[str, str]:
    """The token, and where it stands."""
    if given.token is not None:
        return given.token, "--token"
    if given.token_file is not None:
        return _read_token(given.token_file), f"--token-file {given.token_file}"
    if environ.get("SYNDICATE_TOKEN"):
        return environ["SYNDICATE_TOKEN"], "SYNDICATE_TOKEN"
    if environ.get("SYNDICATE_TOKEN_FILE"):
        path = environ["SYNDICATE_TOKEN_FILE"]
        return _read_token(path), f"SYNDICATE_TOKEN_FILE ({path})"
    if context is not None and _same(context.manager, manager):
        return _read_token(context.token_file), f"{context.token_file}, which `syndicatectl up` left"
    return "", ""


def _same(one: str, other: str) -> bool:
    """Whether two addresses are one; this machine has two names for itself."""
    return re.sub(r"^localhost:", "127.0.0.1:", one) == re.sub(r"^localhost:", "127.0.0.1:", other)


def _is_loopback(manager: str) -> bool:
    host = manager.rpartition(":")[0]
    return host in ("localhost", "[::1]") or host.startswith("127.")


def _user(given: Given, environ: Mapping[str, str]) -> str:
    name = given.user or environ.get("SYNDICATE_USER", "")
    if name and not _USER.fullmatch(name):
        raise CliError(
            f"{name!r} is no user's name", "It is written with a-z, 0-9 and -.", code=exit_codes.USAGE
        )
    login = next((environ[key] for key in ("SUDO_USER", "LOGNAME", "USER") if environ.get(key)), _login())
    return name or (login if _USER.fullmatch(login) else "")


def _login() -> str:
    """The name of this process's user; empty for a uid that has none."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return ""


def _read_token(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except (OSError, ValueError) as error:
        why = error.strerror.lower() if isinstance(error, OSError) and error.strerror else "not a text"
        raise CliError(f"the token file {path} cannot be read ({why})", code=exit_codes.NOT_ALLOWED) from None
