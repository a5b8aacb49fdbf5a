"""The keeper's log: one line of JSON on stderr for each event, which systemd keeps.

The lines are as structlog's of the other daemons. Its import would take a tenth of the keeper's memory: it
brings rich and pygments along wherever these are installed.

Who may not write to it can still provoke lines, a task by what it leaves or a volunteer by what it asks: so
only some of a kind are written in a minute, and how many more there were.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

from ..log_valve import WINDOW_SECONDS, LogValve

_LONGEST = 1000  # characters of a field


class Log:
    """Events of the keeper: short constant names, and fields. From any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._valve = LogValve()
        self._clock = clock

    def info(self, event: str, **fields: object) -> None:
        """Something expected happened."""
        self._tell("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Something an operator may want to look at."""
        self._tell("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Something went wrong that should not."""
        self._tell("error", event, fields)

    def settle(self, *, end: bool = False) -> None:
        """Tell how many lines were not written in the minutes that are over; at the `end` of any."""
        for kind, more in self._valve.held(self._clock(), end=end):
            event, slot = kind if isinstance(kind, tuple) else (kind, None)
            fields = {"of": event, "seconds": int(WINDOW_SECONDS), "detail": f"and {more:,} more"}
            _write("warning", "log.held_back", fields | ({"slot": slot} if slot is not None else {}))

    def _tell(self, level: str, event: str, fields: dict[str, object]) -> None:
        # By slot, so that the task on one keeps nothing of the others from being told.
        if self._valve.passes((event, fields.get("slot")), self._clock()):
            _write(level, event, fields)


def _write(level: str, event: str, fields: dict[str, object]) -> None:
    at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    kept = {name: _cut(value) for name, value in fields.items()}
    line = json.dumps({**kept, "event": event, "level": level, "timestamp": at}, default=str)
    sys.stderr.write(line + "\n")  # one write, so that lines of threads do not mix
    sys.stderr.flush()


def _cut(value: object) -> object:
    return f"{value[:_LONGEST]}…" if isinstance(value, str) and len(value) > _LONGEST else value
