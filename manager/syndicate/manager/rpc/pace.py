"""How often a watcher is served: so often as is of use to people, and no more than its share of the loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
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
        """Counts what is done inside; nothing may be awaited there, for others work meanwhile."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._worked_s += time.perf_counter() - began

    @property
    def rest_s(self) -> float:
        """How long the watcher rests for what it cost since the last rest."""
        return max(INTERVAL_S, self._worked_s / SHARE)

    async def rest(self) -> None:
        """Lets changes come together until the next round."""
        rest_s, self._worked_s = self.rest_s, 0.0
        await asyncio.sleep(rest_s)
