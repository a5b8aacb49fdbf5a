"""The one table from domain errors to gRPC status, and how an error travels.

An error goes out twice: as google.rpc.Status with ErrorInfo (`grpc-status-details-bin`), and in plain
trailing metadata (`syndicate-reason`, `syndicate-meta-<key>`) for clients that do not have those protos.
"""

from __future__ import annotations

import re
from typing import Final, NoReturn

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # ships no types
from grpc_status import rpc_status

from ..core import errors
from .types import Context, Handler

DOMAIN: Final = "syndicate"

STATUS_OF: Final[dict[type[errors.CoreError], grpc.StatusCode]] = {
    errors.BadRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.Refused: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NotAllowed: grpc.StatusCode.PERMISSION_DENIED,
    errors.Exhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Conflict: grpc.StatusCode.ALREADY_EXISTS,
    errors.Away: grpc.StatusCode.UNAVAILABLE,
    errors.TooLate: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Ended: grpc.StatusCode.ABORTED,
    errors.FaultFailed: grpc.StatusCode.INTERNAL,
}

# gRPC ends a call whose metadata is too large: a long value goes in the details alone.
_LONGEST_VALUE: Final = 512
_NOT_IN_A_KEY: Final = re.compile(r"[^a-z0-9_.-]")

Trailer = tuple[tuple[str, str | bytes], ...]


def status_of(error: errors.CoreError) -> grpc.StatusCode:
    """The error's status code."""
    return STATUS_OF[type(error)]


def trailer(code: grpc.StatusCode, reason: str, detail: str, metadata: dict[str, str]) -> Trailer:
    """The trailing metadata of an error."""
    info = any_pb2.Any()
    info.Pack(error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata))
    status = rpc_status.to_status(status_pb2.Status(code=code.value[0], message=detail, details=[info]))
    plain = [(f"syndicate-meta-{_NOT_IN_A_KEY.sub('-', k.lower())}", v) for k, v in metadata.items()]
    return (
        *status.trailing_metadata,
        ("syndicate-reason", reason),
        *((k, v) for k, v in plain if v.isascii() and v.isprintable() and len(v) <= _LONGEST_VALUE),
    )


async def abort(context: Context, error: errors.CoreError) -> NoReturn:
    """End the call with the error."""
    code = status_of(error)
    await context.abort(code, error.detail, trailer(code, error.reason, error.detail, error.metadata))


def refusal(code: grpc.StatusCode, reason: str, detail: str) -> Handler:
    """A handler that refuses any call, whatever its shape: it ends the call before it reads."""
    metadata = trailer(code, reason, detail, {})

    async def refuse(_request: object, context: Context) -> None:
        await context.abort(code, detail, metadata)

    return grpc.stream_stream_rpc_method_handler(refuse)
