"""Waiting that is not cut short by a machine that stood still.

While a whole machine is stopped, for some seconds say, so is all that is waited for: what passed meanwhile is
no time that it had. A wait that looks now and then tells by how late it comes to look.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

_AT_MOST: Final = 1.8
"""Times the seconds that were meant, by the clock: whoever waits for the end of a wait has a bound, too."""


class Patience:
    """Seconds to wait, or up to 1.8 times as many where looks come late.

    From one look to the next at most `most` of them are used up, however late that is.
    """

    def __init__(self, seconds: float, most: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._left = seconds
        self._most = most
        self._clock = clock
        self._seen = clock()
        self._end = self._seen + _AT_MOST * seconds

    def left(self) -> float:
        """Seconds that are left now, none where it is 0 or less; to be asked at each look."""
        now = self._clock()
        self._left -= min(now - self._seen, self._most)
        self._seen = now
        return min(self._left, self._end - now)
