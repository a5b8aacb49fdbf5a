"""Certificates for tests: an authority in a folder, and whatever else one may meet on a wire."""

from __future__ import annotations

import ipaddress
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from syndicate.manager.pki import Folder, Office, read

DAY = 86_400
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as PEM."""

    certificate: bytes
    key: bytes

    def channel(self, ca: bytes) -> grpc.ChannelCredentials:
        """To show it on a channel."""
        return grpc.ssl_channel_credentials(ca, self.key, self.certificate)


def office(state_dir: Path, *addresses: str) -> Office:
    """The authority of a manager, made anew."""
    state_dir.mkdir(parents=True, exist_ok=True)
    made = Office(Folder(state_dir / "tls"))
    made.init("c-test", addresses)
    return made


@contextmanager
def manager_process(state_dir: Path) -> Iterator[dict[str, str]]:
    """A manager in a process of its own, as the command runs it: its `users` and `volunteers` addresses."""
    line = [sys.executable, "-m", "syndicate.manager", "--state-dir", str(state_dir)]
    line += ["--listen-users", "127.0.0.1:0", "--listen-volunteers", "127.0.0.1:0"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield dict(word.split("=") for word in process.stdout.readline().split()[1:])
        finally:
            process.terminate()


def of_bundle(identity: bytes) -> Pair:
    """The two parts of identity.pem."""
    at = identity.index(b"-----BEGIN CERTIFICATE")
    return Pair(identity[at:], identity[:at])


def signed(
    folder: Folder,
    *,
    uri: str = "syndicate://c-test/volunteer/node-a",
    addresses: Sequence[str] = (),
    begin: int = -DAY,
    end: int = DAY,
    usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
    key: Key | None = None,
    serial: int | None = None,
    register: bool = True,
) -> Pair:
    """Whatever the holder of the authority's key could sign. `begin` and `end` are seconds from now."""
    ca = x509.load_pem_x509_certificate((folder.path / "ca.pem").read_bytes())
    ca_key = load_pem_private_key((folder.path / "ca.key").read_bytes(), None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    return made(
        ca.subject, ca_key, folder if register else None, uri, addresses, begin, end, usage, key, serial
    )


def stranger(uri: str = "syndicate://c-test/volunteer/node-a") -> Pair:
    """Of another authority with the same name."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Syndicate cluster c-test")])
    key = ec.generate_private_key(ec.SECP256R1())
    return made(name, key, None, uri, (), -DAY, DAY, ExtendedKeyUsageOID.CLIENT_AUTH, None, None)


def made(
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    folder: Folder | None,
    uri: str,
    addresses: Sequence[str],
    begin: int,
    end: int,
    usage: x509.ObjectIdentifier,
    key: Key | None,
    serial: int | None,
) -> Pair:
    """One certificate; with a folder it stands in the register."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    now = int(time.time())
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri)] if uri else []
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "node-a")]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(now + begin, UTC))
        .not_valid_after(datetime.fromtimestamp(now + end, UTC))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign(issuer_key, hashes.SHA256())
    pem = certificate.public_bytes(Encoding.PEM)
    if folder is not None:
        with folder.locked():
            folder.write_register(folder.register().with_issued(read(pem), now - 10 * DAY))
    return Pair(pem, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def request(key: Key | None = None) -> bytes:
    """A signing request, as PEM."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "whatever")])
    built = x509.CertificateSigningRequestBuilder().subject_name(name)
    return built.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
