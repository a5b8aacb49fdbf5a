"""The way to a manager: mutual TLS by this machine's certificate, or clear text with a token."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import grpc
import grpc.aio

from .identity import BadIdentity, Identity, load, show

_PROBE_S: Final = 3.0

Metadata = tuple[tuple[str, str], ...]


class NoWay(Exception):
    """What the way needs is not there; the text is one line for the operator."""


class Way(Protocol):
    """How a link reaches its manager."""

    def metadata(self) -> Metadata:
        """What every call carries; reads its files anew. Raises NoWay."""
        ...

    @property
    def version(self) -> object:
        """Another one where connections made before are not to be used for new streams."""
        ...

    def open(self, target: str, options: Any) -> grpc.aio.Channel:
        """A connection, by what `metadata` read last. Connects when it is used."""
        ...

    async def why(self, target: str) -> str:
        """Why no connection comes about, where this end can tell; empty where it cannot."""
        ...


class ClearText:
    """Without TLS; the token is the manager's own. On loopback only, which the settings see to."""

    version: object = None

    def __init__(self, token_file: Path) -> None:
        self._token_file = token_file

    def metadata(self) -> Metadata:
        """For each stream, so that the token can be changed under a running volunteer."""
        try:
            return (("authorization", f"Bearer {self._token_file.read_text().strip()}"),)
        except (OSError, UnicodeDecodeError) as error:
            raise NoWay(f"the token cannot be read: {error}") from None

    def open(self, target: str, options: Any) -> grpc.aio.Channel:
        """In clear text."""
        return grpc.aio.insecure_channel(target, options=options)

    async def why(self, _target: str) -> str:
        """gRPC says all there is to say."""
        return ""


@dataclass
class MutualTls:
    """By the certificate in a folder, which is read for each stream."""

    folder: Path
    identity: Identity | None = None
    _now: Any = field(default=time.time, repr=False)

    @property
    def version(self) -> object:
        """The certificate's serial number."""
        return self.identity.serial if self.identity is not None else None

    def metadata(self) -> Metadata:
        """Nothing: the certificate says who calls."""
        try:
            self.identity = load(self.folder)
        except BadIdentity as error:
            raise NoWay(str(error)) from None
        now = self._now()
        if now >= self.identity.not_after:
            raise NoWay(
                f"the certificate expired {_long(now - self.identity.not_after)} ago: a new one comes by "
                "`syndicatectl certs renew`, or this machine's clock is ahead"
            )
        if now < self.identity.not_before:
            raise NoWay(
                f"the certificate begins in {_long(self.identity.not_before - now)}: this machine's clock is "
                "at least so much behind; set it (timedatectl)"
            )
        return ()

    def open(self, target: str, options: Any) -> grpc.aio.Channel:
        """By TLS, with the certificate shown."""
        if self.identity is None:
            self.metadata()
        assert self.identity is not None  # noqa: S101 - metadata sets it or raises
        mine = self.identity
        credentials = grpc.ssl_channel_credentials(mine.authority, mine.key, mine.certificate)
        return grpc.aio.secure_channel(target, credentials, options=options)

    async def why(self, target: str) -> str:
        """What a handshake by hand finds: gRPC keeps most of it to itself."""
        if self.identity is None:
            return ""
        return await asyncio.to_thread(_handshake, target, self.folder, self.identity, self._now())


def _handshake(target: str, folder: Path, mine: Identity, now: float) -> str:
    """Blocks for a few seconds at most."""
    host, _, port = target.rpartition(":")
    context = ssl.create_default_context(cadata=mine.authority.decode())
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["h2"])
    try:
        show(context, folder)
        with (
            socket.create_connection((host.strip("[]"), int(port)), timeout=_PROBE_S) as raw,
            context.wrap_socket(raw, server_hostname=host.strip("[]")) as stream,
        ):
            # With TLS 1.3 the server looks at our certificate last; gRPC's then just hangs up.
            if stream.recv(1):
                return ""
        return _about_us(mine)
    except ssl.SSLCertVerificationError as error:
        return _about_manager(error.verify_message, host, int(port), now)
    except ssl.SSLError as error:
        return f"no TLS 1.3 with the manager: {(error.reason or str(error)).lower().replace('_', ' ')}"
    except OSError:
        return ""


def _about_manager(problem: str, host: str, port: int, now: float) -> str:
    """In words, with how far the clock is off where that is what is wrong."""
    if "not yet valid" in problem or "expired" in problem:
        off = _clock_off(host, port, now)
        return f"the manager's certificate: {problem}{off}"
    if "self-signed" in problem or "self signed" in problem or "local issuer" in problem:
        return "the manager's certificate is not of the authority in ca.pem: another cluster's, or made anew"
    return f"the manager's certificate: {problem}"


def _clock_off(host: str, port: int, now: float) -> str:
    from cryptography import x509

    try:
        shown = ssl.get_server_certificate((host.strip("[]"), port), timeout=_PROBE_S)
        certificate = x509.load_pem_x509_certificate(shown.encode())
    except (OSError, ValueError, x509.InvalidVersion):
        return ""
    begin, end = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    if now < begin:
        return f"; this machine's clock is at least {_long(begin - now)} behind (timedatectl)"
    return f"; by this machine's clock it ended {_long(now - end)} ago: it has, or the clock is ahead"


def _about_us(mine: Identity) -> str:
    return (
        "the manager hangs up at this certificate: its own authority is not that of cluster "
        f"{mine.cluster}, or the clocks are far apart and it has expired, or not begun, by the manager's"
    )


def _long(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"
