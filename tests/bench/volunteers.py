"""200 volunteers that register over mutual TLS at once: `volunteers ADDRESS FOLDER`.

FOLDER holds ca.pem and, for each of them, NAME.pem with key and certificate. Prints the seconds from the
first connection until the last Welcome, beside those for as many handshakes alone.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import grpc
from syndicate.v1 import common_pb2 as common
from syndicate.v1 import registry_pb2 as registry
from syndicate.v1 import registry_pb2_grpc as registry_grpc

WITHIN_S = 60.0


def hello(name: str) -> registry.Hello:
    """A machine with four slots."""
    boot = str(uuid.uuid4())
    stamp = common.Stamp(boot_id=boot, monotonic_ns=time.monotonic_ns(), utc_ns=time.time_ns())
    return registry.Hello(
        volunteer_id=name,
        boot_id=boot,
        slots=[registry.Slot(slot=number) for number in range(4)],
        resources=common.Resources(cpus=2, memory_bytes=1 << 30, disk_bytes=1 << 30),
        network=registry.NETWORK_KIND_FABRIC,
        version="bench",
        sent_at=stamp,
    )


def opened(address: str, ca: bytes, identity: bytes) -> grpc.aio.Channel:
    """A connection of its own with this certificate."""
    certificate = identity[identity.index(b"-----BEGIN CERTIFICATE") :]
    credentials = grpc.ssl_channel_credentials(ca, identity, certificate)
    return grpc.aio.secure_channel(address, credentials, options=[("grpc.use_local_subchannel_pool", 1)])


async def register(channel: grpc.aio.Channel, name: str) -> Any:
    """Attaches and waits for the Welcome; returns the stream, which stands."""
    stub: Any = registry_grpc.RegistryStub(channel)  # type: ignore[no-untyped-call]  # generated
    call = stub.Attach(timeout=WITHIN_S)
    await call.write(registry.AttachRequest(hello=hello(name)))
    answer = await call.read()
    assert answer.HasField("welcome"), answer
    return call


async def measured(address: str, ca: bytes, identities: dict[str, bytes]) -> dict[str, float]:
    """Seconds."""
    begin = time.perf_counter()
    bare = [opened(address, ca, identity) for identity in identities.values()]
    await asyncio.gather(*(channel.channel_ready() for channel in bare))
    handshakes = time.perf_counter() - begin
    for channel in bare:
        await channel.close()
    begin = time.perf_counter()
    channels = [opened(address, ca, identity) for identity in identities.values()]
    calls = await asyncio.gather(
        *(register(channel, name) for channel, name in zip(channels, identities, strict=True))
    )
    registered = time.perf_counter() - begin
    for call in calls:
        call.cancel()
    for channel in channels:
        await channel.close()
    return {"registered_s": registered, "handshakes_s": handshakes}


if __name__ == "__main__":
    folder = Path(sys.argv[2])
    all_of_them = {file.stem: file.read_bytes() for file in sorted(folder.glob("*-*.pem"))}
    print(json.dumps(asyncio.run(measured(sys.argv[1], (folder / "ca.pem").read_bytes(), all_of_them))))
