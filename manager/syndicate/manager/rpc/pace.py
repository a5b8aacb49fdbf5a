"""How often a watcher is served: so often as is of use to people, and no more than its share of the loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

INTERVAL_S: Final = 0.05
# A job with thousands of faults takes milliseconds to draw: no watcher takes more of the loop than this.
SHARE: Final = 0.02


class Pace:
    """One watcher's. `working` goes around all that it costs the loop, `rest` between two rounds."""

    def __init__(self) -> None:
        self._worked_s = 0.0

    @contextmanager
    def working(self) -> Iterator[None]:
        """Counts what is done inside; nothing may be awaited there, for others work meanwhile.

        By the thread's own processor time: a machine that stood still for seconds has not worked, and for
        each of them the watcher would hear nothing for a minute.
        """
        began = time.thread_time()
        try:
            yield
        finally:
            self._worked_s += time.thread_time() - began

    @property
    def rest_s(self) -> float:
        """How long the watcher rests for what it cost since the last rest."""
        return max(INTERVAL_S, self._worked_s / SHARE)

    async def rest(self, over: Callable[[], bool] = lambda: False) -> None:
        """Lets changes come together until the next round, or until `over`: what is told then is the last.

        A long rest looks at it every INTERVAL_S.
        """
        left_s, self._worked_s = self.rest_s, 0.0
        loop = asyncio.get_running_loop()
        until = loop.time() + left_s
        while left_s > 0:
            await asyncio.sleep(min(INTERVAL_S, left_s))
            if over():
                return
            left_s = until - loop.time()
