"""An echo server: the least that a gRPC call in one asyncio process costs.

`echo` serves in clear text, `echo IDENTITY` with TLS by a file of key and certificate.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import grpc


async def echo(request: bytes, _: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    """Gives back what came."""
    return request


async def main(identity: bytes = b"") -> None:
    """Prints its port and serves until it is ended."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handlers = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Echo", handlers),))
    if identity:
        pair = (identity, identity[identity.index(b"-----BEGIN CERTIFICATE") :])
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(*(Path(name).read_bytes() for name in sys.argv[1:])))
