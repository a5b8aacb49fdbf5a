"""What was issued, what was revoked, and which join tokens there are: one value, changed by making another.

A serial number that does not stand here is refused, so a lost register lets nobody in. Of a join token the
digest is kept; its secret has 256 bits of chance, so one SHA-256 is as good as a slow hash. Times are in
seconds since 1970, UTC.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from .certificate import Certificate, Kind
from .errors import Damaged, Exists, TokenRefused, Unknown

_VERSION: Final = 1
# An expired certificate is listed for so long, and then forgotten.
_REMEMBERED_S: Final = 30 * 86_400
# Of one name: who asks for one after another fills no disk. An older one is unknown then, thus refused.
MOST_OF_ONE: Final = 100
# So many commands are kept for the audit log of a manager that does not run; of more the oldest go.
MOST_DEEDS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that was signed."""

    serial: str
    kind: Kind
    name: str
    not_before: int
    not_after: int
    token_id: str = ""
    """The join token that it was issued for; empty where the operator or a renewal did."""
    revoked_at: int = 0
    """0 while it is not revoked."""

    def is_live(self, now: int) -> bool:
        """Whether it lets its holder in."""
        return not self.revoked_at and now < self.not_after


@dataclass(frozen=True, slots=True)
class JoinToken:
    """A secret that lets machines ask for a certificate."""

    token_id: str
    secret_sha256: str
    uses: int
    """How many machines may join by it; one that joins again does not count again."""
    made_at: int
    expires_at: int
    used_by: tuple[str, ...] = ()
    revoked_at: int = 0
    barred: tuple[str, ...] = ()
    """Those of `used_by` that were revoked: they still have it, and for others it is good."""


@dataclass(frozen=True, slots=True)
class Deed:
    """What an operator did by a command, until the manager has it in its audit log."""

    number: int
    at: int
    who: str
    """The login name on the manager's machine."""
    method: str
    subject: str


def secret_digest(secret: str) -> str:
    """What is kept of a join token's secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Register:
    """The whole of it."""

    issued: tuple[Issued, ...] = ()
    tokens: tuple[JoinToken, ...] = ()
    deeds: tuple[Deed, ...] = ()
    _by_serial: dict[str, Issued] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._by_serial.update((one.serial, one) for one in self.issued)

    # ---- certificates ------------------------------------------------------------------------------------

    def find(self, serial: str) -> Issued | None:
        """The line of a serial number."""
        return self._by_serial.get(serial)

    def live(self, name: str, now: int) -> list[Issued]:
        """A volunteer's certificates that let it in."""
        return [one for one in self._of(name) if one.is_live(now)]

    def knows(self, name: str) -> bool:
        """Whether a volunteer of this name has a certificate, or had one that is not forgotten yet."""
        return bool(self._of(name))

    def until(self, name: str, now: int) -> int:
        """When the last of a volunteer's certificates expires; 0 where it has none."""
        return max((one.not_after for one in self.live(name, now)), default=0)

    def ends(self) -> dict[str, int]:
        """When the last certificate of each volunteer expires or did, without those that were revoked."""
        found: dict[str, int] = {}
        for one in self.issued:
            if one.kind is Kind.VOLUNTEER and not one.revoked_at:
                found[one.name] = max(one.not_after, found.get(one.name, 0))
        return found

    def with_issued(self, certificate: Certificate, now: int, token_id: str = "") -> Register:
        """Another one was signed; those that expired long ago are forgotten, and the oldest of very many."""
        whose = (certificate.kind, certificate.name)
        mine = [one.serial for one in self.issued if (one.kind, one.name) == whose]
        over = frozenset(mine[: 1 - MOST_OF_ONE])
        # What is forgotten is refused for good: a clock that is far ahead for once is not to empty the
        # register, so the one that was signed before this must have been later, too.
        sure = min(now, max((one.not_before for one in self.issued), default=now))
        kept = tuple(
            one for one in self.issued if one.not_after + _REMEMBERED_S > sure and one.serial not in over
        )
        line = Issued(
            certificate.serial,
            certificate.kind,
            certificate.name,
            certificate.not_before,
            certificate.not_after,
            token_id,
        )
        return replace(self, issued=(*kept, line))

    def must_be_new(self, name: str, now: int) -> None:
        """Raises Exists for a volunteer that has a certificate."""
        if self.live(name, now):
            raise Exists(
                f"{name} has a certificate already, good until {day(self.until(name, now))}",
                f"A new one beside it:  syndicatectl certs renew {name}",
                f"Its key is lost or stolen:  syndicatectl certs revoke {name}",
            )

    def without(self, name: str, now: int) -> tuple[Register, list[str]]:
        """A volunteer's certificates revoked, and their serial numbers. Raises Unknown.

        Also those that have expired: a stream that began with one may stand, by the word of a newer one.
        Where all have, it is still not to join again.
        """
        gone = self._unrevoked(name)
        tokens = tuple(_barring(one, name) for one in self.tokens)
        if not gone and tokens == self.tokens:
            known = "is revoked already" if self._of(name) else "has no certificate here"
            raise Unknown(f"{name} {known}", "Which are there?  syndicatectl certs list")
        return replace(self.without_serials(gone, now), tokens=tokens), gone

    def without_serials(self, serials: list[str], now: int) -> Register:
        """These revoked."""
        issued = tuple(replace(one, revoked_at=now) if one.serial in serials else one for one in self.issued)
        return replace(self, issued=issued)

    def with_revoked_of(self, other: Register) -> Register:
        """What is revoked in the other is so here: by serial number, of which each is drawn once."""
        return replace(
            self,
            issued=tuple(
                replace(one, revoked_at=line.revoked_at)
                if not one.revoked_at and (line := other.find(one.serial)) is not None
                else one
                for one in self.issued
            ),
        )

    def _unrevoked(self, name: str) -> list[str]:
        return [one.serial for one in self._of(name) if not one.revoked_at]

    def _of(self, name: str) -> list[Issued]:
        return [one for one in self.issued if one.kind is Kind.VOLUNTEER and one.name == name]

    # ---- join tokens -------------------------------------------------------------------------------------

    def with_token(self, token: JoinToken, now: int) -> Register:
        """Another join token; those that expired long ago are forgotten."""
        kept = tuple(one for one in self.tokens if one.expires_at + _REMEMBERED_S > now)
        return replace(self, tokens=(*kept, token))

    def without_token(self, token_id: str, now: int) -> Register:
        """A join token revoked. Raises Unknown."""
        found = [one for one in self.tokens if one.token_id == token_id]
        if not any(not one.revoked_at for one in found):
            which = "Which are there?  syndicatectl join-token list"
            gone = f"the join token {token_id} is revoked already"
            raise Unknown(gone if found else f"there is no join token {token_id}", which)
        return replace(
            self,
            tokens=tuple(
                replace(one, revoked_at=now) if one.token_id == token_id else one for one in self.tokens
            ),
        )

    def joined(self, token: str, name: str, now: int) -> tuple[Register, str]:
        """A volunteer let in by `ID.SECRET`, and the token's id; the line of its certificate is to be added.

        One that joined by this token before may do so again, as an image that is started afresh: what it had
        then is revoked. Raises TokenRefused, also for one that the operator revoked, and Exists for one that
        got its certificate otherwise.
        """
        found = self._token(token, now)
        if name in found.barred:
            text = f"{name} was revoked: the join token {found.token_id} does not let it in again"
            raise TokenRefused(text)
        live = self.live(name, now)
        if any(one.token_id != found.token_id for one in live):
            self.must_be_new(name, now)
        if name in found.used_by:
            return self.without_serials(self._unrevoked(name), now), found.token_id
        if len(found.used_by) >= found.uses:
            raise TokenRefused(f"the join token {found.token_id} is used up: {found.uses} joined by it")
        used = replace(found, used_by=(*found.used_by, name))
        tokens = tuple(used if one is found else one for one in self.tokens)
        return replace(self, tokens=tokens), found.token_id

    def _token(self, token: str, now: int) -> JoinToken:
        token_id, _, secret = token.partition(".")
        digest = secret_digest(secret)
        for one in self.tokens:
            if one.token_id == token_id and hmac.compare_digest(one.secret_sha256, digest):
                if one.revoked_at:
                    raise TokenRefused(f"the join token {token_id} is revoked")
                if now >= one.expires_at:
                    raise TokenRefused(f"the join token {token_id} expired on {day(one.expires_at)}")
                return one
        # The same words whether the id or the secret is wrong.
        raise TokenRefused("no such join token")

    # ---- for the audit log -------------------------------------------------------------------------------

    def with_deed(self, at: int, who: str, method: str, subject: str) -> Register:
        """An operator did something; the oldest go where too many wait for a manager."""
        number = self.deeds[-1].number + 1 if self.deeds else 1
        return replace(self, deeds=(*self.deeds, Deed(number, at, who, method, subject))[-MOST_DEEDS:])

    def without_deeds(self, told: frozenset[Deed]) -> Register:
        """These are in the audit log."""
        return replace(self, deeds=tuple(one for one in self.deeds if one not in told))

    # ---- as text -----------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """As it is stored."""
        return json.dumps(
            {
                "version": _VERSION,
                "issued": [asdict(one) for one in self.issued],
                "tokens": [asdict(one) for one in self.tokens],
                "deeds": [asdict(one) for one in self.deeds],
            },
            indent=1,
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Register:
        """Raises Damaged."""
        try:  # bytes that are no UTF-8 are a ValueError too
            values: dict[str, Any] = json.loads(text)
            if values["version"] != _VERSION:
                raise Damaged(f"the register is of version {values['version']}, known here is {_VERSION}")
            return cls(
                tuple(Issued(**{**one, "kind": Kind(one["kind"])}) for one in values["issued"]),
                tuple(_token_in(one) for one in values["tokens"]),
                tuple(Deed(**one) for one in values.get("deeds", ())),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Damaged(f"the register cannot be read ({error})") from None


def _barring(token: JoinToken, name: str) -> JoinToken:
    if name not in token.used_by or name in token.barred:
        return token
    return replace(token, barred=(*token.barred, name))


def _token_in(values: dict[str, Any]) -> JoinToken:
    barred = tuple(values.get("barred", ()))
    return JoinToken(**{**values, "used_by": tuple(values["used_by"]), "barred": barred})


def day(seconds: int) -> str:
    """A moment for people: `2027-02-19 14:02 UTC`."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
