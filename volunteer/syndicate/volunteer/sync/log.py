"""The server's log: one line for each event, on stderr, in a file, or to syslog.

No library: the process has little memory of its own. Lines that peers provoke are bounded by a valve.
"""

from __future__ import annotations

import sys
import syslog
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TextIO

from ..log_valve import LogValve

PROVOKED = frozenset({"refused"})
Write = Callable[[str], None]


class Log:
    """Writes events; what happens at the barriers only while `verbose`."""

    def __init__(self, write: Write, *, verbose: bool) -> None:
        self._write = write
        self.verbose = verbose
        self._valve = LogValve()

    def info(self, event: str, **fields: object) -> None:
        """Something that is always told."""
        self._write(" ".join([event, *(f"{name}={_shown(value)}" for name, value in fields.items())]))

    def notice(self, event: str, **fields: object) -> None:
        """Something that happened at a barrier."""
        if self.verbose or (event in PROVOKED and self._valve.passes(event, time.monotonic())):
            self.info(event, **fields)

    def settle(self) -> None:
        """At the end: how many lines were not written."""
        for event, more in self._valve.held(time.monotonic(), end=True):
            self.info("log.held_back", of=event, lines=more)


def to_stream(stream: TextIO) -> Write:
    """Lines with the time, to a file or stderr."""

    def write(line: str) -> None:
        at = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        stream.write(f"{at} {line}\n")
        stream.flush()

    return write


def to_stderr() -> Write:
    """Where the server stays in the foreground."""
    return to_stream(sys.stderr)


def to_file(path: str) -> Write:
    """At the end of a file. Raises OSError."""
    # For the life of the process: its end closes the file, and each line is flushed.
    return to_stream(open(path, "a", encoding="utf-8"))


def to_syslog() -> Write:
    """Where it goes to the background and no file was named."""
    syslog.openlog("syndicate-syncd", syslog.LOG_PID, syslog.LOG_DAEMON)
    return syslog.syslog


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ",".join(f"{name}:{number}" for name, number in value.items()) or "-"
    shown = str(value)
    return repr(shown) if not shown or any(each.isspace() or each == "'" for each in shown) else shown
