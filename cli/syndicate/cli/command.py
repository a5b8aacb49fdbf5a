"""Runs a command line: prints its error, returns its exit code."""

from __future__ import annotations

import os
import re
import sys
import traceback

import typer
from syndicate.cli import exit_codes
from syndicate.cli.app import app
from syndicate.cli.failure import CliError, explain
from syndicate.cli.local_commands import MOST_SLOTS
from syndicate.cli.terminal import OutputClosed, this_terminal
from syndicate.client_api import SyndicateError

# Typer carries its own click or imports it, by version; its public BadParameter leads to the base of both.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
# How its versions say that something is no number, or out of range.
_NO_NUMBER = re.compile(r"valid int|not in the range|(greater|less) than")
_BOUNDS = {
    "--slots": f"from 1 to {MOST_SLOTS}",
    "--port": "from 0 to 65535",
    "--volunteer-port": "from 0 to 65535",
    "--attempt": "of at least 0",
    "--job": "of at least 0",
}
"""Of the options that are not just at least 1."""


def run(argv: list[str]) -> int:
    """Runs one command and returns its exit code."""
    command = typer.main.get_command(app)
    try:
        code = command.main(args=argv, prog_name="syndicatectl", standalone_mode=False)
        sys.stdout.flush()
        if code == exit_codes.INTERRUPTED:  # what some versions of Typer make of Ctrl-C, without a word
            return _fail(CliError("interrupted", code=exit_codes.INTERRUPTED))
        return code if isinstance(code, int) else exit_codes.OK
    except CliError as error:
        return _fail(error)
    except SyndicateError as error:
        return _fail(explain(error))
    except _UsageError as error:
        return _fail(_usage(error))
    except (KeyboardInterrupt, typer.Abort):
        return _fail(CliError("interrupted", code=exit_codes.INTERRUPTED))
    except (OutputClosed, BrokenPipeError):
        # What is left in the buffer must not raise at the end again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exit_codes.OK
    except Exception:  # noqa: BLE001 - a bug: told in full, with the exit code that says so
        traceback.print_exc()
        return exit_codes.INTERNAL


def _fail(error: CliError) -> int:
    terminal = this_terminal()
    terminal.note(error.text(terminal.err_room))
    return error.code


def _usage(error: Exception) -> CliError:
    context = getattr(error, "ctx", None)
    message = str(getattr(error, "format_message", lambda: error)()).strip()
    path = context.command_path if context is not None else "syndicatectl"
    if context is not None and (not message or message.startswith("Usage: ")):
        # No command was named: the help is the answer, and some versions give it as the message.
        sys.stderr.write(context.get_help() + "\n")
        return CliError("no command given", code=exit_codes.USAGE)
    message = _number_text(error, message) or message
    return CliError(_lowered(message).rstrip("."), f"See:  {path} --help", code=exit_codes.USAGE)


def _lowered(message: str) -> str:
    """Begins small, as every message does; a word in capitals stays."""
    return message if message[:2].isupper() else message[:1].lower() + message[1:]


def _number_text(error: Exception, message: str) -> str:
    """What a number may be, where it is none or out of its range; empty for other errors."""
    parameter = getattr(error, "param", None)
    if parameter is None or not _NO_NUMBER.search(message):
        return ""
    names = [str(name) for name in getattr(parameter, "opts", ())]
    name = names[0] if names and names[0].startswith("-") else str(parameter.name).upper()
    bounds = next((_BOUNDS[known] for known in names if known in _BOUNDS), "of at least 1")
    return f"{name} must be a whole number {bounds}"
