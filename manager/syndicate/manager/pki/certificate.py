"""A certificate as a value, and what its names mean.

The authority of a cluster is `syndicate://CLUSTER`, its manager `syndicate://CLUSTER/manager`, a volunteer
`syndicate://CLUSTER/volunteer/ID`: a URI among the certificate's subject alternative names (RFC 5280,
4.2.1.6).
"""

from __future__ import annotations

import enum
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from .errors import BadInput, Damaged

# What the library raises for bytes that are none of what they should be: not all of it is a ValueError.
MALFORMED = (
    ValueError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
_CURVES = ("secp256r1", "secp384r1")
_CLUSTER = re.compile(r"[a-z0-9-]{1,63}")
_VOLUNTEER = re.compile(r"[a-z0-9-]{1,63}")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_URI = re.compile(r"syndicate://([a-z0-9-]{1,63})(?:/(manager)|/volunteer/([a-z0-9-]{1,63}))?")


class Kind(enum.StrEnum):
    """Whose certificate it is."""

    AUTHORITY = "authority"
    MANAGER = "manager"
    VOLUNTEER = "volunteer"


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a certificate says. Times are in seconds since 1970, UTC."""

    kind: Kind
    cluster: str
    name: str
    """The volunteer's id; `manager` or `authority` for the others."""
    serial: str
    """Hexadecimal."""
    not_before: int
    not_after: int
    addresses: tuple[str, ...]
    """Host names and addresses, as they stand in it."""
    fingerprint: str
    """`sha256:` and the digest of its DER form, hexadecimal."""
    is_strong: bool
    """Whether its key is one that is signed for here."""
    pem: bytes


def cluster_name(text: str) -> str:
    """The name of a cluster. Raises BadInput."""
    if not _CLUSTER.fullmatch(text):
        raise BadInput(f"{text!r} is no name of a cluster", "It is written with a-z, 0-9 and -, up to 63.")
    return text


def volunteer_name(text: str) -> str:
    """The id of a volunteer. Raises BadInput."""
    if not _VOLUNTEER.fullmatch(text):
        raise BadInput(f"{text!r} is no name of a volunteer", "It is written with a-z, 0-9 and -, up to 63.")
    return text


def general_names(addresses: Iterable[str]) -> list[x509.GeneralName]:
    """Host names and addresses as a certificate has them, each once. Raises BadInput."""
    return [_general_name(address) for address in dict.fromkeys(addresses)]


def _general_name(text: str) -> x509.GeneralName:
    address = address_of(text)
    if address is not None:
        return x509.IPAddress(address)
    if len(text) > 253 or not _HOST.fullmatch(text):
        raise BadInput(f"{text!r} is neither a host's name nor an address")
    return x509.DNSName(text.lower())


def address_of(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An IP address as a certificate holds it and as calls come from it; None where the text is none.

    Without its zone, which means something on one machine alone, and in IPv4 where it is one of that.
    """
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address):
        return found.ipv4_mapped or ipaddress.IPv6Address(int(found))
    return found


def is_strong(key: object) -> bool:
    """Whether it is a public key that is signed for here: ECDSA on P-256 or P-384."""
    return isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES


def read(pem: bytes) -> Certificate:
    """The first certificate of a PEM text. Raises Damaged."""
    try:
        return of(x509.load_pem_x509_certificate(pem))
    except MALFORMED as error:
        raise Damaged(f"not a certificate ({_short(error)})") from None


def of(certificate: x509.Certificate) -> Certificate:
    """What a certificate of this cluster's says. Raises Damaged for another one."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, *MALFORMED):
        raise Damaged("the certificate names nobody (no subject alternative name)") from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    found = _URI.fullmatch(uris[0]) if len(uris) == 1 else None
    if found is None:
        raise Damaged("the certificate is none of a Syndicate cluster (no syndicate:// name)")
    cluster, manager, volunteer = found.groups()
    kind = Kind.MANAGER if manager else Kind.VOLUNTEER if volunteer else Kind.AUTHORITY
    hosts = [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
    return Certificate(
        kind=kind,
        cluster=cluster,
        name=volunteer or str(kind),
        serial=f"{certificate.serial_number:x}",
        not_before=int(certificate.not_valid_before_utc.timestamp()),
        not_after=int(certificate.not_valid_after_utc.timestamp()),
        addresses=tuple(hosts),
        fingerprint=f"sha256:{certificate.fingerprint(hashes.SHA256()).hex()}",
        is_strong=_has_strong_key(certificate),
        pem=_pem(certificate),
    )


def _has_strong_key(certificate: x509.Certificate) -> bool:
    try:
        return is_strong(certificate.public_key())
    except (ValueError, UnsupportedAlgorithm):
        return False


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _short(error: Exception) -> str:
    # The first sentence: what follows sends the reader to the library's own pages.
    return str(error).splitlines()[0].split(". ")[0][:120] if str(error) else type(error).__name__
