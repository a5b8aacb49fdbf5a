"""Joining: a machine without a certificate gets one for a join token.

It knows the manager by the fingerprint of the cluster's authority: the manager shows the authority with its
own certificate, and what is shown is believed only where its digest is the one that was told. Key and signing
request are made here; the key never leaves the machine.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import socket
import ssl
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import structlog
from syndicate.v1 import registry_pb2 as pb
from syndicate.v1 import registry_pb2_grpc

from . import convert, identity
from .clock import Clock

_TRY_S: Final = 10.0
_log = structlog.get_logger()


class JoinRefused(Exception):
    """The manager, or what it showed, will not do; the text is one line for the operator."""


class ManagerAway(Exception):
    """The manager does not answer now."""


@dataclass(frozen=True, slots=True)
class Invitation:
    """What a machine needs to join: the manager's users' address, the token's file, whom to believe."""

    target: str
    token_file: Path
    fingerprint: str
    """SHA-256 of the authority's certificate, hexadecimal; `sha256:` may stand before it."""


async def join(invitation: Invitation, volunteer_id: str, folder: Path, clock: Clock) -> identity.Identity:
    """One try: the certificate, written to the folder. Raises JoinRefused, ManagerAway, OSError."""
    token = _token(invitation.token_file)
    authority = await asyncio.to_thread(fetch_authority, invitation.target, invitation.fingerprint)
    request = identity.new_request(volunteer_id)
    asked = pb.JoinRequest(
        request_id=str(uuid.uuid4()),
        token=token,
        volunteer_id=volunteer_id,
        signing_request=request.csr,
        sent_at=convert.stamp_out(clock.stamp()),
    )
    credentials = grpc.ssl_channel_credentials(authority.encode())
    options = (("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1))
    async with grpc.aio.secure_channel(invitation.target, credentials, options=options) as channel:
        # Its async types are in a name that exists for type checkers only.
        stub: Any = registry_pb2_grpc.RegistryStub(channel)
        try:
            answer = await stub.Join(asked, timeout=_TRY_S)
        except grpc.aio.AioRpcError as error:
            raise _told(error) from None
    if answer.authority != authority:
        raise JoinRefused("the manager answered with another authority than the one that it showed")
    try:
        made = identity.save(folder, request, answer.certificate, answer.authority)
    except identity.BadIdentity as error:
        raise JoinRefused(str(error)) from None
    _log.info("join.done", volunteer_id=made.volunteer_id, cluster=made.cluster)
    return made


def digest(fingerprint: str) -> str:
    """A fingerprint as people write it, as hexadecimal digits alone."""
    return fingerprint.lower().removeprefix("sha256:").replace(":", "")


def _token(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise JoinRefused(f"the join token cannot be read: {path} ({error.strerror})") from None
    except UnicodeDecodeError:
        raise JoinRefused(f"the join token cannot be read: {path} is no text") from None


def fetch_authority(target: str, fingerprint: str) -> str:
    """The authority that the manager shows, as PEM, where its digest is this one. Blocks.

    Raises JoinRefused, ManagerAway.
    """
    wanted = digest(fingerprint)
    for certificate in _shown(target):
        if hmac.compare_digest(hashlib.sha256(certificate).hexdigest(), wanted):
            return ssl.DER_cert_to_PEM_cert(certificate)
    raise JoinRefused(
        f"{target} shows no authority of the fingerprint {fingerprint}: it is another cluster's, or somebody "
        "is in between"
    )


def _shown(target: str) -> list[bytes]:
    """The certificates that a server shows, unchecked, as DER."""
    host, _, port = target.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # Nothing is believed but what has the fingerprint that was told, and nothing is sent.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((host.strip("[]"), int(port)), timeout=_TRY_S) as raw,
            context.wrap_socket(raw, server_hostname=host.strip("[]")) as stream,
        ):
            return _chain(stream)
    except ssl.SSLError as error:
        text = (error.reason or str(error)).lower().replace("_", " ")
        raise JoinRefused(f"{target} speaks no TLS 1.3 ({text})") from None
    except OSError as error:
        raise ManagerAway(f"{target}: {(error.strerror or str(error)).lower()}") from None


def _chain(stream: ssl.SSLSocket) -> list[bytes]:
    public: Any = getattr(stream, "get_unverified_chain", None)
    if public is not None:  # from Python 3.13 on
        return list(public())
    # Before it the same call has no public name; the constant is ssl's own word for DER.
    inner: Any = stream._sslobj  # type: ignore[attr-defined]  # see above
    return [one.public_bytes(ssl._ssl.ENCODING_DER) for one in inner.get_unverified_chain()]  # type: ignore[attr-defined]


def _told(error: grpc.aio.AioRpcError) -> Exception:
    away = (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.RESOURCE_EXHAUSTED,  # too many join at once; this one's turn comes
    )
    text = error.details() or error.code().name
    if error.code() is grpc.StatusCode.UNAVAILABLE and "verif" in text.lower():
        return JoinRefused(f"the manager's certificate does not fit the address: {text}")
    return ManagerAway(text) if error.code() in away else JoinRefused(text)
