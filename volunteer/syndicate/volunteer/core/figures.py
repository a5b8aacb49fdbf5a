"""The volunteer in numbers at one moment, for whoever watches it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from .model import Stamp
from .state import SECOND
from .transitions import SlotState
from .turn import State


@dataclass(frozen=True, slots=True)
class Figures:
    """Slots by state, all states are there; of each link the seconds that its cluster's lease lasts, or 0."""

    slots: Mapping[str, int]
    lease_s: Mapping[str, float]
    events_waiting: int


def figures(state: State, now: Stamp) -> Figures:
    """Counts."""
    found = Counter(slot.state for slot in state.slots.values())
    slots = {each.name.lower(): found[each] for each in SlotState}
    leases = {}
    for link in state.links.values():
        cluster = state.clusters.get(link.cluster_id)
        until_ns = 0 if cluster is None else cluster.lease_until_ns
        leases[link.name] = max(until_ns - now.monotonic_ns, 0) / SECOND
    return Figures(slots, leases, len(state.events))
