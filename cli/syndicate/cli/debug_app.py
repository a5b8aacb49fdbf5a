"""``debug``: its options and its help."""

from __future__ import annotations

from typing import Annotated

import typer
from syndicate.cli import debug_bundle
from syndicate.cli.context import Given
from syndicate.cli.options import JsonOption, unconnected
from syndicate.cli.sizes import parse_size
from syndicate.cli.terminal import Terminal

debug_app = typer.Typer(help="For those who look for a fault.", no_args_is_help=True, rich_markup_mode=None)


@unconnected
def bundle(
    given: Given,
    terminal: Terminal,
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="FILE", help="Else syndicate-debug-TIME.tar.gz here.")
    ] = "",
    directory: Annotated[
        str | None,
        typer.Option("--dir", metavar="DIR", help="As given to `up`; else what `up` left word of."),
    ] = None,
    log_size: Annotated[
        str, typer.Option("--log-size", metavar="SIZE", help="So much of the end of each log.")
    ] = "4M",
    json: JsonOption = False,
) -> int:
    """Puts what a developer needs into one file.

    Versions, settings, what doctor says, logs, jobs, nodes and metrics of the cluster on this machine.
    Secrets, sources and the output of tasks are left out; what else is missing it says.
    """
    wish = debug_bundle.Wish(output, directory, parse_size(log_size, "--log-size"), json)
    return debug_bundle.bundle(given, terminal, wish)


debug_app.command("bundle")(bundle)


@debug_app.callback()
def debug() -> None:
    """Keeps `bundle` a command of its own, though it is the only one."""
