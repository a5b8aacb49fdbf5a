"""How the volunteer's own log looks: one event a line on standard error, for people or as JSON."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Literal

import structlog

from .log_valve import WINDOW_SECONDS, LogValve

_HELD = "log.held_back"


class Restraint:
    """Writes so many lines of an event a minute, and then how many more there were.

    A task, or the other end of a connection, can provoke lines as often as it likes. `tell` writes a line.
    """

    def __init__(self, tell: Callable[[str, int], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._valve = LogValve()
        self._tell = tell
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None

    def __call__(
        self, _: structlog.typing.WrappedLogger, name: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        """A processor of structlog's; raises DropEvent for a line that is only counted."""
        if event["event"] == _HELD or self._valve.passes(str(event["event"]), self._clock()):
            return event
        self._arm()
        raise structlog.DropEvent

    def _arm(self) -> None:
        if self._timer is None:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:  # another thread's line: it is told with the next of the loop's own
                return
            self._timer = loop.call_later(WINDOW_SECONDS, self.settle)

    def settle(self) -> None:
        """Tell how many lines were not written in the minutes that are over."""
        self._timer = None
        for kind, more in self._valve.held(self._clock()):
            self._tell(str(kind), more)
        if self._valve.holds:
            self._arm()


Form = Literal["auto", "json", "console"]


def form_for(wanted: Form, is_terminal: bool) -> Literal["json", "console"]:
    """`auto` is for people at a terminal, and JSON for whatever keeps lines: a pipe, a file, journald."""
    if wanted == "auto":
        return "console" if is_terminal else "json"
    return wanted


def configure(form: Form, volunteer_id: str) -> None:
    """Sets structlog up; called once, before anything logs."""
    is_terminal = sys.stderr.isatty()
    last: list[structlog.typing.Processor]
    if form_for(form, is_terminal) == "json":
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    else:
        last = [structlog.dev.ConsoleRenderer(colors=is_terminal)]
    structlog.configure(
        processors=[
            Restraint(_tell_held),
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


def _tell_held(event: str, more: int) -> None:
    structlog.get_logger().warning(_HELD, of=event, seconds=int(WINDOW_SECONDS), detail=f"and {more:,} more")
