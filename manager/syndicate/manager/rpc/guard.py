"""The way into a listener: whose methods it has, who may call them, and how what goes wrong is told.

It is a gRPC handler table rather than an interceptor: looking a method up is where the caller's metadata is
known already, costs a microsecond, and no method can be reached past it. (An interceptor of grpc.aio costs
each call a coroutine of its own.)
"""

from __future__ import annotations

import hmac
import inspect
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final

import grpc
import structlog
from google.protobuf.message import DecodeError

from ..core.errors import BadRequest, CoreError
from .errors import abort, refusal
from .types import Context, Handler

# Load balancers and the like ask for health without a credential; it tells nothing but that somebody is
# there.
_OPEN_PREFIX: Final = "/grpc.health.v1.Health/"

_BAD_TOKEN: Final = (
    grpc.StatusCode.UNAUTHENTICATED,
    "BAD_TOKEN",
    "no or a wrong token: send the manager's as metadata `authorization: Bearer TOKEN`",
)

_log = structlog.get_logger()


class Guard(grpc.GenericRpcHandler):
    """All methods of one listener. Stands in for the server when services are added to it."""

    def __init__(
        self,
        token: str,
        stopping: Callable[[], CoreError | None],
        admit: Callable[[Context], None] | None = None,
    ) -> None:
        """With `admit` callers are known by their certificates: each call begins with it, and it raises."""
        self._expected = f"Bearer {token}".encode()
        self._stopping = stopping
        self._admit = admit
        self._open: set[str] = set()
        self._methods: dict[str, Handler] = {}
        self._refuse = refusal(*_BAD_TOKEN)

    @property
    def methods(self) -> frozenset[str]:
        """Full names of all methods, `/package.Service/Method`."""
        return frozenset(self._methods)

    # ---- what generated code calls to add a service --------------------------------------------------------

    def add_generic_rpc_handlers(self, _handlers: object) -> None:
        """Nothing: the same handlers come by `add_registered_method_handlers`, by name."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        """Take a service's methods."""
        for name, handler in handlers.items():
            self._methods[f"/{service}/{name}"] = _told(handler, f"{service}/{name}", self._admit)

    def open(self, method: str) -> None:
        """Let everybody call a method, which asks for a credential of its own."""
        self._open.add(method)

    # ---- what the server calls for each RPC
    # -----------------------------------------------------------------

    def service(self, details: grpc.HandlerCallDetails) -> Handler | None:
        """The method's handler, one that refuses, or None (UNIMPLEMENTED)."""
        method = details.method
        if not method.startswith(_OPEN_PREFIX):
            by_token = self._admit is None and method not in self._open
            if by_token and not self._knows(details.invocation_metadata):
                return self._refuse
            stopping = self._stopping()
            if stopping is not None:
                return refusal(grpc.StatusCode.UNAVAILABLE, stopping.reason, stopping.detail)
        return self._methods.get(method)

    def _knows(self, metadata: Any) -> bool:
        for key, value in metadata:
            if key == "authorization":
                given = value if isinstance(value, bytes) else value.encode()
                return hmac.compare_digest(given, self._expected)
        return False


def _told(handler: Handler, method: str, admit: Callable[[Context], None] | None) -> Handler:
    """The handler, with domain errors told by the table and all others as INTERNAL without their text."""
    behaviour: Any = (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )
    assert behaviour is not None  # noqa: S101 - gRPC sets exactly one

    read: Callable[[Any], Any] = (
        (lambda request: request) if handler.request_streaming else _strict(handler.request_deserializer)
    )

    async def unexpected(context: Context, error: Exception) -> None:
        number = secrets.token_hex(6)
        _log.error("rpc.failed", method=method, request_id=number, exc_info=error)
        await context.abort(
            grpc.StatusCode.INTERNAL, f"the manager failed in this call; its log tells why at {number}"
        )

    async def call(request: Any, context: Context) -> Any:
        try:
            if admit is not None:
                admit(context)
            return await behaviour(read(request), context)
        except CoreError as error:
            await abort(context, error)
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - the outermost frame: it is logged and told
            await unexpected(context, error)

    async def stream(request: Any, context: Context) -> Any:
        try:
            if admit is not None:
                admit(context)
            async for response in behaviour(read(request), context):
                yield response
        except CoreError as error:
            await abort(context, error)
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - as above
            await unexpected(context, error)

    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[bool(handler.request_streaming), bool(handler.response_streaming)]
    told = stream if inspect.isasyncgenfunction(behaviour) else call
    # One request is decoded in the call, where the error can be told; gRPC would answer UNKNOWN with its own
    # text. Messages of a stream are decoded where they are read.
    deserializer = _lenient(handler.request_deserializer) if handler.request_streaming else None
    return make(told, deserializer, handler.response_serializer)


def _strict(decode: Callable[[bytes], Any] | None) -> Callable[[Any], Any]:
    """The decoder of a call's one request. It raises BadRequest (BAD_FIELD)."""

    def read(data: Any) -> Any:
        try:
            return data if decode is None else decode(data)
        except DecodeError:
            raise BadRequest("BAD_FIELD", "the request is no message that can be decoded") from None

    return read


def _lenient(decode: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    """The decoder of a stream's messages: one that makes no sense is an empty one, which streams refuse."""
    if decode is None:
        return None

    def read(data: bytes) -> Any:
        try:
            return decode(data)
        except DecodeError:
            return decode(b"")

    return read
