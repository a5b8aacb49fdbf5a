"""Wakes whoever waits for something about a job to change."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Wakers:
    """Events by job. A wake that nobody waits for is not remembered: clear, look, and then wait."""

    def __init__(self) -> None:
        self._events: dict[int, set[asyncio.Event]] = {}

    @contextmanager
    def watch(self, job_id: int, event: asyncio.Event | None = None) -> Iterator[asyncio.Event]:
        """An event that is set at each change of the job; the caller clears it before it looks.

        Give one to have it set by several.
        """
        event = event or asyncio.Event()
        self._events.setdefault(job_id, set()).add(event)
        try:
            yield event
        finally:
            left = self._events[job_id]
            left.discard(event)
            if not left:
                del self._events[job_id]

    def wake(self, job_id: int) -> None:
        """The job changed."""
        for event in self._events.get(job_id, ()):
            event.set()

    def wake_all(self) -> None:
        """Everybody should look: the manager stops."""
        for events in self._events.values():
            for event in events:
                event.set()
