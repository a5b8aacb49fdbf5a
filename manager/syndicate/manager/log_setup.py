"""How the manager's own log looks: one event a line on standard error, for people or as JSON.

Each line has what it is about under the same names everywhere: cluster_id and epoch of the manager, then
job_id, attempt, volunteer_id, request_id where these are known.
"""

from __future__ import annotations

import sys
from typing import Any, Literal

import structlog

Form = Literal["auto", "json", "console"]


class Ids:
    """A processor that writes into each line whose it is, from when that is known, in any thread."""

    def __init__(self) -> None:
        self._ids: dict[str, Any] = {}

    def bind(self, **ids: Any) -> None:
        """From now on in each line, unless the line says otherwise."""
        self._ids = {**self._ids, **ids}

    def __call__(
        self, _: structlog.typing.WrappedLogger, __: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        """What structlog calls for each line."""
        for name, value in self._ids.items():
            event.setdefault(name, value)
        return event


def form_for(wanted: Form, is_terminal: bool) -> Literal["json", "console"]:
    """`auto` is for people at a terminal, and JSON for whatever keeps lines: a pipe, a file, journald."""
    if wanted == "auto":
        return "console" if is_terminal else "json"
    return wanted


def configure(form: Form) -> Ids:
    """Set structlog up. Called once, before anything logs."""
    ids = Ids()
    is_terminal = sys.stderr.isatty()
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        ids,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[structlog.typing.Processor]
    if form_for(form, is_terminal) == "json":
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    else:
        last = [structlog.dev.ConsoleRenderer(colors=is_terminal)]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(20),  # info and above
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    return ids
