"""How far this machine's clock is from a manager's: Cristian's way, by the shortest of a few round trips."""

from __future__ import annotations

import time
from typing import Final

import grpc

from .identity import Identity

_TRIES: Final = 5
_TRY_S: Final = 5.0
_CHECK: Final = "/grpc.health.v1.Health/Check"
_UTC_KEY: Final = "syndicate-utc-ns"


class Unknown(Exception):
    """It could not be measured; the text is one line."""


def measure(target: str, identity: Identity | None) -> tuple[float, float]:
    """This clock minus the manager's, and how far that may be off; in seconds. Blocks. Raises Unknown."""
    options = (("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1))
    if identity is None:
        channel = grpc.insecure_channel(target, options)
    else:
        shown = grpc.ssl_channel_credentials(identity.authority, identity.key, identity.certificate)
        channel = grpc.secure_channel(target, shown, options)
    with channel:
        # An empty request asks for the server as a whole, and of the answer only its metadata is read.
        check = channel.unary_unary(_CHECK, request_serializer=_raw, response_deserializer=_raw)
        exchanges = [_exchange(check) for _ in range(_TRIES)]
    took, offset = min(exchanges)
    return offset, took / 2


def _raw(message: bytes) -> bytes:
    return message


def _exchange(check: grpc.UnaryUnaryMultiCallable[bytes, bytes]) -> tuple[float, float]:
    sent = time.time_ns()
    try:
        _, call = check.with_call(b"", timeout=_TRY_S)
    except grpc.RpcError as error:
        raise Unknown(f"the manager does not tell its time ({error.code().name.lower()})") from None
    received = time.time_ns()
    told = dict(call.trailing_metadata() or ()).get(_UTC_KEY)
    if not isinstance(told, str) or not told.isdecimal():
        raise Unknown("the manager does not tell its time: it is of an older version")
    return (received - sent) / 1e9, ((sent + received) / 2 - int(told)) / 1e9
