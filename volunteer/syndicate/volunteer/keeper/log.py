"""The keeper's log: one line of JSON on stderr for each event, which systemd keeps.

The lines are as structlog's of the other daemons. Its import would take a tenth of the keeper's memory: it
brings rich and pygments along wherever these are installed.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime


class Log:
    """Events of one part of the keeper: short constant names, and fields."""

    def info(self, event: str, **fields: object) -> None:
        """Something expected happened."""
        _write("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Something an operator may want to look at."""
        _write("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Something went wrong that should not."""
        _write("error", event, fields)


def _write(level: str, event: str, fields: dict[str, object]) -> None:
    at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    line = json.dumps({**fields, "event": event, "level": level, "timestamp": at}, default=str)
    sys.stderr.write(line + "\n")  # one write, so that lines of threads do not mix
    sys.stderr.flush()
