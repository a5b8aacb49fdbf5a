"""The way into a listener: whose methods it has, who may call them, and how what goes wrong is told.

It is a gRPC handler table rather than an interceptor: looking a method up is where the caller's metadata is
known already, costs microseconds, and no method can be reached past it. (An interceptor of grpc.aio costs
each call a coroutine of its own.) Looking up and running are one task: what is learned of the caller there is
told to the handler by a context variable.
"""

from __future__ import annotations

import asyncio
import inspect
import secrets
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, Final

import grpc
import structlog
from google.protobuf.message import DecodeError

from ..core.access import Caller
from ..core.errors import BadRequest, CoreError, NotKnown, TooLate
from . import caller as callers
from .audit import AuditLog
from .doors import Door
from .errors import abort, refusal
from .limits import OpenCalls, Usage
from .types import Context, Handler

# Load balancers and the like ask for health without a credential; it tells nothing but that somebody is
# there. To watch it takes one, as every stream does.
_OPEN: Final = "/grpc.health.v1.Health/Check"
_BEARER: Final = "Bearer "
_FIRST_WORD_WITHIN_S: Final = 1.0
# How soon after a call reads as ended gRPC says that its peer has cancelled it.
_CANCELLED_WITHIN_S: Final = 0.01
_LONGEST_ID: Final = 64
# What the audit log has in the place of a method that is none of the listener's.
_NO_METHOD: Final = "unknown"
# Of each method that takes no credential, at once: some connections' worth.
_MOST_OF_STRANGERS: Final = 4_096
# Those who take their places and do not say what for give them up again.
_STRANGERS_REQUEST_WITHIN_S: Final = 10.0

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Watch:
    """What a guard tells of the calls that come by; `usage` is None at a door whose callers have no tokens.

    `name_of` says who calls there, by the certificate.
    """

    audit: AuditLog | None = None
    usage: Usage | None = None
    name_of: Callable[[Context], str] | None = None


class Guard(grpc.GenericRpcHandler):
    """All methods of one listener. Stands in for the server when services are added to it."""

    def __init__(
        self, door: Door, stopping: Callable[[], CoreError | None], watch: Watch | None = None
    ) -> None:
        self._door = door
        self._stopping = stopping
        self._watch = watch or Watch()
        self._open: set[str] = set()
        # One for each: who holds one method's calls open shuts nobody out of another.
        self._of_strangers: defaultdict[str, OpenCalls] = defaultdict(OpenCalls)
        self._methods: dict[str, Handler] = {}

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
            method = f"/{service}/{name}"
            self._methods[method] = (
                _told(handler, method, Watch(), None)
                if method == _OPEN
                else _told(handler, method, self._watch, self._door)
            )

    def add_open(self, method: str, handler: Handler) -> None:
        """Take a method for callers without a credential: it asks for one of its own."""
        self._open.add(method)
        self._methods[method] = _told(handler, method, Watch(self._watch.audit), None)

    # ---- what the server calls for each RPC ----------------------------------------------------------------

    def service(self, details: grpc.HandlerCallDetails) -> Handler | None:
        """The method's handler, one that refuses, or None (UNIMPLEMENTED)."""
        method = details.method
        is_health = method == _OPEN
        is_open = is_health or method in self._open
        token, named = ("", "") if is_open else _said(details.invocation_metadata)
        caller: Caller | None = None
        try:
            if is_open:
                self._of_strangers[method].begin(_MOST_OF_STRANGERS, "callers without a credential")
            else:
                caller = self._door.known(token)
            if is_health:
                return self._methods.get(method)  # also while it stops: it tells that
            stopping = self._stopping()
            if stopping is not None:
                raise stopping
            handler = self._methods.get(method)
            if handler is None:
                return None
            usage = self._watch.usage
            if caller is not None and usage is not None:
                usage.call(caller)
            changes = not is_open and self._door.check(caller, method)
            if changes and caller is not None and usage is not None:
                usage.change(caller)
            if caller is not None:
                callers.enter(caller, named)
        except CoreError as error:
            return self._refusal(error, caller, method)
        return handler

    def _refusal(self, error: CoreError, caller: Caller | None, method: str) -> Handler:
        # A token's id is no secret: it tells whose a revoked one was, but only where the rest of it is right.
        known = error.token_id if isinstance(error, NotKnown) else ""
        token_id = known if caller is None else caller.token_id
        # Callers without a credential choose the name, and it would stand in the audit log.
        method = method if method in self._methods else _NO_METHOD

        def told(context: Context) -> None:
            _tell_denied(self._watch, error, caller, token_id, method, context, None)

        return refusal(error, told)


def _said(metadata: Any) -> tuple[str, str]:
    """What stands after `Bearer `, and `syndicate-user`; each empty where nothing does."""
    token: str | None = None
    named = ""
    for key, value in metadata:
        if key == "authorization" and token is None:
            text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
            token = text[len(_BEARER) :] if text.startswith(_BEARER) else ""
        elif key == "syndicate-user" and isinstance(value, str):
            named = value
    return token or "", named


def _tell_denied(
    watch: Watch,
    error: CoreError,
    caller: Caller | None,
    token_id: str,
    method: str,
    context: Context,
    request: object,
) -> None:
    if watch.audit is not None and error.denied:
        name = method.rpartition("/")[2]
        job_id = callers.job_named(context) or 0
        who = watch.name_of(context) if watch.name_of is not None else ""
        watch.audit.denied(error, caller, token_id, callers.host_of(context), name, request, job_id, who)


def _told(handler: Handler, method: str, watch: Watch, door: Door | None) -> Handler:
    """The handler, with domain errors told by the table and all others as INTERNAL without their text.

    `door` is None where a caller needs nothing to come in.
    """
    admit: Callable[[Context], None] = _nobody_asks if door is None else door.admit
    still: Callable[[Context], None] = _nobody_asks if door is None else door.still
    decode = _strict(handler.request_deserializer)
    behaviour: Any = (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )
    assert behaviour is not None  # noqa: S101 - gRPC sets exactly one
    if inspect.isasyncgenfunction(behaviour):
        behaviour = _writing(behaviour)

    usage = watch.usage

    async def unexpected(context: Context, error: Exception, request: object) -> None:
        number = secrets.token_hex(6)
        _log.error("rpc.failed", method=method, incident=number, **_ids_of(request), exc_info=error)
        await context.abort(
            grpc.StatusCode.INTERNAL, f"the manager failed in this call; its log tells why at {number}"
        )

    def denied(error: CoreError, context: Context, request: object) -> None:
        caller = callers.current() if usage is not None else None
        token_id = caller.token_id if caller is not None else ""
        _tell_denied(watch, error, caller, token_id, method, context, request)

    async def enter(data: Any, context: Context) -> Any:
        """Lets the call in, and gives what it asks."""
        try:
            admit(context)
        except CoreError:
            # A call that is refused before its first message was read meets the peer in the midst of
            # writing: gRPC then tells that peer of a broken stream instead of the reason.
            with suppress(TimeoutError):
                async with asyncio.timeout(_FIRST_WORD_WITHIN_S):
                    await context.read()
            raise
        if handler.request_streaming:
            return data
        if door is None:
            request = await _of_a_stranger(context)
        else:
            request = await context.read()
        if request is grpc.aio.EOF:
            # So reads a call that its peer cancelled, too: gRPC ends that a moment later, and would keep the
            # memory of an answer for good.
            await asyncio.sleep(_CANCELLED_WITHIN_S)
            raise BadRequest("BAD_FIELD", "the call ended before its request came")
        still(context)
        return decode(request)

    async def call(data: Any, context: Context) -> Any:
        request = None
        try:
            request = await enter(data, context)
            return await behaviour(request, context)
        except CoreError as error:
            if error.denied:
                denied(error, context, request)
            await abort(context, error)
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - the outermost frame: it is logged and told
            await unexpected(context, error, request)

    async def counted(data: Any, context: Context) -> Any:
        """A stream of a user: one of so many, and over when its token is."""
        assert usage is not None  # noqa: S101 - as below
        request = None
        try:
            with usage.stream(callers.current()) as live:
                try:
                    async with live.deadline:
                        request = await enter(data, context)
                        return await behaviour(request, context)
                except TimeoutError:
                    if live.ended is None:
                        raise
                    raise live.ended from None
        except CoreError as error:
            if error.denied:
                denied(error, context, request)
            await abort(context, error)
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - as above
            await unexpected(context, error, request)

    # Also a method of one request is served as a stream of them, which on the wire is the same: gRPC's own
    # reading of one leaves a call that ends without it open, and answered by nobody. What follows the first
    # is not read.
    make = (
        grpc.stream_stream_rpc_method_handler
        if handler.response_streaming
        else grpc.stream_unary_rpc_method_handler
    )
    streams = handler.request_streaming or handler.response_streaming
    told = counted if streams and usage is not None else call
    # One request is decoded in the call, where the error can be told; gRPC would answer UNKNOWN with its own
    # text. Messages of a stream are decoded where they are read.
    deserializer = _lenient(handler.request_deserializer) if handler.request_streaming else None
    return make(told, deserializer, handler.response_serializer)


def _writing(generate: Callable[[Any, Context], AsyncGenerator[Any, None]]) -> Callable[..., Any]:
    """The handler that writes what a generator gives: one coroutine, which can be ended from outside."""

    async def write(request: Any, context: Context) -> None:
        async with aclosing(generate(request, context)) as responses:
            async for response in responses:
                await context.write(response)

    return write


def _ids_of(request: object) -> dict[str, object]:
    """What a request names, for the log; a text is cut, since its sender chose it."""
    names = ("request_id", "job_id", "volunteer_id")
    found = {name: getattr(request, name, None) for name in names}
    texts = {name: value[:_LONGEST_ID] for name, value in found.items() if isinstance(value, str)}
    return {name: value for name, value in {**found, **texts}.items() if value}


async def _of_a_stranger(context: Context) -> Any:
    """The first message of a call without a credential, or EOF. Raises TooLate (REQUEST_LATE)."""
    limit_s = _STRANGERS_REQUEST_WITHIN_S
    try:
        async with asyncio.timeout(limit_s):
            return await context.read()
    except TimeoutError:
        raise TooLate("REQUEST_LATE", f"no request came within {limit_s:g} s") from None


def _nobody_asks(_context: Context) -> None:
    """For a method that is open to everybody."""


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
