"""What is done every few seconds beside the calls: ends of streams, the audit log, when tokens were used."""

from __future__ import annotations

import asyncio
from typing import Final

from .core.user_events import TokensUsed
from .engine import Engine
from .rpc import AuditLog, Usage, UsersDoor

EVERY_S: Final = 2.0


async def keep_house(engine: Engine, door: UsersDoor, usage: Usage, audit: AuditLog) -> None:
    """Until cancelled, or until the manager stops."""
    while engine.stopping is None:
        await asyncio.sleep(EVERY_S)
        if engine.stopping is not None:
            return
        usage.sweep()
        audit.sweep()
        if used := door.take_used():
            now = engine.clock.now()
            engine.handle(TokensUsed(tuple((token_id, now) for token_id in sorted(used))))
