"""The one table from domain errors to gRPC status, and how an error travels.

An error goes out twice: as google.rpc.Status with ErrorInfo (`grpc-status-details-bin`), and in plain
trailing metadata (`syndicate-reason`, `syndicate-meta-<key>`) for clients that do not have those protos.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NoReturn

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # ships no types
from grpc_status import rpc_status

from ..core import errors
from .types import Context, Handler

DOMAIN: Final = "syndicate"

STATUS_OF: Final[dict[type[errors.CoreError], grpc.StatusCode]] = {
    errors.NotKnown: grpc.StatusCode.UNAUTHENTICATED,
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

# gRPC ends a call with more than 8 KiB of metadata as another error. The detail goes out as the call's
# message, where a byte may take three, and again with the values in base64.
_DETAIL_BYTES: Final = 1000
_VALUE_BYTES: Final = 512
_ALL_VALUES_BYTES: Final = 1024
_MORE: Final = " …"
_NOT_IN_A_KEY: Final = re.compile(r"[^a-z0-9_.-]")

Trailer = tuple[tuple[str, str | bytes], ...]


def status_of(error: errors.CoreError) -> grpc.StatusCode:
    """The error's status code."""
    return STATUS_OF[type(error)]


def short(text: str, most_bytes: int = _DETAIL_BYTES) -> str:
    """The text as far as it fits, with a sign where it does not."""
    data = text.encode(errors="replace")
    if len(data) <= most_bytes:
        return data.decode()
    return data[: most_bytes - len(_MORE.encode())].decode(errors="ignore") + _MORE


def _short_values(metadata: dict[str, str]) -> dict[str, str]:
    left = _ALL_VALUES_BYTES
    kept = {}
    for key, value in metadata.items():
        if left < len(_MORE.encode()):
            break
        kept[key] = short(value, min(_VALUE_BYTES, left))
        left -= len(kept[key].encode())
    return kept


def trailer(code: grpc.StatusCode, reason: str, detail: str, metadata: dict[str, str]) -> Trailer:
    """The trailing metadata of an error, with what is long in it cut."""
    detail, metadata = short(detail), _short_values(metadata)
    info = any_pb2.Any()
    info.Pack(error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata))
    status = rpc_status.to_status(status_pb2.Status(code=code.value[0], message=detail, details=[info]))
    plain = [(f"syndicate-meta-{_NOT_IN_A_KEY.sub('-', k.lower())}", v) for k, v in metadata.items()]
    return (
        *status.trailing_metadata,
        ("syndicate-reason", reason),
        *((k, v) for k, v in plain if v.isascii() and v.isprintable()),
    )


async def abort(context: Context, error: errors.CoreError) -> NoReturn:
    """End the call with the error."""
    code = status_of(error)
    await context.abort(code, short(error.detail), trailer(code, error.reason, error.detail, error.metadata))


def refusal(error: errors.CoreError, told: Callable[[Context], None]) -> Handler:
    """A handler that refuses any call, whatever its shape: it ends the call before it reads."""

    async def refuse(_request: object, context: Context) -> None:
        told(context)
        await abort(context, error)

    return grpc.stream_stream_rpc_method_handler(refuse)
