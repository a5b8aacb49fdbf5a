"""64 callers in one process: `callers submit ADDRESS CA DIGEST` (token in TOKEN), `callers echo ADDRESS CA`.

CA is the authority's file, or empty for clear text. Prints calls a second.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
from syndicate.v1 import scheduler_pb2 as scheduler
from syndicate.v1 import scheduler_pb2_grpc

CALLERS = 64
CALLS = 6_000


async def rate(call: Callable[[], Awaitable[object]]) -> float:
    """Calls a second, all callers together."""

    async def caller() -> None:
        for _ in range(CALLS // CALLERS):
            await call()

    begin = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(CALLERS):
            group.create_task(caller())
    return CALLS // CALLERS * CALLERS / (time.perf_counter() - begin)


def opened(address: str, ca: str) -> grpc.aio.Channel:
    """A connection."""
    if not ca:
        return grpc.aio.insecure_channel(address)
    return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(Path(ca).read_bytes()))


async def main(kind: str, address: str, ca: str = "", digest: str = "") -> None:
    """Measures one kind of call; with `ca` over TLS."""
    async with opened(address, ca) as channel:
        if kind == "echo":
            method = channel.unary_unary("/bench.Echo/Echo")
            # As many bytes as a submit has.
            measured = rate(lambda: method(b"x" * 120))
        else:
            stub = scheduler_pb2_grpc.SchedulerStub(channel)  # type: ignore[no-untyped-call]  # generated
            metadata = (("authorization", f"Bearer {os.environ['TOKEN']}"),)
            spec = scheduler.JobSpec(source_sha256=digest, machines=1, no_client=True)
            measured = rate(
                lambda: stub.Submit(
                    scheduler.SubmitRequest(request_id=str(uuid.uuid4()), spec=spec), metadata=metadata
                )
            )
        print(json.dumps({"per_second": await measured}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
