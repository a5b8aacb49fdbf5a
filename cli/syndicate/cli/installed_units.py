"""What systemd says of the units that `install` puts in place."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from syndicate.cli import exit_codes
from syndicate.cli.failure import CliError

COMMAND_S = 150.0


def tool(*command: str) -> None:
    """Runs one of systemd's tools, or of the machine's. Raises CliError where it fails."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise CliError(
            f"{' '.join(command)}: no end after {COMMAND_S:g} s", code=exit_codes.BAD_MACHINE
        ) from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        raise CliError(f"{' '.join(command)}: {said[0]}", *said[1:4], code=exit_codes.BAD_MACHINE)


def asked(question: str, unit: str, more: Sequence[str] = ()) -> str:
    """The answer of `systemctl is-enabled` and the like, which is also an exit status."""
    command = ["systemctl", *more, question, unit]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=COMMAND_S
    ).stdout.strip()


def runs_with_older(unit: str, files: Iterable[Path]) -> bool:
    """Whether it was started before one of these files was written.

    Asked of systemd and of the files, not of what was just done: an `install` that was interrupted, or a
    setting that was changed by hand, counts as well.
    """
    wanted = "--property=MainPID,ExecMainStartTimestampMonotonic"
    said = subprocess.run(
        ["systemctl", "show", wanted, unit], capture_output=True, text=True, check=False, timeout=COMMAND_S
    ).stdout
    values = dict(line.partition("=")[::2] for line in said.splitlines())
    pid, microseconds = values.get("MainPID", "0"), values.get("ExecMainStartTimestampMonotonic", "")
    if pid == "0" or not microseconds.isdecimal():
        return False
    started = time.time() - (time.monotonic() - int(microseconds) / 1e6)
    return any(path.stat().st_mtime > started for path in files if path.exists())
