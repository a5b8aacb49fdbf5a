"""This machine's certificate: the files it lies in, what it says, and how the next one is asked for.

ca.pem         the authority of the manager's cluster, by which the manager is known
identity.pem   this volunteer's key and certificate, in one file so that both change in one step; mode 0600

They lie in a folder of their own, STATE_DIR/tls unless the operator names another one. A volunteer with
managers of different clusters has a folder HOST:PORT in it for each. The certificate's name is
`syndicate://CLUSTER/volunteer/ID`.
"""

from __future__ import annotations

import os
import re
import ssl
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

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
        with _plain(folder / "ca.pem") as held:
            authority = held.read_bytes()
        return parse(authority, folder / "identity.pem")
    except FileNotFoundError as error:
        missing = error.filename or folder / "identity.pem"
        raise BadIdentity(f"there is no certificate: {missing} is missing") from None
    except PermissionError as error:
        raise BadIdentity(f"{error.filename or folder} cannot be read ({error.strerror})") from None
    except (OSError, ValueError) as error:
        what = f"{folder / 'identity.pem'} is no key with a volunteer's certificate"
        raise BadIdentity(f"{what} ({_reason(error)})") from None


def parse(authority: bytes, path: Path) -> Identity:
    """What a file of key and certificate says. Raises OSError (ssl.SSLError among them), ValueError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with _plain(path) as held:
        pem = held.read_bytes()
        _load(context, held)  # the file holds the key to the certificate
        # Python's own decoder, which has no public name for a certificate in a file. `cryptography` would
        # cost a process that does nothing with it most of the time 9 MB; it is loaded when a key is made.
        decoded: dict[str, Any] = ssl._ssl._test_decode_cert(str(held))  # type: ignore[attr-defined]  # see above
    context.load_verify_locations(cadata=authority.decode("ascii"))
    uris = [value for kind, value in decoded.get("subjectAltName", ()) if kind == "URI"]
    found = _URI.fullmatch(uris[0]) if len(uris) == 1 else None
    if found is None:
        raise ValueError("it names no volunteer")
    at = pem.index(_BEGIN)
    return Identity(
        volunteer_id=found[2],
        cluster=found[1],
        serial=f"{int(decoded['serialNumber'], 16):x}",
        not_before=ssl.cert_time_to_seconds(decoded["notBefore"]),
        not_after=ssl.cert_time_to_seconds(decoded["notAfter"]),
        authority=authority,
        key=pem[:at],
        certificate=pem[at:],
    )


def show(context: ssl.SSLContext, folder: Path) -> None:
    """Has handshakes show this machine's certificate. Raises OSError (ssl.SSLError among them)."""
    with _plain(folder / "identity.pem") as held:
        _load(context, held)


def _load(context: ssl.SSLContext, path: Path) -> None:
    # No key of ours is encrypted; without this one that is would be asked for at the terminal.
    context.load_cert_chain(path, password=lambda: b"")


@contextmanager
def _plain(path: Path) -> Iterator[Path]:
    """Another path to a file, which stays the same file. Raises OSError where it is a pipe or the like.

    The folder is another user's than root's, who looks into it as well (`doctor`) and is not to be held up.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path.name} is no plain file")
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or "").replace("_", " ").lower()
        return "the key is that of another certificate" if "mismatch" in reason else reason or "no PEM"
    return str(error)


def new_request(volunteer_id: str) -> Request:
    """Draws a key and asks for a certificate for it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, volunteer_id)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return Request(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        csr.public_bytes(Encoding.PEM).decode(),
    )


def save(folder: Path, request: Request, certificate: str, authority: str) -> Identity:
    """Writes both files, the old ones stay until the new ones are whole. Raises BadIdentity, OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    candidate = folder / "candidate.pem"
    durable.replace(candidate, request.key + certificate, 0o600)
    try:
        made = parse(authority.encode(), candidate)
    except (ssl.SSLError, ValueError) as error:
        candidate.unlink()
        text = f"the manager sent no certificate that could be used ({_reason(error)})"
        raise BadIdentity(text) from None
    shown = folder / "candidate-ca.pem"
    durable.replace(shown, authority)
    # The authority last, by which `joining` knows that both came: where a crash leaves the one of before
    # beside a new key, the machine joins again. The other way round it would never.
    durable.rename(candidate, folder / "identity.pem")
    durable.rename(shown, folder / "ca.pem")
    return made
