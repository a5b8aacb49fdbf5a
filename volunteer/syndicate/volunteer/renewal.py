"""The volunteer's own renewal: in the last third of its certificate's life it asks for the next one.

Key and certificate are replaced in one file; the stream that stands goes on (the manager has signed for it,
and knows), and new connections show the new certificate. A manager that is away is asked again.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import Any, Final

import grpc
import structlog
from syndicate.v1 import registry_pb2 as pb
from syndicate.v1 import registry_pb2_grpc

from . import convert, identity
from .clock import Clock
from .link import ManagerLink
from .way import MutualTls, NoWay

_LONGEST_PAUSE_S: Final = 3600.0
_SHORTEST_PAUSE_S: Final = 1.0
# Where it has expired by this machine's clock, and the stream stands all the same: the clock is ahead, and
# each try is refused until somebody sets it.
_CLOCK_PAUSE_S: Final = 60.0
_CALL_S: Final = 30.0

_log = structlog.get_logger()


async def keep_renewed(
    link: ManagerLink, way: MutualTls, clock: Clock, now: Callable[[], float] = time.time
) -> None:
    """Renews the certificate of a link whenever it is time, until cancelled."""
    while True:
        await link.up.wait()
        if (left := _left(way, now())) > 0:
            await asyncio.sleep(min(left, _LONGEST_PAUSE_S))
            continue
        try:
            made = await _renew(link, way, clock)
        except (grpc.aio.AioRpcError, identity.BadIdentity, OSError) as error:
            text = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
            expires_in = way.identity.not_after - now() if way.identity is not None else 0
            _log.warning("certificate.not_renewed", detail=text, expires_in_s=round(expires_in))
            await asyncio.sleep(_pause(expires_in))
            continue
        link.renewed()
        _log.info("certificate.renewed", manager=link.target, serial=made.serial)
        if (expires_in := made.not_after - now()) <= 0 or _left(way, now()) <= 0:
            # The authority itself is near its end, or the clocks are apart: the next one would be no better.
            _log.warning("certificate.short", expires_in_s=round(expires_in))
            await asyncio.sleep(_pause(expires_in))


def _pause(expires_in_s: float) -> float:
    if expires_in_s <= 0:
        return _CLOCK_PAUSE_S
    return max(_SHORTEST_PAUSE_S, min(_LONGEST_PAUSE_S, expires_in_s / 20))


async def _renew(link: ManagerLink, way: MutualTls, clock: Clock) -> identity.Identity:
    assert way.identity is not None  # noqa: S101 - the caller looked
    request = identity.new_request(way.identity.volunteer_id)
    asked = pb.RenewRequest(
        request_id=str(uuid.uuid4()),
        signing_request=request.csr,
        sent_at=convert.stamp_out(clock.stamp()),
    )
    # Its async types are in a name that exists for type checkers only.
    stub: Any = registry_pb2_grpc.RegistryStub(link.channel)
    try:
        answer = await stub.Renew(asked, timeout=_CALL_S)
    except asyncio.CancelledError:
        # A channel that is closed beneath a call ends it with this too; a cancellation of this task goes on.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise OSError("the connection was closed meanwhile") from None
    made = identity.save(way.folder, request, answer.certificate, answer.authority)
    try:
        way.metadata()
    except NoWay as error:
        raise identity.BadIdentity(str(error)) from None
    return made


def _left(way: MutualTls, now: float) -> float:
    """Seconds until the next one should be asked for."""
    return _LONGEST_PAUSE_S if way.identity is None else way.identity.renew_at - now
