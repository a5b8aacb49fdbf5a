"""What can go wrong with certificates.

PkiError
├── Exists        it is there already; nothing was changed
├── Unknown       no such certificate, join token or folder
├── BadInput      a name, an address, a request that cannot be used
├── TokenRefused  a join token that is not known, used up, expired or revoked
├── Revoked       the certificate that a volunteer came with is refused by now
├── KeyLost       the key of the cluster's own authority is gone
├── ClockOff      this machine's clock cannot be right
├── Busy          another command works on the same folder
└── Damaged       a file is not what it should be
    └── HalfRead  what was revoked is known to the manager that runs, the rest could not be read

The text is one line for people; `lines` say what to do.
"""

from __future__ import annotations


class PkiError(Exception):
    """Something about certificates that was asked for and will not be done."""

    def __init__(self, text: str, *lines: str) -> None:
        super().__init__(text)
        self.lines = lines


class Exists(PkiError):
    """It is there already; nothing was changed."""


class Unknown(PkiError):
    """There is no such thing."""


class BadInput(PkiError):
    """A name, an address or a request that cannot be used."""


class TokenRefused(PkiError):
    """A join token that lets nobody in."""


class Revoked(PkiError):
    """The certificate that a volunteer came with was revoked meanwhile."""


class KeyLost(PkiError):
    """The key of the cluster's own authority is gone: nothing can be signed."""


class ClockOff(PkiError):
    """This machine's clock cannot be right."""


class Busy(PkiError):
    """Another command works on the same folder."""


class Damaged(PkiError):
    """A file is not what it should be."""


class HalfRead(Damaged):
    """A manager that runs refuses what was revoked, and could not read the rest; `cut` are those cut off."""

    def __init__(self, cut: list[str], text: str) -> None:
        super().__init__(text)
        self.cut = cut
