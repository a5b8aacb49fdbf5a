"""``login``, ``logout``, ``whoami`` and ``context``: their options and their help."""

from __future__ import annotations

from typing import Annotated

import typer
from syndicate.cli import login_commands
from syndicate.cli.context import Given, Target
from syndicate.cli.groups import Group
from syndicate.cli.options import JsonOption, connected, context_names, unconnected
from syndicate.cli.terminal import Terminal, this_terminal
from syndicate.client_api import SchedulerClient

context_app = Group(help="Chooses among the clusters you have logged in to.")

ContextArgument = Annotated[
    str,
    typer.Argument(metavar="NAME", help="The context; `local` is of `up`.", autocompletion=context_names),
]


@unconnected
def login(
    given: Given,
    terminal: Terminal,
    manager: Annotated[
        str, typer.Argument(metavar="HOST:PORT", help="The manager; else that of the context.")
    ] = "",
    fingerprint: Annotated[
        str,
        typer.Option(
            "--fingerprint", metavar="SHA256", help="Of the cluster's authority, which the manager shows."
        ),
    ] = "",
    json: JsonOption = False,
) -> int:
    """Keeps a manager's address and your token.

    The token is asked for, or read from standard input or from --token-file. It is tried first, and kept in a
    context that commands use from then on.

    Example:  syndicatectl login cluster.example.org:7000
    """
    return login_commands.login(given, terminal, manager, fingerprint, json)


@unconnected
def logout(
    given: Given,
    terminal: Terminal,
    revoke: Annotated[bool, typer.Option("--revoke", help="End the token at the manager, too.")] = False,
    json: JsonOption = False,
) -> int:
    """Removes your token from a context.

    Of the one in use, or of --context.

    Example:  syndicatectl logout --revoke
    """
    return login_commands.logout(given, terminal, revoke, json)


@connected
def whoami(client: SchedulerClient, terminal: Terminal, target: Target, json: JsonOption = False) -> int:
    """Tells who you are, and what is left of your quota.

    Example:  syndicatectl whoami
    """
    return login_commands.whoami(client, terminal, target, json)


@context_app.command("list")
@unconnected
def context_list(given: Given, terminal: Terminal, json: JsonOption = False) -> int:
    """Lists the contexts; a * marks the one that commands use.

    Example:  syndicatectl context list
    """
    return login_commands.list_contexts(given, terminal, json)


@context_app.command("use")
def context_use(name: ContextArgument, json: JsonOption = False) -> None:
    """Makes commands use a context from now on. `local` is the cluster of `up`.

    Example:  syndicatectl context use local
    """
    raise typer.Exit(login_commands.use_context(this_terminal(), name, json))


@context_app.command("show")
@unconnected
def context_show(
    given: Given,
    terminal: Terminal,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Else: what commands use.", autocompletion=context_names)
    ] = "",
    json: JsonOption = False,
) -> int:
    """Shows a context, or without a name what commands use. Tells where that stands, and never the token.

    Example:  syndicatectl context show
    """
    return login_commands.show_context(given, terminal, name, json)


@context_app.command("delete")
def context_delete(name: ContextArgument, json: JsonOption = False) -> None:
    """Removes a context with its token. The manager still knows the token: `logout --revoke` ends it.

    Example:  syndicatectl context delete old-course
    """
    raise typer.Exit(login_commands.delete_context(this_terminal(), name, json))


def add_to(app: typer.Typer) -> None:
    """Puts all of these under the main command."""
    for command in (login, logout, whoami):
        app.command()(command)
    app.add_typer(context_app, name="context")
