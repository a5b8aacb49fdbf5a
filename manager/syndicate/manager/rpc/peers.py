"""Who calls on the volunteers' listener: the certificate that gRPC has verified, held to the register.

TLS has checked the chain, the dates and the key. What it cannot know is checked here for every call: that
the serial number was issued and not revoked, and, where the certificate names addresses, that the call comes
from one of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from ..core.errors import CoreError, NotAllowed
from ..pki import Certificate, Kind, PkiError, Register, address_of, day, read
from .caller import host_of
from .types import Context

# Certificates that were read lately: a relayed call should not cost the reading again.
_MOST_READ: Final = 4096
_LONGEST_SLEEP_S: Final = 3600.0

Close = Callable[[CoreError | None], None]


@dataclass(slots=True)
class _Attached:
    volunteer_id: str
    serial: str
    not_after: int
    close: Close
    timer: asyncio.TimerHandle | None = None
    # What it was given since.
    newer: str = ""
    newer_until: int = 0


class Peers:
    """The callers, by certificate. `now` is the clock, in seconds since 1970, UTC."""

    def __init__(self, cluster: str, register: Register, now: Callable[[], int]) -> None:
        self._cluster = cluster
        self._register = register
        self._now = now
        self._read: dict[bytes, Certificate] = {}
        self._attached: dict[str, list[_Attached]] = {}

    @property
    def register(self) -> Register:
        """As it was read last."""
        return self._register

    def admit(self, context: Context) -> None:
        """Raises NotAllowed for a caller that may not be here."""
        self.caller(context)

    def caller(self, context: Context) -> Certificate:
        """The caller's certificate. Raises NotAllowed."""
        certificate = self._certificate(context)
        if certificate.kind is not Kind.VOLUNTEER or certificate.cluster != self._cluster:
            raise NotAllowed("WRONG_IDENTITY", "the certificate is none of a volunteer of this cluster")
        if not certificate.is_strong:
            text = "the certificate's key is too weak or of another kind; ECDSA on P-256 is needed"
            raise NotAllowed("WRONG_IDENTITY", text)
        self._must_be_good(certificate)
        self._must_come_from(certificate, host_of(context))
        return certificate

    def name_of(self, context: Context) -> str:
        """The volunteer that a call's certificate names, let in or not; empty where there is none."""
        try:
            return self._certificate(context).name
        except NotAllowed:
            return ""

    def must_be(self, context: Context, volunteer_id: str) -> Certificate:
        """Raises NotAllowed where the caller speaks for another than its certificate names."""
        certificate = self.caller(context)
        if certificate.name != volunteer_id:
            raise NotAllowed(
                "WRONG_IDENTITY",
                f"the certificate is volunteer {certificate.name}'s: it cannot speak for {volunteer_id}",
            )
        return certificate

    @contextlib.contextmanager
    def attached(self, certificate: Certificate, close: Close) -> Iterator[None]:
        """Ends a stream (`close`) when its certificate is revoked, or expires and was not renewed by it."""
        name = certificate.name
        one = _Attached(name, certificate.serial, certificate.not_after, close)
        streams = self._attached.setdefault(name, [])
        streams.append(one)
        try:
            self._look(one)
            yield
        finally:
            streams.remove(one)
            if not streams:
                del self._attached[name]
            if one.timer is not None:
                one.timer.cancel()

    def renewed(self, made: Certificate) -> None:
        """A volunteer that showed its certificate was given this one: a stream of its goes on as long."""
        for one in self._attached.get(made.name, ()):
            one.newer, one.newer_until = made.serial, made.not_after

    def until(self, volunteer_id: str) -> int:
        """When a volunteer's certificate expires, in seconds since 1970; 0 where it has none.

        Of one that is attached it is what it came with, or was given for that: what an operator has made for
        its name may lie elsewhere. Of others it is the newest that was issued.
        """
        streams = self._attached.get(volunteer_id)
        if streams:
            return max(self._good_until(one) for one in streams)
        return self._register.until(volunteer_id, self._now())

    def update(self, register: Register) -> list[str]:
        """Take a newer register; ends streams of those that were revoked, and returns their ids."""
        self._register = register
        cut = []
        for one in [one for streams in self._attached.values() for one in streams]:
            if self._is_refused(one):
                text = f"the certificate of {one.volunteer_id} is revoked"
                one.close(NotAllowed("CERTIFICATE_REVOKED", text))
                cut.append(one.volunteer_id)
        return cut

    def _is_refused(self, one: _Attached) -> bool:
        line, now = self._register.find(one.serial), self._now()
        if line is not None and line.revoked_at:
            return True
        if now < one.not_after:
            return line is None
        # It stands by the newer one; its own is forgotten some time after it has expired.
        return now < one.newer_until and self._good_until(one) <= now

    def _good_until(self, one: _Attached) -> int:
        """Its own end, or that of what it was given since, unless that one was revoked."""
        line = self._register.find(one.newer) if one.newer else None
        if line is None or line.revoked_at:
            return one.not_after
        return max(one.not_after, one.newer_until)

    def _look(self, one: _Attached) -> None:
        # The clock of certificates can be set, so it is looked at again once in a while.
        now = self._now()
        left = self._good_until(one) - now
        if left <= 0:
            text = f"the certificate of {one.volunteer_id} has expired"
            one.close(NotAllowed("CERTIFICATE_EXPIRED", text))
            return
        loop = asyncio.get_running_loop()
        # From its own end on it stands by the newer one, which may have been revoked by then.
        own = one.not_after - now
        one.timer = loop.call_later(min(left, own if own > 0 else left, _LONGEST_SLEEP_S), self._look, one)

    def _certificate(self, context: Context) -> Certificate:
        shown = context.auth_context().get("x509_pem_cert")
        if not shown:
            raise NotAllowed("WRONG_IDENTITY", "the call came without a certificate")
        pem = next(iter(shown))
        known = self._read.get(pem)
        if known is None:
            try:
                known = read(pem)
            except PkiError as error:
                raise NotAllowed("WRONG_IDENTITY", str(error)) from None
            if len(self._read) >= _MOST_READ:
                self._read.clear()
            self._read[pem] = known
        return known

    def _must_be_good(self, certificate: Certificate) -> None:
        line, whose = self._register.find(certificate.serial), f"the certificate of {certificate.name}"
        if line is None:
            raise NotAllowed("CERTIFICATE_UNKNOWN", f"{whose} is not in this cluster's register")
        if line.revoked_at:
            raise NotAllowed("CERTIFICATE_REVOKED", f"{whose} was revoked on {day(line.revoked_at)}")
        # A connection outlives the handshake in which the dates were checked.
        if self._now() >= line.not_after:
            raise NotAllowed("CERTIFICATE_EXPIRED", f"{whose} expired on {day(line.not_after)}")

    def _must_come_from(self, certificate: Certificate, came_from: str) -> None:
        allowed = [one for one in certificate.addresses if _is_address(one)]
        found = address_of(came_from)
        if allowed and (found is None or found not in map(address_of, allowed)):
            text = f"the certificate of {certificate.name} is for {', '.join(allowed)}"
            raise NotAllowed("WRONG_ADDRESS", f"{text}; the call came from {came_from}")


def _is_address(text: str) -> bool:
    return ":" in text or bool(re.fullmatch(r"\d+\.\d+\.\d+\.\d+", text))
