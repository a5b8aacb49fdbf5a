"""The cluster in numbers at one moment, for whoever watches it. Pure, and as cheap as the cluster is small.

It looks at each slot, at each job that has slots, and at the first waiting job of each owner, never at all
that wait: what is behind an owner's first job waits for its turn, whatever it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from . import nodes
from .frozen import frozen
from .model import JobState, NodeState, Stamp
from .quota import Gate
from .state import Node, Slot
from .world import World

SLOT_STATES = ("free", "used", "resting", "drained", "unsafe", "away")
REASONS = ("slots", "turn", "quota")


@frozen
class Figures:
    """`waiting` and `longest_wait_s` are by reason, the others by state; each label is there, if with 0."""

    slots: Mapping[str, int]
    nodes: Mapping[str, int]
    jobs: Mapping[str, int]
    waiting: Mapping[str, int]
    longest_wait_s: Mapping[str, float]
    pending_commands: int


def figures(world: World, now: Stamp) -> Figures:
    """Counts."""
    slots = dict.fromkeys(SLOT_STATES, 0)
    of_nodes = {state.name.lower(): 0 for state in NodeState}
    pending = 0
    for node in world.nodes.values():
        of_nodes[nodes.state_of(node).name.lower()] += 1
        pending += len(node.pending)
        for slot in node.slots.values():
            slots[_slot_state(world, node, slot)] += 1
    jobs = Counter(job.record.state for job in world.active.values())
    live = (JobState.RESERVING, JobState.PREPARING, JobState.RUNNING, JobState.STOPPING)
    by_state = {"queued": len(world.queue), **{state.name.lower(): jobs[state] for state in live}}
    waiting, longest = _waiting(world, now)
    return Figures(slots, of_nodes, by_state, waiting, longest, pending)


def _slot_state(world: World, node: Node, slot: Slot) -> str:
    if slot.ref is not None:
        return "used"
    if node.session is None:
        return "away"
    if node.record.drained:
        return "drained"
    if world.barred(node):
        return "unsafe"
    free = world.pool.has(node.record.reach_domain, node.record.volunteer_id, slot.number)
    return "free" if free and not node.worn else "resting"


def _waiting(world: World, now: Stamp) -> tuple[dict[str, int], dict[str, float]]:
    """Jobs that wait for free slots, for their turn, or for what a quota lets them have; and since when."""
    counts, longest = dict.fromkeys(REASONS, 0), dict.fromkeys(REASONS, 0.0)
    room, gate = world.pool.most(), Gate(world)
    for first, number in world.queue.firsts():
        if gate.held_by(first.job_id, first.slots) is not None:
            reason, behind = "quota", "quota"
        else:
            reason, behind = "slots" if first.slots > room else "turn", "turn"
        counts[reason] += 1
        counts[behind] += number - 1
        queued = world.jobs[first.job_id].record.queued_at
        since_ns = (
            now.monotonic_ns - queued.monotonic_ns
            if queued.boot_id == now.boot_id
            else now.utc_ns - queued.utc_ns
        )
        longest[reason] = max(longest[reason], since_ns / 1e9)
    return counts, longest
