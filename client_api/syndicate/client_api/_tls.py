"""How a manager is known: by the certificate of its cluster's own authority."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import socket
import ssl
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc
from syndicate.client_api._errors import NotTrusted

_BEGIN = b"-----BEGIN CERTIFICATE-----"
_TRY_S = 20.0


def open_channel(
    address: str, ca: str | Path | bytes | None, insecure: bool, options: tuple[tuple[str, int], ...]
) -> grpc.Channel:
    """A channel to ``HOST:PORT``. Raises NotTrusted."""
    if insecure:
        if not is_loopback(address):
            raise NotTrusted(f"{address} is another machine: clear text is for this machine only")
        _must_lead_here(address)
        return grpc.insecure_channel(address, options=options)
    roots = None if ca is None else read_ca(ca)
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(roots), options=options)


def read_ca(ca: str | Path | bytes) -> bytes:
    """The authority as PEM, from its text or a file. Raises NotTrusted."""
    if isinstance(ca, str) and ca.lstrip().startswith(_BEGIN.decode()):
        ca = ca.encode()
    if not isinstance(ca, bytes):
        try:
            ca = Path(ca).read_bytes()
        except OSError as error:
            raise NotTrusted(f"the authority {error.filename} cannot be read ({error.strerror})") from None
    try:
        ssl.create_default_context(cadata=ca.decode("ascii"))
    except (ValueError, ssl.SSLError):
        raise NotTrusted("what should be the cluster's authority is no certificate (PEM)") from None
    return ca


def ca_fingerprint(ca: str | Path | bytes) -> str:
    """``sha256:`` and the digest of an authority, as ``syndicatectl certs`` tells it. Raises NotTrusted."""
    pem = read_ca(ca).decode("ascii")
    at = pem.index(_BEGIN.decode())
    return f"sha256:{hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem[at:])).hexdigest()}"


def fetch_ca(address: str, fingerprint: str) -> str:
    """The authority that a manager shows, as PEM, where it has this fingerprint. Blocks for 20 s at most.

    Nothing is sent, and nothing else that is shown is believed. Raises NotTrusted, OSError.
    """
    wanted = fingerprint.lower().removeprefix("sha256:").replace(":", "")
    for certificate in _shown(address):
        if hmac.compare_digest(hashlib.sha256(certificate).hexdigest().encode(), wanted.encode()):
            return ssl.DER_cert_to_PEM_cert(certificate)
    raise NotTrusted(
        f"{address} shows no authority of the fingerprint {fingerprint}: it is another cluster's, or "
        "somebody is in between"
    )


def time_apart(address: str) -> str:
    """How far the clock here is from the time of what a manager shows; empty where that cannot be told.

    ``the clock here is at least 2 h behind``. Blocks for 20 s at most.
    """
    try:
        begin, end = _lifetime(_shown(address)[0])
    except (NotTrusted, OSError, ValueError, IndexError):
        return ""
    now = time.time()
    if now < begin:
        return f"the clock here is at least {_long(begin - now)} behind"
    return f"it ended {_long(now - end)} ago by the clock here" if now > end else ""


def _lifetime(der: bytes) -> tuple[int, int]:
    """From when to when a certificate is good, in seconds since 1970, UTC."""
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(ssl.DER_cert_to_PEM_cert(der))
        file.flush()
        # Python's own decoder has no public name for a certificate that is not trusted, and takes a file.
        decoded: dict[str, Any] = ssl._ssl._test_decode_cert(file.name)  # type: ignore[attr-defined]  # see above
    return ssl.cert_time_to_seconds(decoded["notBefore"]), ssl.cert_time_to_seconds(decoded["notAfter"])


def _long(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"


def is_loopback(address: str) -> bool:
    """Whether HOST:PORT, or a Unix socket, is on this machine."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return address.startswith("unix:") or host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _must_lead_here(address: str) -> None:
    """Raises NotTrusted where `localhost` is looked up as another machine: the token would be read there."""
    if address.rpartition(":")[0] != "localhost":
        return
    try:
        found = {str(one[4][0]) for one in socket.getaddrinfo("localhost", None, type=socket.SOCK_STREAM)}
    except OSError:
        return  # nor does gRPC find one then
    if far := sorted(one for one in found if not ipaddress.ip_address(one).is_loopback):
        raise NotTrusted(
            f"localhost is {', '.join(far)} here, another machine: clear text is for this machine only"
        )


def _shown(address: str) -> list[bytes]:
    """The certificates that a server shows, unchecked, as DER."""
    host, _, port = address.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((host.strip("[]"), int(port)), timeout=_TRY_S) as raw,
            context.wrap_socket(raw, server_hostname=host.strip("[]")) as stream,
        ):
            public: Any = getattr(stream, "get_unverified_chain", None)
            if public is not None:  # from Python 3.13 on
                return list(public())
            # Before it the same call has no public name; the constant is ssl's own word for DER.
            inner: Any = stream._sslobj  # type: ignore[attr-defined]  # see above
            der = ssl._ssl.ENCODING_DER  # type: ignore[attr-defined]  # see above
            return [one.public_bytes(der) for one in inner.get_unverified_chain()]
    except ssl.SSLError as error:
        text = (error.reason or str(error)).lower().replace("_", " ")
        raise NotTrusted(f"{address} speaks no TLS 1.3 ({text})") from None
