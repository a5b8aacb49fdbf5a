"""What is done with certificates: each step under the folder's lock, written down before it is handed out.

Keys, serial numbers and secrets are drawn here and nowhere else in this package.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from .authority import VOLUNTEER_S, Authority, Signed, key_pem, make_authority, requested_key
from .certificate import Certificate, volunteer_name
from .errors import BadInput, ClockOff, Revoked, Unknown
from .folder import Folder
from .register import Deed, JoinToken, Register, day, secret_digest

MOST_USES: Final = 10_000
DEFAULT_TOKEN_S: Final = 86_400
LONGEST_TOKEN_S: Final = 365 * 86_400
# Of a certificate's life; the last third is for a machine that is away, and for people who read warnings.
RENEW_AFTER: Final = 2 / 3
SOON_S: Final = 14 * 86_400
"""What expires within so long is warned of."""
_LOCAL: Final = ("localhost", "127.0.0.1", "::1")


def _utc() -> int:
    return int(time.time())


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a volunteer's machine needs: file names and contents."""

    certificate: Certificate
    ca: bytes
    identity: bytes
    """Key and certificate."""
    first: bool
    """Whether nothing was known of the name: it may be a slip of the pen."""


@dataclass(frozen=True, slots=True)
class Office:
    """Works on one folder. `now` is the clock, in seconds since 1970, UTC.

    `by` is the operator whose command it is: each change is then written down for the audit log, in the same
    step. It is empty where the manager works, which has the log.
    """

    folder: Folder
    now: Callable[[], int] = _utc
    by: str = ""

    # ---- the authority and the manager -------------------------------------------------------------------

    def init(self, cluster: str, addresses: Sequence[str]) -> tuple[Certificate, Certificate]:
        """Make the authority and the manager's certificate. Raises Exists, BadInput, OSError."""
        self.folder.must_not_exist()
        now = self.now()
        authority = make_authority(cluster, _key(), _serial(), now)
        signer = Authority(authority.certificate.pem, authority.key)
        manager = signer.manager((*_LOCAL, *addresses), _key(), _serial(), now)
        register = Register().with_issued(manager.certificate, now)
        self.folder.make(authority, manager, self._noted(register, "certs init", f"cluster {cluster}"))
        return authority.certificate, manager.certificate

    def renew_manager(self, more_addresses: Sequence[str] = ()) -> Certificate:
        """A new certificate for the manager, with the names of the one before. Raises KeyLost, ClockOff."""
        with self.folder.locked():
            authority, register, now = self.folder.authority(), self.folder.register(), self._checked_now()
            addresses = (*self.folder.manager().addresses, *more_addresses)
            made = authority.manager(addresses, _key(), _serial(), now)
            self._write(register.with_issued(made.certificate, now), "certs renew", "manager")
            self.folder.write("manager.pem", made.pem)
        return made.certificate

    # ---- volunteers --------------------------------------------------------------------------------------

    def add(self, name: str, addresses: Sequence[str], lifetime_s: int = VOLUNTEER_S) -> Bundle:
        """A volunteer's first certificate. Raises Exists, BadInput, KeyLost, ClockOff."""
        volunteer_name(name)
        return self._bundle(name, addresses, lifetime_s, must_be_new=True)

    def renew(self, name: str, addresses: Sequence[str], lifetime_s: int = VOLUNTEER_S) -> Bundle:
        """Another certificate with another key; the one before is good until it expires."""
        volunteer_name(name)
        return self._bundle(name, addresses, lifetime_s, must_be_new=False)

    def _bundle(self, name: str, addresses: Sequence[str], lifetime_s: int, *, must_be_new: bool) -> Bundle:
        with self.folder.locked():
            register, now = self.folder.register(), self._checked_now()
            if must_be_new:
                register.must_be_new(name, now)
            first = not register.knows(name)
            authority, key = self.folder.authority(), _key()
            made = authority.volunteer(name, addresses, key.public_key(), _serial(), now, lifetime_s)
            method = "certs add" if must_be_new else "certs renew"
            self._write(register.with_issued(made, now), method, f"node {name}")
        return Bundle(made, authority.certificate.pem, Signed(made, key_pem(key)).pem, first)

    def revoke(self, name: str) -> list[str]:
        """A volunteer's certificates are refused from now on; their serial numbers. Raises Unknown."""
        with self.folder.locked():
            register, serials = self.folder.register().without(name, self.now())
            self._write(register, "certs revoke", f"node {name}")
        return serials

    def revoke_serial(self, serial: str) -> None:
        """One certificate is refused from now on: it never reached its machine. Raises Unknown."""
        with self.folder.locked():
            register = self.folder.register()
            if register.find(serial) is None:
                which = "Which are there?  syndicatectl certs list"
                raise Unknown(f"there is no certificate {serial}", which)
            register = register.without_serials([serial], self.now())
            self._write(register, "certs revoke", f"certificate {serial}")

    # ---- by request of a volunteer -----------------------------------------------------------------------

    def join(self, token: str, name: str, request: bytes, lifetime_s: int = VOLUNTEER_S) -> Certificate:
        """Sign for a machine with a join token. Raises TokenRefused, Exists, BadInput, KeyLost, ClockOff."""
        volunteer_name(name)
        with self.folder.locked():
            now = self._checked_now()
            register, token_id = self.folder.register().joined(token, name, now)
            key = requested_key(request)
            made = self.folder.authority().volunteer(name, (), key, _serial(), now, lifetime_s)
            self.folder.write_register(register.with_issued(made, now, token_id))
        return made

    def sign_again(self, holder: Certificate, request: bytes, lifetime_s: int = VOLUNTEER_S) -> Certificate:
        """Sign for a volunteer that came with `holder`, with what that one says.

        Raises Revoked, BadInput, KeyLost, ClockOff.
        """
        with self.folder.locked():
            now, register = self._checked_now(), self.folder.register()
            key = requested_key(request)
            line = register.find(holder.serial)
            # It was looked at before the call came in; the operator may have been quicker.
            if line is None or line.revoked_at:
                raise Revoked(f"the certificate of {holder.name} is revoked")
            made = self.folder.authority().volunteer(
                holder.name, holder.addresses, key, _serial(), now, lifetime_s
            )
            self.folder.write_register(register.with_issued(made, now, line.token_id))
        return made

    # ---- join tokens -------------------------------------------------------------------------------------

    def create_token(self, uses: int, ttl_s: int) -> tuple[JoinToken, str]:
        """A join token and its text, `ID.SECRET`, which is kept nowhere.

        Raises BadInput, and KeyLost or ClockOff where nobody could join by it.
        """
        if not 1 <= uses <= MOST_USES:
            raise BadInput(f"{uses} uses asked for; it is from 1 to {MOST_USES:,}")
        if not 60 <= ttl_s <= LONGEST_TOKEN_S:
            raise BadInput(f"a life of {ttl_s} s asked for; it is from 60 s to 365 days")
        secret = secrets.token_urlsafe(32)
        with self.folder.locked():
            now = self._checked_now()
            self.folder.authority()
            token = JoinToken(secrets.token_hex(4), secret_digest(secret), uses, now, now + ttl_s)
            register = self.folder.register().with_token(token, now)
            self._write(register, "join-token create", f"join token {token.token_id}")
        return token, f"{token.token_id}.{secret}"

    def revoke_token(self, token_id: str) -> None:
        """Nobody joins by it any more. Raises Unknown."""
        with self.folder.locked():
            register = self.folder.register().without_token(token_id, self.now())
            self._write(register, "join-token revoke", f"join token {token_id}")

    # ---- the audit log -----------------------------------------------------------------------------------

    def forget(self, told: Sequence[Deed]) -> None:
        """These are in the manager's audit log."""
        with self.folder.locked():
            self.folder.write_register(self.folder.register().without_deeds(frozenset(told)))

    def _write(self, register: Register, method: str, subject: str) -> None:
        self.folder.write_register(self._noted(register, method, subject))

    def _noted(self, register: Register, method: str, subject: str) -> Register:
        return register.with_deed(self.now(), self.by, method, subject) if self.by else register

    def _checked_now(self) -> int:
        """Raises ClockOff where the authority lies in the future, or has ended."""
        now, authority = self.now(), self.folder.authority_certificate()
        begin, end = authority.not_before, authority.not_after
        if now < begin:
            raise ClockOff(
                f"this machine's clock says {day(now)}, and the cluster's authority begins at {day(begin)}: "
                f"the clock is at least {_long(begin - now)} behind",
                "Set it (timedatectl), then try again. Nothing was signed.",
            )
        if now >= end:
            raise ClockOff(
                f"this machine's clock says {day(now)}, and the cluster's authority ended at {day(end)}: it "
                f"has expired, or the clock is at least {_long(now - end)} ahead",
                "Nothing was signed. If the clock is right (timedatectl), move the folder away, make another",
                "authority (syndicatectl certs init), and add every machine again.",
            )
        return now


def without_secret(token: JoinToken) -> dict[str, object]:
    """A join token for lists."""
    return {
        "token_id": token.token_id,
        "uses": token.uses,
        "used_by": list(token.used_by),
        "barred": list(token.barred),
        "made_at": token.made_at,
        "expires_at": token.expires_at,
        "revoked_at": token.revoked_at,
    }


def renewal_due(certificate: Certificate, now: int) -> bool:
    """Whether so much of its life is over that it should be replaced, or it was made by a clock far ahead."""
    begin, end = certificate.not_before, certificate.not_after
    return now < begin or now >= begin + RENEW_AFTER * (end - begin)


def _long(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 7200:
        return f"{seconds // 60} min"
    return f"{seconds // 3600} h" if seconds < 172_800 else f"{seconds // 86_400} days"


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _serial() -> int:
    return x509.random_serial_number()
