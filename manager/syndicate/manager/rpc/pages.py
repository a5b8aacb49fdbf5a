"""Lists in pages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

from google.protobuf.message import Message

from ..core.errors import BadRequest

M = TypeVar("M", bound=Message)

_DEFAULT_PAGE: Final = 100
_LARGEST_PAGE: Final = 1000
# Well below the 4 MiB that a client of gRPC takes unless told otherwise: a page ends there.
_PAGE_BYTES: Final = 2 << 20


def page(rows: Iterable[M], size: int) -> tuple[list[M], bool]:
    """The rows that fit, at least one if there is any, and whether there are more."""
    found: list[M] = []
    left = _PAGE_BYTES
    for row in rows:
        left -= row.ByteSize()
        if len(found) == size or (found and left < 0):
            return found, True
        found.append(row)
    return found, False


def page_size(asked: int) -> int:
    """How many rows a page has. Raises BadRequest (BAD_FIELD)."""
    if asked < 0:
        raise BadRequest("BAD_FIELD", f"page_size is {asked}")
    return min(asked, _LARGEST_PAGE) if asked else _DEFAULT_PAGE


def page_number(token: str) -> int | None:
    """The number in a page token; None for the first page. Raises BadRequest (BAD_PAGE_TOKEN)."""
    if not token:
        return None
    if not (token.isascii() and token.isdecimal()) or len(token) > 18:
        raise BadRequest("BAD_PAGE_TOKEN", f"{token[:64]!r} is no page token of this list")
    return int(token)
