"""Events of other tools' histories: lines in one order, made into operations and made of them."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from syndicate.client_api.history._error import HistoryError
from syndicate.client_api.history._operation import Operation, Outcome
from syndicate.client_api.history._pairing import Pairing

INVOKE = "invoke"
TYPES = (INVOKE, *(outcome.value for outcome in Outcome))


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a history. `time` is None where the format has no times."""

    where: str
    type: str
    process: int
    kind: str
    key: Any
    value: Any
    time: int | None = None
    error: str = ""


def operations_of(events: Iterable[Event]) -> tuple[Operation, ...]:
    """The operations of events in their order.

    The order of the lines rules: where times are missing, or do not grow, each event is one nanosecond later
    than the one before it. Raises HistoryError where a completion does not fit to what its process has open.
    """
    pairing = Pairing()
    last = -1
    for event in events:
        last = last + 1 if event.time is None else max(last + 1, event.time)
        if event.type == INVOKE:
            pairing.invoke(event.where, event.process, event.kind, event.key, event.value, last)
            continue
        opened = pairing.open_of(event.process)
        if opened is not None and (event.kind, event.key or opened[1]) != opened:
            raise HistoryError(
                f"{event.where}: process {event.process} completes {event.kind!r} of key {event.key!r},"
                f" but has {opened[0]!r} of key {opened[1]!r} open"
            )
        outcome = Outcome(event.type)
        pairing.complete(event.where, event.process, outcome, event.value, event.error, last)
    return pairing.operations()


def events_of(operations: Sequence[Operation]) -> list[tuple[Operation, int, bool]]:
    """(operation, process, whether it is the completion), in an order that their times allow.

    Others' processes are numbers, and end with an operation that nobody knows the end of. So a process that
    goes on after one, is a name, or (widened by clocks' errors) has two open, gets numbers that are free.
    """
    lanes = _lanes(operations)
    by_lane: dict[int, list[tuple[int, bool, Operation]]] = {}
    for operation in sorted(operations, key=lambda one: (one.invoked_ns, one.index)):
        ends = by_lane.setdefault(lanes[operation.index], [])
        ends.append((operation.invoked_ns, False, operation))
        if operation.completed_ns is not None:
            ends.append((operation.completed_ns, True, operation))
    heap = [(_rank(ends, 0), lane, 0) for lane, ends in by_lane.items()]
    heapq.heapify(heap)
    ordered = []
    while heap:
        _, lane, place = heapq.heappop(heap)
        _, completion, operation = by_lane[lane][place]
        ordered.append((operation, lane, completion))
        if place + 1 < len(by_lane[lane]):
            heapq.heappush(heap, (_rank(by_lane[lane], place + 1), lane, place + 1))
    return ordered


def _rank(ends: list[tuple[int, bool, Operation]], place: int) -> tuple[int, int]:
    """Of events of one moment, invocations come first: what may have been at once must not become before."""
    at_ns, completion, _ = ends[place]
    if not completion:
        return at_ns, 0
    follows = place + 1 < len(ends) and ends[place + 1][0] == at_ns
    return at_ns, 1 if follows else 2


def _lanes(operations: Sequence[Operation]) -> dict[int, int]:
    """By operation's index, the number of its process."""
    free = 1 + max((one.process for one in operations if isinstance(one.process, int)), default=-1)
    free = max(free, 0)
    current: dict[int | str, list[tuple[int, Operation]]] = {}
    lanes: dict[int, int] = {}
    for operation in sorted(operations, key=lambda one: (one.invoked_ns, one.index)):
        known = current.setdefault(operation.process, [])
        for place, (lane, last) in enumerate(known):
            if last.outcome is not Outcome.INFO and (last.completed_ns or 0) <= operation.invoked_ns:
                known[place] = (lane, operation)
                break
        else:
            own = operation.process if not known and isinstance(operation.process, int) else -1
            lane = own if own >= 0 else free
            free += own < 0
            known.append((lane, operation))
        lanes[operation.index] = lane
    return lanes
