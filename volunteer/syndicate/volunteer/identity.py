"""This machine's certificate: the files it lies in, what it says, and how the next one is asked for.

ca.pem         the authority of the manager's cluster, by which the manager is known
identity.pem   this volunteer's key and certificate, in one file so that both change in one step; mode 0600

They lie in a folder of their own, STATE_DIR/tls unless the operator names another one. A volunteer with
managers of different clusters has a folder HOST:PORT in it for each. The certificate's name is
`syndicate://CLUSTER/volunteer/ID`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from . import durable

# Of a certificate's life; the last third is for a manager that is away.
RENEW_AFTER: Final = 2 / 3
_URI: Final = re.compile(r"syndicate://([a-z0-9-]{1,63})/volunteer/([a-z0-9-]{1,63})")
_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"


class BadIdentity(Exception):
    """There is no certificate that could be used; the text is one line for the operator."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A key with its certificate, and the authority that signed it. Times are in seconds since 1970, UTC."""

    volunteer_id: str
    cluster: str
    serial: str
    not_before: int
    not_after: int
    authority: bytes
    key: bytes
    certificate: bytes

    @property
    def renew_at(self) -> int:
        """When the next one should be asked for."""
        return int(self.not_before + RENEW_AFTER * (self.not_after - self.not_before))


@dataclass(frozen=True, slots=True)
class Request:
    """A fresh key, and the signing request (PKCS 10) for it: PEM texts."""

    key: str
    csr: str


def folder_for(tls_dir: Path, target: str) -> Path:
    """The folder of a manager, by its HOST:PORT: its own where there is one."""
    own = tls_dir / target
    return own if own.is_dir() else tls_dir


def load(folder: Path) -> Identity:
    """Reads both files. Raises BadIdentity."""
    try:
        authority, pem = (folder / "ca.pem").read_bytes(), (folder / "identity.pem").read_bytes()
    except FileNotFoundError as error:
        raise BadIdentity(f"there is no certificate: {error.filename} is missing") from None
    except OSError as error:
        raise BadIdentity(f"{error.filename} cannot be read ({error.strerror})") from None
    try:
        return parse(authority, pem)
    except (ValueError, TypeError, x509.ExtensionNotFound) as error:
        raise BadIdentity(
            f"{folder / 'identity.pem'} is no key with a volunteer's certificate ({error})"
        ) from None


def parse(authority: bytes, pem: bytes) -> Identity:
    """What both texts say. Raises ValueError, TypeError, x509.ExtensionNotFound."""
    x509.load_pem_x509_certificate(authority)
    certificate = x509.load_pem_x509_certificate(pem)
    key = load_pem_private_key(pem, None)
    if key.public_key() != certificate.public_key():
        raise ValueError("the key is that of another certificate")
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    found = [_URI.fullmatch(uri) for uri in names.get_values_for_type(x509.UniformResourceIdentifier)]
    if len(found) != 1 or found[0] is None:
        raise ValueError("it names no volunteer")
    at = pem.index(_BEGIN)
    return Identity(
        volunteer_id=found[0][2],
        cluster=found[0][1],
        serial=f"{certificate.serial_number:x}",
        not_before=int(certificate.not_valid_before_utc.timestamp()),
        not_after=int(certificate.not_valid_after_utc.timestamp()),
        authority=authority,
        key=pem[:at],
        certificate=pem[at:],
    )


def new_request(volunteer_id: str) -> Request:
    """Draws a key and asks for a certificate for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, volunteer_id)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return Request(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        csr.public_bytes(Encoding.PEM).decode(),
    )


def save(folder: Path, request: Request, certificate: str, authority: str) -> Identity:
    """Writes both files, the old ones stay until the new ones are whole. Raises BadIdentity, OSError."""
    try:
        made = parse(authority.encode(), (request.key + certificate).encode())
    except (ValueError, TypeError, x509.ExtensionNotFound) as error:
        raise BadIdentity(f"the manager sent no certificate that could be used ({error})") from None
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    durable.replace(folder / "ca.pem", authority)
    durable.replace(folder / "identity.pem", request.key + certificate, 0o600)
    return made
