"""Certificates by request: `Registry.Join` for a machine with a join token, `Registry.Renew` for a volunteer.

Join is served on the users' listener: gRPC asks all callers of a listener for a certificate or none, and a
machine that joins has none. It knows the manager by the authority's fingerprint, the manager knows it by the
token.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import structlog
from syndicate.v1 import common_pb2
from syndicate.v1 import registry_pb2 as pb

from ..core.bucket import Bucket
from ..core.errors import BadRequest, Conflict, CoreError, Exhausted, NotAllowed, Refused
from ..pki import MOST_USES, BadInput, Certificate, Exists, PkiError, Revoked, TokenRefused
from ..transport import Transport
from . import convert
from .audit import AuditLog
from .caller import host_of
from .types import Context

# A clock further off than this makes certificates useless sooner or later, and times in logs at once.
_MOST_OFF_S: Final = 300.0
_MOST_REMEMBERED: Final = 1000
# Of all callers of Join together: nobody is known there, and a wrong token costs as much as a right one.
_JOINS_PER_S: Final = 20.0
_JOINS_BURST: Final = 200.0
# Of one name: each certificate is a line of the register and of the audit log, and is good for weeks.
_SIGNED_PER_S: Final = 1 / 60
_SIGNED_BURST: Final = 60.0

_log = structlog.get_logger()


class Signing:
    """What the two methods do."""

    def __init__(self, transport: Transport, audit: AuditLog) -> None:
        self._transport = transport
        self._audit = audit
        # By who asks and request id, so that a request that is repeated gets the same certificate, also
        # while the first is being answered. What failed is not kept.
        self._answers: OrderedDict[tuple[str, str], asyncio.Task[Certificate]] = OrderedDict()
        self._joins = Bucket()
        # What each was given lately, by name.
        self._signed: OrderedDict[str, Bucket] = OrderedDict()

    async def join(self, request: pb.JoinRequest, context: Context) -> pb.JoinResponse:
        """Sign for a machine with a join token. Before anything of it is looked at, it is counted."""
        self._count()
        office, token, csr = self._transport.office, request.token, request.signing_request.encode()
        name = convert.name(request.volunteer_id, "volunteer_id")
        token_id, dot, _ = token.partition(".")  # without a dot all of it may be the secret
        log = _log.bind(volunteer_id=name, peer=context.peer(), token_id=token_id[:16] if dot else "")
        host = host_of(context)

        def signed(_: Certificate) -> None:
            self._owe(name)  # only now: who has no token uses no other's turns up
            log.info("join.signed")
            self._audit.signed(name, host, "Join")

        try:
            # The secret is part of who asks: a repeat by somebody else is none.
            who = f"join {token} {name}"
            begin = functools.partial(self._must_have_turn, name)
            made = await self._once(who, request, begin, lambda: office.join(token, name, csr), signed)
        except CoreError as error:
            log.warning("join.refused", reason=error.reason, detail=error.detail)
            raise
        return pb.JoinResponse(certificate=made, authority=self._transport.authority.pem.decode())

    async def renew(self, request: pb.RenewRequest, context: Context) -> pb.RenewResponse:
        """Sign for a volunteer that shows a certificate."""
        office, csr = self._transport.office, request.signing_request.encode()
        holder = self._transport.peers.caller(context)
        host = host_of(context)

        def signed(made: Certificate) -> None:
            self._transport.peers.renewed(made)
            _log.info("certificate.renewed", volunteer_id=holder.name)
            self._audit.signed(holder.name, host, "Renew")

        def begin() -> None:
            self._must_have_turn(holder.name)
            self._owe(holder.name)

        made = await self._once(holder.serial, request, begin, lambda: office.sign_again(holder, csr), signed)
        return pb.RenewResponse(certificate=made, authority=self._transport.authority.pem.decode())

    def _count(self) -> None:
        """Raises Exhausted (TOO_MANY_CALLS) where more come than machines that join would."""
        wait_s = self._joins.take(_now_ns(), _JOINS_PER_S, _JOINS_BURST)
        if wait_s:
            raise Exhausted(
                "TOO_MANY_CALLS",
                f"more than {_JOINS_PER_S:g} machines a second ask to join; try again in {wait_s:.2g} s",
                most=f"{_JOINS_PER_S:g}",
                retry_after_s=f"{max(wait_s, 0.001):.3f}",
            )

    async def _once(
        self,
        who: str,
        request: pb.JoinRequest | pb.RenewRequest,
        begin: Callable[[], None],
        work: Callable[[], Certificate],
        signed: Callable[[Certificate], None],
    ) -> str:
        key = (who, convert.request_id(request.request_id))
        task = self._answers.get(key)
        if task is None:
            check_clock(request.sent_at)
            begin()
            task = self._answers[key] = self._transport.sign(work)
            task.add_done_callback(lambda done: self._done(key, done, signed))
            if len(self._answers) > _MOST_REMEMBERED:
                self._answers.popitem(last=False)
        made = await told(task)
        await self._audit.kept()
        return made.pem.decode()

    def _must_have_turn(self, name: str) -> None:
        """Raises Exhausted (TOO_MANY_CALLS) where one volunteer asks for one certificate after another."""
        bucket = self._signed.get(name)
        left = _SIGNED_BURST if bucket is None else bucket.left(_now_ns(), _SIGNED_PER_S, _SIGNED_BURST)
        if left < 1:
            wait_s = (1 - left) / _SIGNED_PER_S
            raise Exhausted(
                "TOO_MANY_CALLS",
                f"{name} was given {_SIGNED_BURST:g} certificates lately; try again in {wait_s:.2g} s",
                most=f"{_SIGNED_BURST:g}",
                retry_after_s=f"{max(wait_s, 0.001):.3f}",
            )

    def _owe(self, name: str) -> None:
        bucket = self._signed.setdefault(name, Bucket())
        bucket.owe(_now_ns(), _SIGNED_PER_S, _SIGNED_BURST, 1.0)
        self._signed.move_to_end(name)
        if len(self._signed) > MOST_USES:  # more names than one token lets in
            self._signed.popitem(last=False)

    def _done(
        self, key: tuple[str, str], task: asyncio.Task[Certificate], signed: Callable[[Certificate], None]
    ) -> None:
        """Also where nobody waits for the answer any more: it was signed all the same."""
        if task.cancelled() or task.exception() is not None:
            self._answers.pop(key, None)
        else:
            signed(task.result())


def _now_ns() -> int:
    return time.monotonic_ns()


async def told(signing: asyncio.Task[Certificate]) -> Certificate:
    """What was signed. Raises CoreError for what the office refuses."""
    try:
        return await asyncio.shield(signing)
    except TokenRefused as error:
        raise NotAllowed("BAD_JOIN_TOKEN", str(error)) from None
    except Revoked as error:
        raise NotAllowed("CERTIFICATE_REVOKED", str(error)) from None
    except BadInput as error:
        raise BadRequest("BAD_FIELD", f"signing_request: {error}") from None
    except Exists as error:
        raise Conflict("VOLUNTEER_EXISTS", f"{error}, and not by this token; revoke it first") from None
    except (PkiError, OSError) as error:
        _log.error("certificates.trouble", detail=str(error))
        raise Refused("CANNOT_SIGN", "the manager cannot sign certificates now; its log tells why") from None


def check_clock(sent_at: common_pb2.Stamp) -> None:
    """Raises Refused where the caller's clock and this one are far apart."""
    offset = sent_at.utc_ns / 1e9 - time.time()
    if abs(offset) > _MOST_OFF_S:
        where = "ahead of" if offset > 0 else "behind"
        raise Refused(
            "CLOCK_OFF",
            f"the machine's clock is {abs(offset):,.0f} s {where} the manager's; set it (timedatectl)",
            offset_s=f"{offset:.0f}",
        )
