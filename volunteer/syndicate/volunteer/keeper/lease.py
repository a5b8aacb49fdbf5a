"""Leases: how long the tasks of a cluster may run without word from its manager."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..clock import Clock

_MAX_CLUSTERS = 1024
_LOOK_SECONDS = 1.0  # the loop's clock stands still while the machine sleeps, the lease's does not


class Leases:
    """One lease for each cluster; calls `lapsed` on the loop once for each that runs out."""

    def __init__(self, clock: Clock, lapsed: Callable[[str], None]) -> None:
        self._clock = clock
        self._lapsed = lapsed
        self._until: dict[str, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def renew(self, cluster: str, until_ns: int) -> bool:
        """Set a lease; False if there is no room for another cluster."""
        if cluster not in self._until and len(self._until) >= _MAX_CLUSTERS:
            return False
        self._until[cluster] = until_ns
        self._look()
        return True

    def holds(self, cluster: str) -> bool:
        """Whether tasks of the cluster may run now."""
        return self._until.get(cluster, 0) > self._clock.now_ns()

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self.close()
        now = self._clock.now_ns()
        for cluster in [name for name, until in self._until.items() if until <= now]:
            del self._until[cluster]
            self._lapsed(cluster)
        if self._until:
            seconds = (min(self._until.values()) - now) / 1e9
            self._timer = asyncio.get_running_loop().call_later(min(seconds, _LOOK_SECONDS), self._look)
