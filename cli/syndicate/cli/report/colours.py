"""Colours of marks, each legible on white and on near-black."""

from __future__ import annotations

KINDS = ("#2b8cd9", "#2f9e5f", "#9a6fd6", "#b8860b", "#0f9a9a", "#d0669c", "#7d8a2e", "#8a7a6a")
"""Of kinds of operations, the most frequent first; later ones share the last."""
OUTCOMES = {"ok": "#2f9e5f", "fail": "#e03e3e", "info": "#e08a00"}
WORDS = {"ok": "success", "fail": "failure", "info": "end unknown"}
FAMILIES = {
    "killed": "#e03e3e",
    "cut": "#e8710a",
    "paused": "#4c6ef5",
    "degraded": "#a64ac9",
    "disk full": "#8d6e63",
}
RUNNING = "#4aa37c"
NEUTRAL = "#7f8790"
BAD = "#d6006c"


def of_kind(place: int) -> str:
    """The colour of the kind at this place."""
    return KINDS[min(place, len(KINDS) - 1)]
