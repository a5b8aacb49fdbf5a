"""Metrics of a manager that runs: the parts that are watched, and who serves what they tell.

Nothing here is loaded, counted or kept unless the operator asks for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from .core.observer import Observer
from .engine import Engine
from .logs import LogStore
from .rpc import AuditLog, PortInUse, Usage
from .settings import is_loopback
from .store import SqliteStore
from .transport import Transport

if TYPE_CHECKING:
    from .metrics import CommitMeter

_log = structlog.get_logger()


class Watching:
    """Meters of one manager. To be made before the engine starts; `serve` is its life."""

    def __init__(self, address: str, engine: Engine, store: SqliteStore) -> None:
        from .metrics import CommitMeter

        self._address = address
        self._engine = engine
        self._observer = Observer(engine.machine.next_job_id)
        engine.watchers.append(self._observer.saw)
        self._commits: CommitMeter = CommitMeter()
        store.took = self._commits

    @asynccontextmanager
    async def serve(
        self, version: str, audit: AuditLog, usage: Usage, logs: LogStore, transport: Transport | None
    ) -> AsyncIterator[str]:
        """Serves; gives the address. Raises PortInUse."""
        from .metrics import LoopLag, ManagerFamilies, MetricsServer, Watched

        engine, lag = self._engine, LoopLag()
        watched = Watched(
            version=version,
            cluster="" if transport is None else transport.authority.cluster,
            figures=lambda: engine.machine.figures(engine.clock.now()),
            observer=self._observer,
            commits=self._commits,
            streams=lambda: {"volunteer": len(engine.links), "user": usage.streams},
            denials=audit.by_reason.read,
            log_bytes=lambda: {
                "received": logs.received_bytes,
                "dropped": logs.dropped_bytes,
                "lost": logs.lost_bytes,
            },
            certificates=lambda: [] if transport is None else transport.ends(),
            loop_lag_s=lambda: lag.worst_s,
        )
        server = MetricsServer(lambda: ManagerFamilies.of(watched))
        try:
            await server.open(self._address)
        except OSError as error:
            raise PortInUse(
                f"cannot listen for metrics on {self._address}: {error.strerror or error}.   "
                "Another address?  --metrics-listen HOST:PORT"
            ) from None
        if not is_loopback(self._address):
            detail = "whoever reaches this address reads them, without a token and in clear text"
            _log.warning("metrics.open", address=server.address, detail=detail)
        _log.info("metrics.ready", address=server.address)
        looking = asyncio.create_task(lag.watch())
        try:
            yield server.address
        finally:
            looking.cancel()
            await asyncio.wait([looking])
            await server.close()
