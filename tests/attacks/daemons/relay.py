"""Opens connections without end on the client's own socket, calls without end, and says too much."""

import asyncio
import os
import socket
import time

import grpc
import grpc.aio
from attacker import end, note

ADDRESS = os.environ["SYNDICATE_CHAOS"]
PATH = ADDRESS.removeprefix("unix:")
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
CONNECTIONS, CALLS, AT_ONCE = 600, 3_000, 500


def connect():
    """As many connections as there can be; those that last."""
    found = []
    for _ in range(CONNECTIONS):
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(1)
        try:
            link.connect(PATH)
            link.sendall(PREFACE)
        except OSError:
            link.close()
            continue
        found.append(link)
    return found


async def call(channel, method, request, outcomes):
    """One call; how it went is counted."""
    try:
        await channel.unary_unary(f"/syndicate.v1.ChaosControl/{method}")(request, timeout=10)
        outcome = "OK"
    except grpc.aio.AioRpcError as error:
        outcome = error.code().name
    outcomes[outcome] = outcomes.get(outcome, 0) + 1


async def flood():
    """Calls by the hundred, and requests that are too large."""
    outcomes = {}
    async with grpc.aio.insecure_channel(ADDRESS) as channel:
        for _ in range(CALLS // AT_ONCE):
            await asyncio.gather(*(call(channel, "Ping", b"", outcomes) for _ in range(AT_ONCE)))
        large = b"\x0a" + b"\xff\xff\xff\x01" + b"x" * (4 << 20)
        await asyncio.gather(*(call(channel, "Finish", large, outcomes) for _ in range(32)))
    note(outcomes)


asyncio.run(flood())
held = connect()
note(f"{len(held)} connections")
time.sleep(0.7)  # for the host to look
end()
