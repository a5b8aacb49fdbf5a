"""Metrics of a volunteer that runs: the parts that are watched, and who serves what they tell.

Nothing of it is loaded unless the operator asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from .cache import SourceCache
from .clock import Clock
from .core import Volunteer
from .keeper_session import KeeperSession
from .link import ManagerLink
from .logs import LogPump
from .relay import Relays
from .settled import is_loopback

if TYPE_CHECKING:
    from .metrics import VolunteerFamilies

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Parts:
    """What is watched. `folders` has of each manager where the certificate for it lies."""

    version: str
    core: Volunteer
    clock: Clock
    keeper: KeeperSession
    links: Mapping[str, ManagerLink]
    cache: SourceCache
    relays: Relays
    pump: LogPump
    folders: Mapping[str, Path]


class Watching:
    """Serves the metrics of these parts at an address."""

    def __init__(self, address: str, parts: Parts) -> None:
        from .metrics import LoopLag, MetricsServer

        self._wanted = address
        self._parts = parts
        self._lag = LoopLag()
        self._server = MetricsServer(self._picture)

    @property
    def address(self) -> str:
        """Where it serves, once it is open."""
        return self._server.address

    async def open(self) -> None:
        """Takes the address. Raises OSError."""
        try:
            await self._server.open(self._wanted)
        except OSError as error:
            why = error.strerror or str(error)
            raise OSError(
                f"cannot listen for metrics on {self._wanted}: {why}.   "
                "Another address?  --metrics-listen HOST:PORT"
            ) from None
        if not is_loopback(self._wanted):
            detail = "whoever reaches this address reads them, without a token and in clear text"
            _log.warning("metrics.open", address=self.address, detail=detail)
        _log.info("metrics.ready", address=self.address)

    async def run(self) -> None:
        """Watches the loop until it is cancelled."""
        await self._lag.watch()

    async def close(self) -> None:
        """Serves nobody any more."""
        await self._server.close()

    def _picture(self) -> VolunteerFamilies:
        from .metrics import VolunteerFamilies

        parts = self._parts
        links = parts.links
        return VolunteerFamilies(
            version=parts.version,
            figures=parts.core.figures(parts.clock.stamp()),
            keeper_up=parts.keeper.is_up,
            keeper_connections=parts.keeper.connections,
            links_up={target: link.up.is_set() for target, link in links.items()},
            attempts={target: link.attempts for target, link in links.items()},
            reconnects={target: max(link.welcomes - 1, 0) for target, link in links.items()},
            cache_bytes=parts.cache.held_bytes,
            cache_sources=parts.cache.sources,
            calls=parts.relays.calls,
            log_bytes={"sent": parts.pump.sent_bytes, "dropped": parts.pump.dropped_bytes},
            folders=parts.folders,
            loop_lag_s=self._lag.worst_s,
        )
