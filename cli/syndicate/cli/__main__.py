"""``syndicatectl``'s entry point: runs a command, prints its error, ends with its exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

import typer
from syndicate.cli import exit_codes
from syndicate.cli.app import app
from syndicate.cli.failure import CliError, explain
from syndicate.cli.terminal import OutputClosed
from syndicate.client_api import SyndicateError

# Typer carries its own click or imports it, by version; its public BadParameter leads to the base of both.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def main(argv: Sequence[str] | None = None) -> None:
    """Ends the process with one of the documented exit codes."""
    sys.exit(run(list(sys.argv[1:] if argv is None else argv)))


def run(argv: list[str]) -> int:
    """Runs one command and returns its exit code."""
    command = typer.main.get_command(app)
    try:
        code = command.main(args=argv, prog_name="syndicatectl", standalone_mode=False)
        sys.stdout.flush()
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
    sys.stderr.write(error.text() + "\n")
    return error.code


def _usage(error: Exception) -> CliError:
    context = getattr(error, "ctx", None)
    message = str(getattr(error, "format_message", lambda: error)()).strip()
    path = context.command_path if context is not None else "syndicatectl"
    if not message and context is not None:  # no command was named: the help is the answer
        message = "no command given"
        sys.stderr.write(context.get_help() + "\n")
    return CliError(
        message[:1].lower() + message[1:].rstrip("."), f"See:  {path} --help", code=exit_codes.USAGE
    )


if __name__ == "__main__":
    main()
