"""The command's exit statuses, after sysexits.h, and how it says why."""

from __future__ import annotations

import sys
from typing import Final

EX_USAGE: Final = 64
EX_IOERR: Final = 74
EX_TEMPFAIL: Final = 75
EX_NOPERM: Final = 77
EX_CONFIG: Final = 78


def say(error: Exception, status: int) -> int:
    """Tells what is wrong, and returns the status."""
    for line in str(error).splitlines():
        sys.stderr.write(f"error: {line}\n")
    return status
