"""A stream on which nothing is heard any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..core.errors import Away
from .session import Session


class Silence:
    """Ends a stream on which nothing was heard for so long.

    It looks at `since` once in a while, rather than have a timer set again for each message: a fault waits
    for what is done at one.
    """

    def __init__(self, session: Session, longest_s: float) -> None:
        loop = asyncio.get_running_loop()
        self.time: Callable[[], float] = loop.time
        # When something was heard last, by that clock; None while nothing is read.
        self.since: float | None = loop.time()
        self._session = session
        self._longest_s = longest_s
        self._timer = loop.call_later(longest_s, self._look)

    def over(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _look(self) -> None:
        now = self.time()
        left_s = self._longest_s - (now - (now if self.since is None else self.since))
        if left_s > 0:
            self._timer = asyncio.get_running_loop().call_later(left_s, self._look)
        else:
            text = f"nothing was heard for {self._longest_s:g} s; attach again"
            self._session.close(Away("HEARTBEAT_LATE", text))
