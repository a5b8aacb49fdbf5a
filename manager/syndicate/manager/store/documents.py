"""What rows are made of: their JSON documents, and stamps in them."""

from __future__ import annotations

from typing import Any

from ..core.model import Stamp

Doc = dict[str, Any]
Row = list[Any]


def stamp_out(s: Stamp) -> list[Any]:
    """A stamp as a document has it: boot id, monotonic ns, UTC ns."""
    return [s.boot_id, s.monotonic_ns, s.utc_ns]


def stamp_in(v: list[Any]) -> Stamp:
    """The stamp again."""
    return Stamp(v[0], v[1], v[2])


def stamp_or_none_in(v: list[Any] | None) -> Stamp | None:
    """The stamp again; None where the document has none."""
    return None if v is None else Stamp(v[0], v[1], v[2])
