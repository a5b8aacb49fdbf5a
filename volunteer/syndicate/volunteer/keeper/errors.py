"""What the keeper may refuse, and how a line for people is made of text from outside."""

from __future__ import annotations

from ..local import ErrorCode, Refused


class KeeperError(Exception):
    """A request that cannot be done; becomes the answer `Refused`."""

    def __init__(self, code: ErrorCode, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail

    def refused(self) -> Refused:
        """The answer that says so."""
        return Refused(self.code, one_line(self.detail))


def failed(detail: str) -> KeeperError:
    """The machine could not do it."""
    return KeeperError(ErrorCode.FAILED, detail)


def one_line(text: str, limit: int = 1000) -> str:
    """`text` as one printable line of at most `limit` characters; what does not print becomes `?`."""
    flat = " ".join(text.split())[:limit]
    return "".join(char if char.isprintable() else "?" for char in flat)
