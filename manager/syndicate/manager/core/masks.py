"""Field masks: what a call changes of a user or a team that is there already.

Who changes one field need not have read the others, so that two who change different ones at once never undo
each other's. No mask (None) changes all of it.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Final

from .errors import BadRequest
from .model import Quota

Mask = frozenset[str]

_PARTS: Final = tuple(part.name for part in fields(Quota))
TEAM_FIELDS: Final = Mask({"quota", *(f"quota.{part}" for part in _PARTS)})
USER_FIELDS: Final = Mask({"role", "team", "disabled"}) | TEAM_FIELDS


def check(mask: Mask | None, known: Mask) -> None:
    """Raises BadRequest (BAD_FIELD) for what cannot be changed, or is not there."""
    for path in sorted((mask or Mask()) - known):
        text = f"update_mask: {path[:64]!r} is no field that can be changed: {', '.join(sorted(known))}"
        raise BadRequest("BAD_FIELD", text, field="update_mask")


def quota_over(before: Quota, wish: Quota, mask: Mask) -> Quota:
    """The quota with what the mask has of it changed."""
    if "quota" in mask:
        return wish
    return replace(before, **{part: getattr(wish, part) for part in _PARTS if f"quota.{part}" in mask})
