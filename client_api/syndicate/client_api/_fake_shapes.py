"""Who is cut from whom in a partition of the fake job."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from syndicate.client_api._results import Shape

Groups = tuple[tuple[str, ...], ...]

_LEAST = {Shape.BRIDGE: 3, Shape.MAJORITY_RING: 3}


@dataclass(frozen=True, slots=True)
class Cuts:
    """A partition: its groups, and whom each member's packets do not reach. Only of those that are cut."""

    groups: Groups
    cut_out: dict[str, frozenset[str]]

    def cut_in(self, member: str) -> frozenset[str]:
        """Whom the member does not hear."""
        return frozenset(other for other, lost in self.cut_out.items() if member in lost)

    def concerns(self, member: str) -> bool:
        """Whether anything is cut for the member."""
        return bool(self.cut_out.get(member)) or bool(self.cut_in(member))


def of_groups(groups: Groups, one_way: bool) -> Cuts:
    """Nothing passes between groups; one way, from a later group to an earlier one."""
    cut_out: dict[str, frozenset[str]] = {}
    for at, group in enumerate(groups):
        others = groups[:at] if one_way else groups[:at] + groups[at + 1 :]
        lost = frozenset(member for other in others for member in other)
        cut_out.update((member, lost) for member in group if lost)
    return Cuts(groups, cut_out)


def of_shape(shape: Shape, members: Sequence[str], one: str, one_way: bool, seed: int) -> Cuts:
    """The members, in their order, put into a shape. Raises ValueError where there are too few of them."""
    least = _LEAST.get(shape, 2)
    if len(members) < least:
        raise ValueError(f"{shape} needs {least} masters and slaves, there are {len(members)}")
    match shape:
        case Shape.MAJORITY_RING:
            return _ring(_drawn(members, seed))
        case Shape.HALVES:
            return of_groups(_halves(members), one_way)
        case Shape.RANDOM_HALVES:
            return of_groups(_halves(_drawn(members, seed)), one_way)
    one = one or _drawn(members, seed)[0]
    rest = tuple(member for member in members if member != one)
    return of_groups(((one,), rest) if shape is Shape.ISOLATE_ONE else _halves(rest), one_way)


def _drawn(members: Sequence[str], seed: int) -> list[str]:
    """The order that the manager would draw: a seed that a test found does the same in a cluster."""
    order = list(members)
    for last in reversed(range(1, len(order))):
        digest = hashlib.sha256(b"%d/%d" % (seed, last)).digest()
        other = int.from_bytes(digest, "big") % (last + 1)
        order[last], order[other] = order[other], order[last]
    return order


def _halves(members: Sequence[str]) -> Groups:
    middle = len(members) // 2
    return tuple(members[:middle]), tuple(members[middle:])


def _ring(ring: Sequence[str]) -> Cuts:
    """Each reaches its nearest to both sides, and one across where that is no majority; all of it mutual."""
    size = len(ring)
    a_side, across = divmod(size // 2, 2)
    pairs = {frozenset((at, (at + step) % size)) for at in range(size) for step in range(1, a_side + 1)}
    if across:
        pairs |= {frozenset((at, (at + size // 2) % size)) for at in range((size + 1) // 2)}
    groups, cut_out = [], {}
    for at, member in enumerate(ring):
        others = [(at + step) % size for step in range(1, size)]
        reached = [ring[other] for other in others if {at, other} in pairs]
        groups.append((member, *reached))
        lost = frozenset(ring) - {member, *reached}
        if lost:
            cut_out[member] = lost
    return Cuts(tuple(groups), cut_out)
