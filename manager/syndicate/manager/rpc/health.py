"""Health as grpc.health.v1 has it; with an answer comes the manager's time.

Who asks may have no credential, and learns by it how far its own clock is off: certificates and join tokens
depend on that. It is no secret: TLS libraries and certificates tell as much.
"""

from __future__ import annotations

import time
from typing import Any, Final

from grpc_health.v1.health import aio

UTC_KEY: Final = "syndicate-utc-ns"


class Health(aio.HealthServicer):
    """Answers as the library does."""

    async def Check(self, request: Any, context: Any) -> Any:
        """The state of a service; UTC in nanoseconds is in the trailing metadata."""
        context.set_trailing_metadata(((UTC_KEY, str(time.time_ns())),))
        return await super().Check(request, context)
