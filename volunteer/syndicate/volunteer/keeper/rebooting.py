"""A machine whose operator wants it fresh for each job: that it was used, and how it is booted again."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .errors import failed, one_line

_BOOTED = Path("/run/systemd/system")  # sd_booted(3)
_WITHIN_S = 30.0


def is_possible() -> bool:
    """Whether systemd booted this machine."""
    return _BOOTED.is_dir()


def reboot() -> None:
    """Ask systemd for it; blocks until it has taken the request. Raises KeeperError."""
    command = ["systemctl", "--no-block", "reboot"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_WITHIN_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise failed(one_line(f"systemctl: {error}")) from None
    if done.returncode:
        raise failed(one_line(f"systemctl: {done.stderr.strip() or f'status {done.returncode}'}"))


class Use:
    """Whether anything of a task was here since the boot: a mark in /run, which each boot empties."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def note(self) -> None:
        """From now on it was used. Raises KeeperError where there is no room for the mark."""
        try:
            self._mark.touch()
        except OSError as error:
            raise failed(one_line(f"{self._mark} cannot be written: {error.strerror}")) from None

    @property
    def is_noted(self) -> bool:
        """Whether it was."""
        return self._mark.exists()
