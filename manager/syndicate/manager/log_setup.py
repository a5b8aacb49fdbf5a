"""How the manager's own log looks: one event a line on standard error, for people or as JSON."""

from __future__ import annotations

import os
import sys
from typing import Literal, TextIO

import structlog


def form_of(stream: TextIO | None = None) -> Literal["json", "console"]:
    """JSON where standard error goes to systemd's journal, which keeps fields; lines for people elsewhere.

    systemd.exec(5): JOURNAL_STREAM names the device and inode of the journal's socket.
    """
    try:
        file = os.fstat((sys.stderr if stream is None else stream).fileno())
    except (OSError, ValueError):
        return "console"
    return "json" if os.environ.get("JOURNAL_STREAM") == f"{file.st_dev}:{file.st_ino}" else "console"


def configure(form: Literal["json", "console"]) -> None:
    """Set structlog up. Called once, before anything logs."""
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[structlog.typing.Processor]
    if form == "json":
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        last = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(20),  # info and above
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
