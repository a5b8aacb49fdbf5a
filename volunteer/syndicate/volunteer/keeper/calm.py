"""Work that can wait stands back while kills are under way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

_LINGER_SECONDS = 0.002  # kills of one moment come one after the other: the next may be on its way
_MOST_SECONDS = 0.05  # however many kills follow each other


class Calm:
    """Tells when no kill is under way. One for all slots of a keeper; used on the loop.

    The dying share the processors with the keeper: what follows one end (its log, its record, its mounts)
    would delay the other ends of the same moment.
    """

    def __init__(self) -> None:
        self._kills = 0
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: set[asyncio.Event] = set()

    @contextmanager
    def kill(self) -> Iterator[None]:
        """While a kill is under way."""
        self._kills += 1
        self._stop_timer()
        try:
            yield
        finally:
            self._kills -= 1
            if not self._kills:
                self._timer = asyncio.get_running_loop().call_later(_LINGER_SECONDS, self._settle)

    async def wait(self, wanted: asyncio.Event) -> None:
        """Return once it is calm, or `wanted` is set by who cannot wait; after 50 ms in any case."""
        if not self._kills and self._timer is None:
            return
        self._waiting.add(wanted)
        try:
            async with asyncio.timeout(_MOST_SECONDS):
                await wanted.wait()
        except TimeoutError:
            return
        finally:
            self._waiting.discard(wanted)

    def close(self) -> None:
        """Let everything go on, and stop the timer."""
        self._stop_timer()
        self._settle()

    def _settle(self) -> None:
        self._timer = None
        for wanted in self._waiting:
            wanted.set()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
