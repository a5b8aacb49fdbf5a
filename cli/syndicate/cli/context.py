"""Which manager a command talks to, and with which token.

In this order: the options, the environment (SYNDICATE_MANAGER, SYNDICATE_TOKEN, SYNDICATE_TOKEN_FILE,
SYNDICATE_CONTEXT), the context that is in use (contexts.py), the file that ``syndicatectl up`` leaves, the
default 127.0.0.1:7000 without a token. The file of ``up`` is ``$XDG_STATE_HOME/syndicate/context.toml``
(``~/.local/state/syndicate/context.toml``). A context's token is used for its own manager only.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from syndicate.cli import cluster_files, exit_codes
from syndicate.cli.contexts import LOCAL, ClusterContext, Contexts, home_of
from syndicate.cli.failure import CliError, explain
from syndicate.cli.render.job_lines import labelled
from syndicate.cli.render.quantities import duration_text
from syndicate.cli.start_again import lines_to_start_again
from syndicate.cli.terminal import Terminal
from syndicate.client_api import (
    NotAuthenticated,
    SchedulerClient,
    TokenExpired,
    Unreachable,
    UserDisabled,
)

DEFAULT_MANAGER = "127.0.0.1:7000"
_USER = re.compile(r"[a-z0-9-]{1,63}")
_SHORTEST_SECRET = 24
"""Letters of what may be a token that stands where an address should."""


@dataclass(frozen=True, slots=True)
class Context:
    """What ``up`` leaves for later commands: the context ``local``."""

    manager: str
    token_file: str
    directory: str
    """The state folder of the cluster, for ``down``."""
    ca_file: str = ""
    """The certificate of the cluster's own authority; empty where it speaks clear text."""

    def as_cluster(self) -> ClusterContext:
        """The same as other contexts are told."""
        return ClusterContext(self.manager, self.token_file, self.ca_file, insecure=not self.ca_file)

    def token(self) -> str:
        """The token. Raises CliError. Where `up` has it made it lies in a folder of another user's."""
        directory = Path(self.directory)
        if self.token_file == str(cluster_files.token_file(directory)):
            return cluster_files.read_token(directory)
        return read_token(self.token_file)


@dataclass(frozen=True, slots=True)
class Target:
    """A manager and the token for it."""

    manager: str
    token: str
    user: str = ""
    """Whose jobs are submitted, where the token leaves that open; empty for the token's user."""
    token_from: str = ""
    """Where the token stands, for people; empty when there is none."""
    local: str = ""
    """The manager of the cluster that ``up`` left word of; empty without one."""
    directory: str = ""
    """The state folder of that cluster; empty without one."""
    context: str = ""
    """The context that the manager is of; empty where none says it."""
    manager_from: str = ""
    """Where the manager's address stands, for people."""
    token_context: str = ""
    """The context that the token is of; empty where none holds it."""
    ca_file: str = ""
    """The certificate of the authority that the manager's is of; empty for those that gRPC trusts."""
    insecure: bool = False
    """Whether to speak clear text."""

    def connect(self, terminal: Terminal) -> SchedulerClient:
        """Opens a connection; nothing is sent until the first call. The terminal is told of absences.

        Raises NotTrusted, or CliError, for an authority that cannot be read.
        """
        return SchedulerClient(
            self.manager,
            self.token,
            user=self.user,
            ca=cluster_files.authority(self.ca_file, self.directory) or None,
            insecure=self.insecure,
            on_away=partial(tell_presence, terminal),
            on_late=partial(tell_late, terminal, self.manager) if terminal.err_is_terminal else None,
        )

    def explain(self, error: NotAuthenticated | Unreachable) -> CliError:
        """What to do about a manager that is away, or that does not accept this token."""
        if isinstance(error, NotAuthenticated):
            return self._refused(error)
        # What is there and hangs up is not to be started.
        if error.cause == "connection lost" and not (self.local and _same(self.local, self.manager)):
            what = (
                "A manager with certificates is called without --insecure and SYNDICATE_INSECURE."
                if self.insecure
                else "Is it the users' port? Volunteers have another one."
            )
            return CliError(
                str(error),
                f"Something listens there. {what}",
                "Another one?  --manager HOST:PORT or SYNDICATE_MANAGER",
                code=exit_codes.MANAGER_AWAY,
            )
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

    def _refused(self, error: NotAuthenticated) -> CliError:
        remedy = "Name the right one:  --token-file FILE or SYNDICATE_TOKEN_FILE or SYNDICATE_TOKEN"
        if self.token_context and self.token_context != LOCAL:
            remedy = f"Log in again:  syndicatectl login --context {self.token_context}"
        if isinstance(error, UserDisabled):
            message = f"the manager at {self.manager} refuses this user: it is disabled"
            return CliError(message, "Ask the staff of the cluster.", code=exit_codes.NOT_ALLOWED)
        if isinstance(error, TokenExpired):
            message = f"the token of {self.token_from} has expired"
            return CliError(message, "Ask the staff for a new one.", remedy, code=exit_codes.NOT_ALLOWED)
        if self.token:
            message = f"the manager at {self.manager} does not know the token of {self.token_from}"
            return CliError(message, remedy, code=exit_codes.NOT_ALLOWED)
        other = self.local and not _same(self.local, self.manager)
        return CliError(
            f"the manager at {self.manager} asks for a token, and none was sent",
            f"The token that `syndicatectl up` left is for {self.local} only." if other else "",
            f"Log in:  syndicatectl login {self.manager}     Or:  --token-file FILE or SYNDICATE_TOKEN_FILE",
            code=exit_codes.NOT_ALLOWED,
        )


@dataclass(frozen=True, slots=True)
class Given:
    """The options of one command line; None for those that were not given."""

    manager: str | None = None
    token: str | None = None
    token_file: str | None = None
    user: str | None = None
    context: str | None = None
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
            self.context or other.context,
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


def tell_late(terminal: Terminal, manager: str, late: bool) -> None:
    """That the manager is waited for, for as long as it is; who looks on would wonder."""
    terminal.hint(labelled("manager", f"waiting for {manager}") if late else "")


def context_path(environ: Mapping[str, str]) -> Path:
    """Where the context file is, or would be."""
    state = environ.get("XDG_STATE_HOME") or str(home_of(environ) / ".local/state")
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


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The context that counts, and what it counts for."""

    name: str
    values: ClusterContext
    by_option: bool
    """True: it comes before the environment."""


def resolve(given: Given, environ: Mapping[str, str]) -> Target:
    """Finds manager and token. Raises CliError for a token or a context that cannot be read."""
    local = _local_unless_needless(given, environ)
    chosen = _chosen(given, environ, local)
    manager, manager_from = _manager(given, environ, chosen, local)
    check_address(manager)
    token, token_from, token_context = _token(given, environ, chosen, local, manager)
    ca_file, insecure = _trust(given, environ, cluster_at(manager, chosen.values if chosen else None, local))
    return Target(
        manager=manager,
        token=token,
        user=_user(given, environ, token_context),
        token_from=token_from,
        local=local.manager if local else "",
        directory=local.directory if local else "",
        context=chosen.name if chosen and _same(chosen.values.manager, manager) else "",
        manager_from=manager_from,
        token_context=token_context,
        ca_file=ca_file,
        insecure=insecure,
    )


def cluster_at(manager: str, chosen: ClusterContext | None, local: Context | None) -> ClusterContext | None:
    """What is known of the cluster of a manager, by the chosen context or by what `up` left."""
    known = [*([chosen] if chosen else []), *([local.as_cluster()] if local else [])]
    return next((each for each in known if _same(each.manager, manager)), None)


def _trust(given: Given, environ: Mapping[str, str], cluster: ClusterContext | None) -> tuple[str, bool]:
    """The authority's file, and whether to speak clear text."""
    named = given.ca or environ.get("SYNDICATE_CA") or ""
    if given.insecure or (not named and environ.get("SYNDICATE_INSECURE") == "1"):
        return "", True
    if named or cluster is None:
        return named, False
    return cluster.ca_file, cluster.insecure


def check_address(manager: str) -> str:
    """The address. Raises CliError for what is none; it is shown only where no token can have slipped in."""
    host, colon, port = manager.rpartition(":")
    if not (host and colon and port.isdigit()) or re.search(r"[\s/]", host):
        what = f"{manager} is" if len(manager) < _SHORTEST_SECRET else "that is"
        raise CliError(f"{what} no address of a manager", "It is written HOST:PORT.", code=exit_codes.USAGE)
    return manager


def _says_all(given: Given, environ: Mapping[str, str]) -> bool:
    """Whether options and environment need no context."""
    names = ("SYNDICATE_TOKEN", "SYNDICATE_TOKEN_FILE")
    token = given.token or given.token_file or any(environ.get(name) for name in names)
    return bool((given.manager or environ.get("SYNDICATE_MANAGER")) and token)


def _local_unless_needless(given: Given, environ: Mapping[str, str]) -> Context | None:
    """What `up` left; a damaged file is no hindrance where options or environment say all of it."""
    try:
        return read_context(context_path(environ))
    except CliError:
        if _says_all(given, environ):
            return None
        raise


def _chosen(given: Given, environ: Mapping[str, str], local: Context | None) -> _Chosen | None:
    """The context by option, by environment, or in use; a damaged one that is only in use may be needless."""
    store = Contexts(environ)
    named = given.context or environ.get("SYNDICATE_CONTEXT") or ""
    if named == LOCAL:
        if local is None:
            raise CliError(
                f"there is no context {LOCAL}: no cluster is up on this machine",
                "Start one:  syndicatectl up",
                code=exit_codes.NOT_FOUND,
            )
        return _Chosen(LOCAL, local.as_cluster(), bool(given.context))
    if named:
        return _Chosen(named, store.need(named), bool(given.context))
    if _says_all(given, environ):
        return None
    current = store.current()
    return _Chosen(current, store.need(current), by_option=False) if current else None


def _manager(
    given: Given, environ: Mapping[str, str], chosen: _Chosen | None, local: Context | None
) -> tuple[str, str]:
    """The manager's address, and where it stands."""
    if given.manager:
        return given.manager, "--manager"
    if chosen and chosen.by_option:
        return chosen.values.manager, f"the context {chosen.name}"
    if environ.get("SYNDICATE_MANAGER"):
        return environ["SYNDICATE_MANAGER"], "SYNDICATE_MANAGER"
    if chosen:
        return chosen.values.manager, f"the context {chosen.name}"
    return (local.manager, "`syndicatectl up`") if local else (DEFAULT_MANAGER, "the default")


def _token(
    given: Given, environ: Mapping[str, str], chosen: _Chosen | None, local: Context | None, manager: str
) -> tuple[str, str, str]:
    """The token, where it stands, and the context that holds it."""
    if given.token is not None:
        return given.token, "--token", ""
    if given.token_file is not None:
        return read_token(given.token_file), f"--token-file {given.token_file}", ""
    of_context = chosen is not None and chosen.values.token_file and _same(chosen.values.manager, manager)
    if chosen and of_context and chosen.by_option:
        return _token_of(chosen, environ, local)
    if environ.get("SYNDICATE_TOKEN"):
        return environ["SYNDICATE_TOKEN"], "SYNDICATE_TOKEN", ""
    if environ.get("SYNDICATE_TOKEN_FILE"):
        path = environ["SYNDICATE_TOKEN_FILE"]
        return read_token(path), f"SYNDICATE_TOKEN_FILE ({path})", ""
    if chosen and of_context:
        return _token_of(chosen, environ, local)
    if local is not None and _same(local.manager, manager):
        return local.token(), f"{local.token_file}, which `syndicatectl up` left", LOCAL
    return "", "", ""


def _token_of(chosen: _Chosen, environ: Mapping[str, str], local: Context | None) -> tuple[str, str, str]:
    if chosen.name == LOCAL and local is not None:
        return local.token(), f"the context {LOCAL}", LOCAL
    store, path = Contexts(environ), chosen.values.token_file
    # Its own file must be its owner's alone; one that somebody named is whatever that one made it.
    own = store.token_of(chosen.name) if store.is_own(chosen.name, path) else None
    token = read_token(path) if own is None else own
    return token, f"the context {chosen.name}", chosen.name


def _same(one: str, other: str) -> bool:
    """Whether two addresses are one; this machine has two names for itself."""
    return re.sub(r"^localhost:", "127.0.0.1:", one) == re.sub(r"^localhost:", "127.0.0.1:", other)


def _is_loopback(manager: str) -> bool:
    host = manager.rpartition(":")[0]
    return host in ("localhost", "[::1]") or host.startswith("127.")


def _user(given: Given, environ: Mapping[str, str], token_context: str) -> str:
    """Whose jobs are submitted: whoever is named; with the one token of `up`, who is logged in here."""
    name = given.user or environ.get("SYNDICATE_USER", "")
    if name and not _USER.fullmatch(name):
        raise CliError(
            f"{name!r} is no user's name", "It is written with a-z, 0-9 and -.", code=exit_codes.USAGE
        )
    if name or token_context != LOCAL:
        return name
    login = next((environ[key] for key in ("SUDO_USER", "LOGNAME", "USER") if environ.get(key)), _login())
    return login if _USER.fullmatch(login) else ""


def _login() -> str:
    """The name of this process's user; empty for a uid that has none."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return ""


def read_token(path: str) -> str:
    """The token in a file. Raises CliError where there is none to be read."""
    try:
        token = Path(path).read_text().strip()
    except (OSError, ValueError) as error:
        why = error.strerror.lower() if isinstance(error, OSError) and error.strerror else "not a text"
        raise CliError(f"the token file {path} cannot be read ({why})", code=exit_codes.NOT_ALLOWED) from None
    if len(token.split()) > 1:
        raise CliError(
            f"the token file {path} holds more than a token",
            "A token is one word, on a line of its own.",
            code=exit_codes.NOT_ALLOWED,
        )
    return token
