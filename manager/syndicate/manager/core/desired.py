"""What a member suffers, computed from the lines of the ledger that are in force on it.

Nothing here remembers anything: the same lines give the same state in whichever order they came. What is
composed of several lines is computed of their sorted values, so that not even rounding tells the order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from .effects import LinkState, SetNetwork, SetTask
from .model import UNDEGRADED, Degradation, FaultKind
from .records import FaultRecord

CUTS: Final = frozenset({FaultKind.DISCONNECT, FaultKind.RESET})
"""What a Reconnect takes back."""

OF_NETWORK: Final = CUTS | {FaultKind.PARTITION, FaultKind.DEGRADE}
OF_TASK: Final = frozenset({FaultKind.PAUSE, FaultKind.DISK_FULL})

LASTING: Final = OF_NETWORK | OF_TASK
"""What holds until it is taken back, and so can be."""

# What the volunteers' side takes at most.
MAX_DELAY_MS: Final = 60_000.0

_WHOLE: Final = SetNetwork()


def network(
    lines: Iterable[FaultRecord], others: Sequence[str], address_of: Callable[[str], str]
) -> SetNetwork:
    """The state of a member's network.

    `others` are the addresses of all masters and slaves but its own, `address_of` has a member's by its name.
    """
    out: set[str] = set()
    heard: set[str] = set()
    reset: set[str] = set()
    worse: dict[str, tuple[list[Degradation], list[Degradation]]] = {}
    for line in lines:
        match line.kind:
            case FaultKind.DISCONNECT:
                out.update(others)
                heard.update(others)
            case FaultKind.RESET:
                reset.update(others)
            case FaultKind.PARTITION:
                out.update(map(address_of, line.cut_out))
                heard.update(map(address_of, line.cut_in))
            case FaultKind.DEGRADE if line.degradation is not None:
                for peer in map(address_of, line.peers) if line.peers else ("",):
                    sent, got = worse.setdefault(peer, ([], []))
                    sent.append(line.degradation)
                    if not line.one_way:
                        got.append(line.degradation)
    if not (out or heard or reset or worse):
        return _WHOLE
    cut = out & heard
    links = [LinkState(peer, compose(sent), compose(got)) for peer, (sent, got) in sorted(worse.items())]
    return SetNetwork(
        tuple(sorted(cut)),
        tuple(sorted(out - cut)),
        tuple(sorted(heard - cut)),
        tuple(sorted(reset - cut)),
        tuple(links),
    )


def task(lines: Iterable[FaultRecord]) -> SetTask:
    """What a member suffers beside its network."""
    kinds = {line.kind for line in lines}
    return SetTask(FaultKind.PAUSE in kinds, FaultKind.DISK_FULL in kinds)


def compose(parts: Sequence[Degradation]) -> Degradation:
    """Several degradations of the same packets: chances are independent, rates the least, times add up."""
    if len(parts) <= 1:
        return parts[0] if parts else UNDEGRADED
    delay = min(math.fsum(part.delay_ms for part in parts), MAX_DELAY_MS)
    return Degradation(
        loss_percent=_either([part.loss_percent for part in parts]),
        rate_bps=min((part.rate_bps for part in parts if part.rate_bps), default=0),
        delay_ms=delay,
        jitter_ms=min(math.fsum(part.jitter_ms for part in parts), delay),
        duplicate_percent=_either([part.duplicate_percent for part in parts]),
        corrupt_percent=_either([part.corrupt_percent for part in parts]),
        reorder_percent=_either([part.reorder_percent for part in parts]),
    )


def _either(percentages: list[float]) -> float:
    """The chance that at least one of independent ones comes true."""
    some = sorted(value for value in percentages if value)
    if len(some) <= 1:
        return some[0] if some else 0.0
    # From both sides it may be rounded past the largest of them, or past all.
    return min(max(100.0 * (1.0 - math.prod(1.0 - value / 100.0 for value in some)), some[-1]), 100.0)
