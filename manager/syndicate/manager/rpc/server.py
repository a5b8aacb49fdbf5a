"""One listener: a grpc.aio server with its services, health and reflection, all behind one guard."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2_grpc
from grpc_reflection.v1alpha.reflection import SERVICE_NAME as REFLECTION
from grpc_reflection.v1alpha.reflection import aio as reflection

from .guard import Guard
from .health import Health
from .types import Handler

_HEALTH: Final = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name

OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    # A second manager on the same port must fail, not share the calls in silence.
    ("grpc.so_reuseport", 0),
    # Beyond about a thousand pending calls gRPC cancels some at random unless told otherwise.
    ("grpc.server.max_pending_requests", 100_000),
    ("grpc.server.max_pending_requests_hard_limit", 100_000),
    # A peer that is gone is noticed within about 20 s; heartbeats notice volunteers sooner. Without the last
    # of these a ping that is not answered counts only after a minute.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Descriptors end somewhere: beyond this a peer is turned away instead of the whole manager.
    ("grpc.max_allowed_incoming_connections", 8_192),
    # Peers may ping as often as this, else they are told off (ENHANCE_YOUR_CALM).
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 4_000),
    ("grpc.http2.max_ping_strikes", 0),
)

# Of each listener beside these.
VOLUNTEERS_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    # Whoever connects and says nothing, or says it too slowly, gives up the place.
    ("grpc.server_handshake_timeout_ms", 10_000),
)
USERS_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    *VOLUNTEERS_OPTIONS,
    # A connection without a call is closed; the next call makes another.
    ("grpc.max_connection_idle_ms", 300_000),
    # Of one connection; a user's own bound holds for all of theirs.
    ("grpc.max_concurrent_streams", 1_024),
)

_TELL_HEALTH_WITHIN_S: Final = 1.0

# A Hello that tells of all that a volunteer holds.
LARGEST_FROM_VOLUNTEERS: Final = 4 << 20
# A chunk of an upload has at most 512 KiB. What is larger would hold up everybody while it is read.
LARGEST_FROM_USERS: Final = 1 << 20


class PortInUse(Exception):
    """The address cannot be bound; the text is one line for the operator."""


class Listener:
    """A server on one address. `what` says for whom it is, `flag` how to move it."""

    def __init__(
        self,
        what: str,
        flag: str,
        guard: Guard,
        options: Sequence[tuple[str, int]] = (),
        largest_message: int = LARGEST_FROM_VOLUNTEERS,
    ) -> None:
        self.guard: Guard = guard
        self.address: str = ""
        self._what = what
        self._flag = flag
        self._health = Health()
        self._services: list[str] = []
        sized = ("grpc.max_receive_message_length", largest_message)
        self._server = grpc.aio.server(options=(*OPTIONS, *options, sized))
        self._server.add_generic_rpc_handlers((self.guard,))

    def add(self, service: str, add_to_server: Callable[[Any, Any], None], servicer: object) -> None:
        """Serve a service, by its generated `add_…_to_server`."""
        add_to_server(servicer, self.guard)
        self._services.append(service)

    def add_open(self, service: str, name: str, handler: Handler) -> None:
        """Serve one method of a service that is at home elsewhere, to callers without a credential."""
        self.guard.add_open(f"/{service}/{name}", handler)

    def bind(self, address: str, credentials: Any = None) -> None:
        """Take the address (`host:port`, port 0 for any); without credentials in clear text.

        Raises PortInUse.
        """
        add_health: Any = (
            health_pb2_grpc.add_HealthServicer_to_server
        )  # typed for servers; the guard stands in for one
        add_health(self._health, self.guard)
        names = (*self._services, _HEALTH, REFLECTION)
        add_reflection: Any = reflection_pb2_grpc.add_ServerReflectionServicer_to_server
        add_reflection(reflection.ReflectionServicer(names), self.guard)
        host, _, port = address.rpartition(":")
        try:
            if credentials is None:
                bound = self._server.add_insecure_port(address)
            else:
                bound = self._server.add_secure_port(address, credentials)
        except RuntimeError:
            raise PortInUse(
                f"cannot listen for {self._what} on {address}: the port is in use, or {host} is not of this "
                f"machine. Who has it?  ss -ltnp 'sport = :{port}'   Another address?  {self._flag} HOST:PORT"
            ) from None
        self.address = f"{host}:{bound}"

    async def start(self) -> None:
        """Serve."""
        await self._server.start()
        for service in self._services:
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, grace_s: float) -> None:
        """Say NOT_SERVING, take no new call, give those under way `grace_s` seconds."""
        with contextlib.suppress(TimeoutError):  # those who watch and do not read are not waited for
            async with asyncio.timeout(_TELL_HEALTH_WITHIN_S):
                await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)
