"""How the volunteer's own log looks: one event a line on standard error, for people or as JSON."""

from __future__ import annotations

import sys
from typing import Literal

import structlog


def configure(form: Literal["json", "console"], volunteer_id: str) -> None:
    """Sets structlog up; called once, before anything logs."""
    last: list[structlog.typing.Processor]
    if form == "json":
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        last = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(20),  # info and above
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(volunteer_id=volunteer_id)
