"""The options that every command shares, and what gives a command its connection."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Annotated, Any

import typer
from syndicate.cli.context import Given, Target, resolve
from syndicate.cli.contexts import LOCAL, Contexts
from syndicate.cli.terminal import Terminal, this_terminal
from syndicate.client_api import NotAuthenticated, Unreachable

ON_COMMAND_LINE = (
    "warning: others on this machine can read a token on a command line; use --token-file or SYNDICATE_TOKEN"
)


def context_names(incomplete: str = "") -> list[str]:
    """The names of contexts that begin so, for the shell."""
    return [name for name in [*Contexts(os.environ).names(), LOCAL] if name.startswith(incomplete)]


ManagerOption = Annotated[
    str | None,
    typer.Option("--manager", metavar="HOST:PORT", help="The manager. Also SYNDICATE_MANAGER."),
]
ContextOption = Annotated[
    str | None,
    typer.Option(
        "--context",
        metavar="NAME",
        help="The cluster of a context. Also SYNDICATE_CONTEXT.",
        autocompletion=context_names,
    ),
]
TokenFileOption = Annotated[
    str | None,
    typer.Option("--token-file", metavar="FILE", help="Holds the token. Also SYNDICATE_TOKEN_FILE."),
]
TokenOption = Annotated[
    str | None,
    typer.Option(
        "--token",
        metavar="TOKEN",
        help="The token itself; others on this machine can read it: prefer a file, or SYNDICATE_TOKEN.",
    ),
]
UserOption = Annotated[
    str | None,
    typer.Option(
        "--user", metavar="NAME", help="For admins: whose job it is. Also SYNDICATE_USER; else the token's."
    ),
]
CaOption = Annotated[
    str | None,
    typer.Option("--ca", metavar="FILE", help="The cluster's authority (ca.pem). Also SYNDICATE_CA."),
]
InsecureOption = Annotated[
    bool, typer.Option("--insecure", help="Clear text, to a manager on this machine only.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
JobArgument = Annotated[int, typer.Argument(metavar="JOB", help="The job's id.", min=1)]

_SHARED: dict[str, Any] = {
    "manager": ManagerOption,
    "context": ContextOption,
    "token_file": TokenFileOption,
    "token": TokenOption,
    "user": UserOption,
    "ca": CaOption,
    "insecure": InsecureOption,
}
_MADE = ("client", "terminal", "target")
"""Parameters of commands that are no options."""


def connected(command: Callable[..., int]) -> Callable[..., None]:
    """Gives a command a connection and the terminal, and the options that name the manager.

    They stand before the command or behind it; behind it wins. A command that has an option of the same name
    keeps its own. One that asks for ``target`` gets what was found out about the manager.
    """
    wanted = inspect.signature(command, eval_str=True).parameters
    own = [parameter for name, parameter in wanted.items() if name not in _MADE]
    shared = {name: kind for name, kind in _SHARED.items() if name not in wanted}

    def run(client_of: Target, terminal: Terminal, **values: Any) -> int:
        more = {"target": client_of} if "target" in wanted else {}
        try:
            with client_of.connect(terminal) as client:
                return command(client, terminal, **more, **values)
        except (NotAuthenticated, Unreachable) as error:
            raise client_of.explain(error) from None

    return _with_options(command, own, shared, run)


def unconnected(command: Callable[..., int]) -> Callable[..., None]:
    """Gives a command the terminal and ``given``, the options that name the manager, but no connection."""
    wanted = inspect.signature(command, eval_str=True).parameters
    own = [parameter for name, parameter in wanted.items() if name not in ("given", "terminal")]
    shared = {name: kind for name, kind in _SHARED.items() if name not in wanted}

    def run(given: Given, terminal: Terminal, **values: Any) -> int:
        return command(given, terminal, **values)

    return _with_options(command, own, shared, run, resolved=False)


def _with_options(
    command: Callable[..., int],
    own: list[inspect.Parameter],
    shared: dict[str, Any],
    body: Callable[..., int],
    resolved: bool = True,
) -> Callable[..., None]:
    keyword = inspect.Parameter.KEYWORD_ONLY
    added = [inspect.Parameter("ctx", keyword, annotation=typer.Context)]
    added += [
        inspect.Parameter(name, keyword, default=False if name == "insecure" else None, annotation=kind)
        for name, kind in shared.items()
    ]

    def run(**values: Any) -> None:
        ctx: typer.Context = values.pop("ctx")
        given = Given(**{name: values.pop(name) for name in shared}).over(ctx.obj or Given())
        terminal = this_terminal()
        if given.token is not None:
            terminal.note(ON_COMMAND_LINE)
        raise typer.Exit(body(resolve(given, os.environ) if resolved else given, terminal, **values))

    parameters = [parameter.replace(kind=keyword) for parameter in own] + added
    # Typer reads options from the signature, their types from the annotations, name and help from the rest.
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # any attribute is allowed
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
