"""Waiting that is not cut short by a machine that stood still.

While a whole machine is stopped, for some seconds say, so is all that is waited for: what passed meanwhile is
no time that it had. A wait that looks now and then tells by how late it comes to look.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class Patience:
    """Seconds to wait. From one look to the next at most `most` of them are used up, however late that is."""

    def __init__(self, seconds: float, most: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._left = seconds
        self._most = most
        self._clock = clock
        self._seen = clock()

    def left(self) -> float:
        """Seconds that are left now, none where it is 0 or less; to be asked at each look."""
        now = self._clock()
        self._left -= min(now - self._seen, self._most)
        self._seen = now
        return self._left
