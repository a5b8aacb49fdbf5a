"""The clusters that a user has logged in to: ``$XDG_CONFIG_HOME/syndicate/`` (``~/.config/syndicate/``).

NAME.toml          where a cluster's manager is, and where the token for it stands
NAME.token         the token, where ``syndicatectl login`` wrote it
NAME.ca.pem        the certificate of the cluster's authority
current-context    the name of the one that commands use

The folder has mode 0700, each file 0600. ``local`` is the name of what ``syndicatectl up`` leaves, which
stands elsewhere (see context.py).
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from syndicate.cli import exit_codes
from syndicate.cli.failure import CliError
from syndicate.cli.private_files import PrivateFolder

LOCAL = "local"
"""The name of the cluster that ``up`` left word of."""
_NAME = re.compile(r"[a-z0-9-]{1,63}")
_CURRENT = "current-context"
_DEFAULT_PORT = "7000"


@dataclass(frozen=True, slots=True)
class ClusterContext:
    """What commands need to know of a cluster."""

    manager: str
    """HOST:PORT."""
    token_file: str = ""
    """Absolute; empty where there is no token."""
    ca_file: str = ""
    """The certificate of the cluster's CA, absolute; empty for none."""
    ca_fingerprint: str = ""
    """``sha256:`` and the digits of that certificate's digest, for people."""
    user: str = ""
    """Whose the token is, for people."""
    insecure: bool = False
    """Whether to speak clear text."""


class Contexts:
    """All contexts of a user."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        config = environ.get("XDG_CONFIG_HOME") or ""
        # The rule of XDG: a path that is not absolute counts as none.
        base = Path(config) if config.startswith("/") else home_of(environ) / ".config"
        self.folder = PrivateFolder(base / "syndicate")

    def names(self) -> list[str]:
        """The names of all contexts, sorted."""
        stems = (name.removesuffix(".toml") for name in self.folder.names() if name.endswith(".toml"))
        return [stem for stem in stems if _NAME.fullmatch(stem)]

    def get(self, name: str) -> ClusterContext | None:
        """A context by its name; None where there is none. Raises CliError for a damaged one."""
        text = self.folder.read(f"{check_name(name)}.toml")
        if text is None:
            return None
        try:
            values = tomllib.loads(text)
            known = {
                field.name: values[field.name] for field in fields(ClusterContext) if field.name in values
            }
            kinds = {"insecure": bool}
            if not all(type(value) is kinds.get(key, str) for key, value in known.items()):
                raise ValueError("a value is of another kind")
            return ClusterContext(**known)
        except (ValueError, TypeError) as error:
            raise CliError(
                f"the context {name} is damaged ({error})",
                f"Remove it:  syndicatectl context delete {name}     Then:  syndicatectl login MANAGER",
                code=exit_codes.USAGE,
            ) from None

    def need(self, name: str) -> ClusterContext:
        """A context that must be there. Raises CliError (NOT_FOUND)."""
        found = self.get(name)
        if found is None:
            there = ", ".join(self.names())
            raise CliError(
                f"there is no context {name}",
                f"There {'are' if ',' in there else 'is'}: {there}." if there else "There is none yet.",
                "Make one:  syndicatectl login MANAGER",
                code=exit_codes.NOT_FOUND,
            )
        return found

    def put(self, name: str, context: ClusterContext) -> None:
        """Writes a context."""
        # JSON's strings are TOML's basic strings.
        rows = [f"{field.name} = {json.dumps(getattr(context, field.name))}\n" for field in fields(context)]
        self.folder.write(f"{check_name(name)}.toml", "# Written by `syndicatectl login`.\n" + "".join(rows))

    def put_token(self, name: str, token: str) -> str:
        """Writes a context's token; returns the file's path."""
        self.folder.write(f"{check_name(name)}.token", token + "\n")
        return str(self.folder.path / f"{name}.token")

    def put_ca(self, name: str, pem: str) -> str:
        """Writes the certificate of a context's authority; returns the file's path."""
        self.folder.write(f"{check_name(name)}.ca.pem", pem)
        return str(self.folder.path / f"{name}.ca.pem")

    def remove_token(self, name: str) -> bool:
        """Removes the token that `put_token` wrote; returns whether there was one."""
        return self.folder.remove(f"{check_name(name)}.token")

    def delete(self, name: str) -> None:
        """Removes a context with its token; if commands use it, they use none then."""
        if self.current() == name:
            self.use(LOCAL)
        self.remove_token(name)
        self.folder.remove(f"{name}.ca.pem")
        self.folder.remove(f"{check_name(name)}.toml")

    def current(self) -> str:
        """The name of the one that commands use; empty for none."""
        name = (self.folder.read(_CURRENT) or "").strip()
        return name if _NAME.fullmatch(name) else ""

    def use(self, name: str) -> None:
        """Makes commands use this one; with LOCAL, none of these."""
        if name == LOCAL:
            self.folder.remove(_CURRENT)
        else:
            self.folder.write(_CURRENT, f"{check_name(name)}\n")

    def token_of(self, name: str) -> str | None:
        """The token that `put_token` wrote; None for none. Raises CliError where others can read it."""
        text = self.folder.read(f"{check_name(name)}.token")
        return None if text is None else text.strip()

    def is_own(self, name: str, token_file: str) -> bool:
        """Whether a token file is the one that `put_token` writes."""
        return token_file == str(self.folder.path / f"{name}.token")


def home_of(environ: Mapping[str, str]) -> Path:
    """The user's home; the root folder for a uid that has none."""
    try:
        return Path(environ.get("HOME") or "~").expanduser()
    except RuntimeError:
        return Path("/")


def check_name(name: str) -> str:
    """The name. Raises CliError for what is none: it becomes a file's name."""
    if not _NAME.fullmatch(name):
        raise CliError(
            f"{name!r} is no name of a context",
            "It is written with a-z, 0-9 and -, at most 63 of them.",
            code=exit_codes.USAGE,
        )
    return name


def name_for(manager: str) -> str:
    """The name that a manager's context gets by itself: its host, and its port where that is not 7000."""
    host, _, port = manager.rpartition(":")
    text = host if port == _DEFAULT_PORT else f"{host}-{port}"
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63].strip("-")
    return name if name and name != LOCAL else f"{name or 'cluster'}-1"
