"""Shapes of partitions: who is in which group, and who is cut from whom.

Drawn by SHA-256 of the seed and a count, so that the same seed draws the same from the same members, on every
machine and in every version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

from .model import PartitionShape

Group = tuple[str, ...]
# By member: those that what it sends does not reach, and those that it does not hear.
Cuts = Mapping[str, tuple[Group, Group]]

LEAST: Final = {
    PartitionShape.HALVES: 2,
    PartitionShape.RANDOM_HALVES: 2,
    PartitionShape.MAJORITY_RING: 3,
    PartitionShape.BRIDGE: 3,
    PartitionShape.ISOLATE_ONE: 2,
}
"""How many members a shape needs."""


def drawn(members: Sequence[str], seed: int) -> Group:
    """The members in an order that the seed draws, each order as likely as any other."""
    order = list(members)
    for last in range(len(order) - 1, 0, -1):
        digest = hashlib.sha256(f"{seed}/{last}".encode()).digest()
        # 256 bits over a few members: what the remainder favours is beyond all measure.
        other = int.from_bytes(digest, "big") % (last + 1)
        order[last], order[other] = order[other], order[last]
    return tuple(order)


def groups(shape: PartitionShape, members: Sequence[str], one: str, seed: int) -> tuple[Group, ...]:
    """The groups of a shape; `one` is the member that BRIDGE and ISOLATE_ONE are about, "" to draw it.

    Of MAJORITY_RING for each member those that it reaches, itself first; of BRIDGE the two halves without the
    one. There must be enough members (`LEAST`).
    """
    match shape:
        case PartitionShape.HALVES:
            return _halves(members)
        case PartitionShape.RANDOM_HALVES:
            return _halves(drawn(members, seed))
        case PartitionShape.MAJORITY_RING:
            return _ring(drawn(members, seed))
    one = one or drawn(members, seed)[0]
    rest = tuple(member for member in members if member != one)
    return _halves(rest) if shape is PartitionShape.BRIDGE else ((one,), rest)


def cuts(parts: Sequence[Group], one_way: bool) -> Cuts:
    """Who is cut from whom by groups that share no member; one way what a later one sends an earlier one."""
    found: dict[str, tuple[Group, Group]] = {}
    for number, group in enumerate(parts):
        earlier = tuple(member for other in parts[:number] for member in other)
        later = tuple(member for other in parts[number + 1 :] for member in other)
        both = (earlier, later) if one_way else (earlier + later, earlier + later)
        found.update(dict.fromkeys(group, both))
    return found


def ring_cuts(reached: Sequence[Group]) -> Cuts:
    """Who is cut from whom by what MAJORITY_RING's members reach. It is mutual."""
    everybody = [group[0] for group in reached]
    found = {}
    for group in reached:
        near = set(group)
        far = tuple(member for member in everybody if member not in near)
        if far:
            found[group[0]] = (far, far)
    return found


def _halves(members: Sequence[str]) -> tuple[Group, ...]:
    middle = len(members) // 2
    return tuple(members[:middle]), tuple(members[middle:])


def _ring(ring: Sequence[str]) -> tuple[Group, ...]:
    """Each reaches as many to its left as to its right, and the opposite one where that is no majority.

    With an odd number of members no two are opposite; then one of them has two such.
    """
    size = len(ring)
    others = size // 2  # of a majority
    near: list[set[int]] = [set() for _ in ring]
    for place in range(size):
        for step in range(1, others // 2 + 1):
            near[place] |= {(place + step) % size, (place - step) % size}
    if others % 2:
        for place in range((size + 1) // 2):
            across = (place + size // 2) % size
            near[place].add(across)
            near[across].add(place)
    return tuple(
        (
            member,
            *(ring[(place + step) % size] for step in range(1, size) if (place + step) % size in near[place]),
        )
        for place, member in enumerate(ring)
    )
