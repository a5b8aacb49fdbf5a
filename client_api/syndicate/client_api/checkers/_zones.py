"""Values that are reached once, judged by their times: a short proof without a search.

A value that at most one operation can bring stands from before the first end of those that wrote or read it
(the `end` of its zone) until after the last invocation of one of them (`begin`). Where end < begin it stands
all that time, and nothing else does: neither another such value that stands a while of it too, nor anything
that was written within it.

Source: Gibbons and Korach, "Testing shared memories" (1997).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from syndicate.client_api.history._operation import Operation, Outcome

_NEVER = 2**63


@dataclass(frozen=True, slots=True)
class _Zone:
    """The times of one value; `first` is None of the value that was there before all operations."""

    first: Operation | None  # the one that ended first
    last: Operation  # the one that was invoked last

    @property
    def end(self) -> int:
        return -_NEVER if self.first is None else _end(self.first)

    @property
    def begin(self) -> int:
        return self.last.invoked_ns


def conflict(
    reads: Mapping[Hashable, Sequence[Operation]],
    makers: Callable[[Hashable], Sequence[Operation]],
    initial: Hashable,
    writes: Iterable[Operation],
) -> tuple[Operation, ...]:
    """Operations that no order allows, the one that ended last behind; none where nothing was found.

    `reads` of each value, the operations (`makers`) that can have brought it, and the `writes`, each of which
    leaves another value than it finds.
    """
    found: list[tuple[Operation, ...]] = []
    zones = []
    for value, readers in reads.items():
        able = makers(value)
        if value == initial:
            if not able:
                zones.append(_Zone(None, max(readers, key=_invoked)))
        elif not able:
            found.append((min(readers, key=_end),))
        elif len(able) == 1:
            early = min(readers, key=_end)
            if _end(early) < able[0].invoked_ns:
                found.append((able[0], early))
            ops = [*able, *readers]
            zones.append(_Zone(min(ops, key=_end), max(ops, key=_invoked)))
    zones += [_Zone(one, one) for one in writes if one.outcome is Outcome.OK]
    found += _crossing(zones)
    best = min(found, key=lambda core: max(map(_end, core)), default=())
    return tuple(sorted(best, key=lambda one: (one.outcome is Outcome.OK, _end(one))))


def _end(one: Operation) -> int:
    return _NEVER if one.outcome is Outcome.INFO or one.completed_ns is None else one.completed_ns


def _invoked(one: Operation) -> int:
    return one.invoked_ns


def _crossing(zones: Iterable[_Zone]) -> Iterable[tuple[Operation, ...]]:
    """Values of which one stands where another must."""
    standing = sorted((zone for zone in zones if zone.end < zone.begin), key=lambda zone: zone.end)
    for one, other in pairwise(standing):
        if other.end < one.begin:
            yield _core(one, other)
    ends = [zone.end for zone in standing]
    for zone in zones:
        if zone.end >= zone.begin:
            place = bisect_right(ends, zone.begin - 1) - 1
            if place >= 0 and zone.end < standing[place].begin:
                yield _core(standing[place], zone)


def _core(*zones: _Zone) -> tuple[Operation, ...]:
    ops = [one for zone in zones for one in (zone.first, zone.last) if one is not None]
    return tuple({one.index: one for one in ops}.values())
