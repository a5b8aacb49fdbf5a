"""The cluster's own authority: values in, PEM out. Time, serial numbers and keys are arguments.

Keys are ECDSA on P-256. Times are in seconds since 1970, UTC. A certificate begins ten minutes before it is
made, so that a machine whose clock is a little behind can use it at once, and never outlives the authority.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .certificate import (
    MALFORMED,
    Certificate,
    cluster_name,
    general_names,
    is_strong,
    of,
    volunteer_name,
)
from .errors import BadInput, Damaged

SLACK_S: Final = 600
AUTHORITY_S: Final = 3650 * 86_400
MANAGER_S: Final = 365 * 86_400
VOLUNTEER_S: Final = 90 * 86_400
LARGEST_REQUEST: Final = 8 << 10
"""Bytes of a certificate signing request."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A certificate with its key, which is nobody else's: PEM texts."""

    certificate: Certificate
    key: bytes

    @property
    def pem(self) -> bytes:
        """Key and certificate in one text, so that a file of both is replaced in one step."""
        return self.key + self.certificate.pem


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as PEM (PKCS 8, not encrypted)."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def make_authority(
    cluster: str, key: ec.EllipticCurvePrivateKey, serial: int, now: int, lifetime_s: int = AUTHORITY_S
) -> Signed:
    """A new authority, which vouches for itself. Raises BadInput."""
    subject = _subject(f"Syndicate cluster {cluster_name(cluster)}")
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (_usage(signs=True), True),
        (x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"syndicate://{cluster}")]), False),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
    ]
    until = now + lifetime_s
    signed = _signed(subject, key.public_key(), subject, key, serial, now - SLACK_S, until, extensions)
    return Signed(of(signed), key_pem(key))


class Authority:
    """Signs for one cluster."""

    def __init__(self, certificate: bytes, key: bytes) -> None:
        """Raises Damaged where they are not an authority and its key."""
        try:
            self._certificate = x509.load_pem_x509_certificate(certificate)
        except MALFORMED:
            raise Damaged("the authority is no certificate (PEM)") from None
        try:
            loaded = load_pem_private_key(key, None)
        except (TypeError, *MALFORMED):  # TypeError: it has a password
            raise Damaged("it is no key (PEM), or has a password") from None
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise Damaged("the authority's key is not an ECDSA key")
        if loaded.public_key() != self._certificate.public_key():
            raise Damaged("the authority's key is that of another certificate")
        self._key = loaded
        self.certificate = of(self._certificate)

    def manager(
        self,
        addresses: Sequence[str],
        key: ec.EllipticCurvePrivateKey,
        serial: int,
        now: int,
        lifetime_s: int = MANAGER_S,
    ) -> Signed:
        """The manager's, for servers, with every name that it is called by. Raises BadInput."""
        uri = f"syndicate://{self.certificate.cluster}/manager"
        usage, public_key = ExtendedKeyUsageOID.SERVER_AUTH, key.public_key()
        made = self._leaf("Syndicate manager", uri, addresses, public_key, usage, serial, now, lifetime_s)
        return Signed(made, key_pem(key))

    def volunteer(
        self,
        volunteer_id: str,
        addresses: Sequence[str],
        public_key: ec.EllipticCurvePublicKey,
        serial: int,
        now: int,
        lifetime_s: int = VOLUNTEER_S,
    ) -> Certificate:
        """A volunteer's, for clients only: it can play no manager. Raises BadInput."""
        uri = f"syndicate://{self.certificate.cluster}/volunteer/{volunteer_name(volunteer_id)}"
        usage = ExtendedKeyUsageOID.CLIENT_AUTH
        return self._leaf(volunteer_id, uri, addresses, public_key, usage, serial, now, lifetime_s)

    def _leaf(
        self,
        name: str,
        uri: str,
        addresses: Iterable[str],
        public_key: ec.EllipticCurvePublicKey,
        usage: x509.ObjectIdentifier,
        serial: int,
        now: int,
        lifetime_s: int,
    ) -> Certificate:
        names = [x509.UniformResourceIdentifier(uri), *general_names(addresses)]
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_usage(signs=False), True),
            (x509.ExtendedKeyUsage([usage]), False),
            (x509.SubjectAlternativeName(names), False),
            (x509.SubjectKeyIdentifier.from_public_key(public_key), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False),
        ]
        begin = max(now - SLACK_S, self.certificate.not_before)
        until = min(now + lifetime_s, self.certificate.not_after)
        if until <= begin:
            raise BadInput("the cluster's own authority has expired: it can sign nothing any more")
        issuer = self._certificate.subject
        return of(_signed(_subject(name), public_key, issuer, self._key, serial, begin, until, extensions))


def requested_key(pem: bytes) -> ec.EllipticCurvePublicKey:
    """The key of a signing request that its maker holds. Whom it names is not looked at. Raises BadInput."""
    if len(pem) > LARGEST_REQUEST:
        raise BadInput(f"the signing request has {len(pem):,} bytes; it has at most {LARGEST_REQUEST:,}")
    try:
        request = x509.load_pem_x509_csr(pem)
        proven = request.is_signature_valid
        key = request.public_key()
    except (InvalidSignature, *MALFORMED):
        raise BadInput("the signing request cannot be read (PEM of PKCS 10)") from None
    if not proven:
        raise BadInput("the signing request is not signed by its own key")
    if not is_strong(key):
        raise BadInput("the signing request's key is too weak or of another kind; ECDSA on P-256 is needed")
    assert isinstance(key, ec.EllipticCurvePublicKey)  # noqa: S101 - no other is strong
    return key


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _signed(
    subject: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    serial: int,
    not_before: int,
    not_after: int,
    extensions: Iterable[tuple[x509.ExtensionType, bool]],
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(serial)
        .not_valid_before(datetime.fromtimestamp(not_before, UTC))
        .not_valid_after(datetime.fromtimestamp(not_after, UTC))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer_key, hashes.SHA256())
