"""Certificates: the cluster's own authority, who holds what of it, and who may join."""

from .authority import Authority, make_authority, requested_key
from .certificate import Certificate, Kind, address_of, read
from .errors import (
    BadInput,
    Busy,
    ClockOff,
    Damaged,
    Exists,
    HalfRead,
    KeyLost,
    PkiError,
    Revoked,
    TokenRefused,
    Unknown,
)
from .folder import Folder
from .office import MOST_USES, SOON_S, Bundle, Office, renewal_due, without_secret
from .register import Deed, Issued, JoinToken, Register, day

__all__ = [
    "MOST_USES",
    "SOON_S",
    "Authority",
    "BadInput",
    "Bundle",
    "Busy",
    "Certificate",
    "ClockOff",
    "Damaged",
    "Deed",
    "Exists",
    "Folder",
    "HalfRead",
    "Issued",
    "JoinToken",
    "KeyLost",
    "Kind",
    "Office",
    "PkiError",
    "Register",
    "Revoked",
    "TokenRefused",
    "Unknown",
    "address_of",
    "day",
    "make_authority",
    "read",
    "renewal_due",
    "requested_key",
    "without_secret",
]
