"""The cluster's certificates and join tokens as tables, from ``syndicate-manager certs --json``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from syndicate.cli.render.fit import UNLIMITED
from syndicate.cli.render.tables import Fit, table


def certificates_list(said: Mapping[str, Any], room: int = UNLIMITED, more: str = "…") -> list[str]:
    """The authority, and NAME, KIND, EXPIRES, STATE, SERIAL of what it issued; SERIAL where there is room."""
    lines = [f"cluster {said['cluster']}, good until {_day(said['expires_at'])}", said["fingerprint"]]
    if not said["has_key"]:
        lines.append("the authority's key (ca.key) is not here: nothing can be signed or renewed")
    rows = [
        (one["name"], one["kind"], _day(one["expires_at"]), one["state"], one["serial"])
        for one in said["certificates"]
    ]
    header = ("NAME", "KIND", "EXPIRES", "STATE", "SERIAL")
    return lines + table(header, rows, Fit(room, more, dispensable=("SERIAL",), elastic=("NAME",)))


def join_tokens_list(said: Mapping[str, Any], room: int = UNLIMITED, more: str = "…") -> list[str]:
    """ID, USED, EXPIRES, STATE of each join token, and who joined BY it."""
    if not said["tokens"]:
        return ["no join tokens"]
    rows = []
    for one in said["tokens"]:
        used = f"{len(one['used_by']):,} of {one['uses']:,}"
        rows.append((one["token_id"], used, _day(one["expires_at"]), one["state"], ", ".join(one["used_by"])))
    return table(("ID", "USED", "EXPIRES", "STATE", "BY"), rows, Fit(room, more, elastic=("BY",)))


def _day(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
