"""`merge`: histories of several clients on one time line, the manager's clock.

Clients on one machine share its clock and are put together as they are. Between machines a moment is known
only to within the bound of its clock: each operation is taken to have begun as early and ended as late as the
bound allows. Its true interval lies within, so an order that explains what truly happened explains the wider
history too: a correct system never comes out false, while a violation shorter than the bounds may be missed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from syndicate.client_api.history._clock import DRIFT_PPM, ClockReading, Offsets
from syndicate.client_api.history._error import HistoryError
from syndicate.client_api.history._operation import Operation
from syndicate.client_api.history._read import Recorded


@dataclass(frozen=True, slots=True)
class UsedClock:
    """How one client's times came onto the common time line."""

    client: str
    """What its processes' names begin with."""
    boot_id: str
    """Its machine."""
    offset_ns: int | None
    """Its clock minus the manager's, at the middle of its history; None where it was never measured."""
    error_ns: int | None
    """The worst of the bound while the client recorded, ±; None where it was never measured."""
    readings: int
    """Of how many readings that was made, this machine's other clients' among them."""
    widened: bool
    """Whether its operations were widened: not where all clients were on one machine."""

    def __str__(self) -> str:
        if self.error_ns is None or self.offset_ns is None:
            return f"{self.client}: on its own clock, never compared to the manager's"
        bound = f"clock {self.offset_ns / 1e6:+.3f} ms ± {self.error_ns / 1e6:.3f} ms of the manager's"
        return (
            f"{self.client}: {bound}, intervals {'widened by that' if self.widened else 'exact: one machine'}"
        )


@dataclass(frozen=True, slots=True)
class Merged:
    """Several histories as one."""

    operations: tuple[Operation, ...]
    """By their invocations, with new indices; processes are named `client-0/3`.

    Where they were widened, consecutive operations of one process may overlap by as much.
    """
    clocks: tuple[UsedClock, ...]
    """One for each history, in the order in which they were given."""


def merge(
    histories: Sequence[Recorded], *, readings: Iterable[ClockReading] = (), drift_ppm: int = DRIFT_PPM
) -> Merged:
    """Puts histories on one time line: the manager's clock where it was ever measured.

    Args:
        histories: one for each file.
        readings: what is known of the machines' clocks beside what the histories hold.
        drift_ppm: how fast two clocks may drift apart, in millionths.

    Raises:
        HistoryError: a history is there twice; or several machines recorded, and of one the clock was never
            measured, or its readings contradict each other, or are of two managers.
    """
    _require_distinct(histories)
    known = _by_machine(histories, readings)
    machines = {history.header.boot_id for history in histories}
    if len(machines) > 1:
        _require_one_manager(known)
    place = _place_among if len(machines) > 1 else _place_alone
    moved: list[Iterator[_Moved]] = []
    clocks = []
    for name, history in zip(_names(histories), histories, strict=True):
        at, clock = place(name, history, known.get(history.header.boot_id, []), drift_ppm)
        clocks.append(clock)
        moved.append(_moved(name, history, at))
    in_order = moved[0] if len(moved) == 1 else _in_order(chain.from_iterable(moved))
    return Merged(tuple(_renewed(index, one) for index, one in enumerate(in_order)), tuple(clocks))


def _in_order(moved: Iterable[_Moved]) -> Iterator[_Moved]:
    """By their invocations. Each is let go as it is given: there may be very many."""
    found = sorted(moved, key=lambda one: one[0])
    found.reverse()
    while found:
        yield found.pop()


_At = Callable[[int], tuple[int, int]]
_Known = dict[str, list[ClockReading]]
_Moved = tuple[int, int | None, str, Operation]


def _place_alone(
    name: str, history: Recorded, readings: Sequence[ClockReading], drift_ppm: int
) -> tuple[_At, UsedClock]:
    """All on one machine: one offset for all, so that nothing between them changes."""
    readings = sorted(readings, key=lambda reading: reading.at_ns)
    if not readings:
        return _unmoved(name, history)
    # With exact intervals it matters only to where the line begins that managers change, or that readings
    # contradict each other: the last one holds.
    readings = [reading for reading in readings if reading.manager_boot_id == readings[-1].manager_boot_id]
    try:
        offsets = Offsets(readings, drift_ppm)
    except HistoryError:
        readings = readings[-1:]
        offsets = Offsets(readings, drift_ppm)
    low, high = offsets.at(readings[len(readings) // 2].at_ns)
    middle = (low + high) // 2
    used = _used(name, history, offsets, len(readings), widened=False)
    return lambda _: (middle, middle), replace(used, offset_ns=middle)


def _place_among(
    name: str, history: Recorded, readings: Sequence[ClockReading], drift_ppm: int
) -> tuple[_At, UsedClock]:
    """One of several machines: each end as far out as its clock's bound allows."""
    if readings:
        offsets = _offsets(name, readings, drift_ppm)
        return offsets.at, _used(name, history, offsets, len(readings), widened=True)
    if history.operations:  # who did nothing has nothing to compare
        raise HistoryError(
            f"{history.source}: the clock of {name} was never compared to the manager's, and other clients"
            " ran on other machines: record history.set_clock(chaos.ping())"
        )
    return _unmoved(name, history)


def _unmoved(name: str, history: Recorded) -> tuple[_At, UsedClock]:
    clock = UsedClock(name, history.header.boot_id, None, None, 0, widened=False)
    return lambda _: (0, 0), clock


def _moved(name: str, history: Recorded, at: _At) -> Iterator[_Moved]:
    """(beginning, end, process, operation): the offset's bounds at each end say how early and how late."""
    names: dict[int | str, str] = {}
    for operation in history.operations:
        begun, ended, process = operation.invoked_ns, operation.completed_ns, operation.process
        if process not in names:
            names[process] = f"{name}/{_told(process)}"
        yield (
            begun - at(begun)[1],
            None if ended is None else ended - at(ended)[0],
            names[process],
            operation,
        )


def _renewed(index: int, moved: _Moved) -> Operation:
    begun, ended, process, old = moved
    return Operation(
        index, process, old.kind, old.key, old.argument, old.outcome, old.result, begun, ended, old.error
    )


def _told(process: int | str) -> str:
    """A process in the name of another: a text that looks like a number is told from that number."""
    return repr(process) if isinstance(process, str) and process.lstrip("-").isdecimal() else str(process)


def _used(name: str, history: Recorded, offsets: Offsets, readings: int, *, widened: bool) -> UsedClock:
    begun = [one.invoked_ns for one in history.operations]
    ended = [one.completed_ns for one in history.operations if one.completed_ns is not None]
    times = {*begun, *ended} or {history.header.start_ns}
    low, high = offsets.at((min(times) + max(times)) // 2)
    worst = max(high - low for low, high in map(offsets.at, times))
    return UsedClock(name, history.header.boot_id, (low + high) // 2, -(-worst // 2), readings, widened)


def _offsets(name: str, readings: Sequence[ClockReading], drift_ppm: int) -> Offsets:
    try:
        return Offsets(readings, drift_ppm)
    except HistoryError as error:
        raise HistoryError(f"the clock of {name}: {error}") from error


def _by_machine(histories: Sequence[Recorded], more: Iterable[ClockReading]) -> _Known:
    known: _Known = {}
    for reading in (*(reading for history in histories for reading in history.clocks), *more):
        known.setdefault(reading.boot_id, []).append(reading)
    return known


def _require_one_manager(known: _Known) -> None:
    managers = {reading.manager_boot_id for readings in known.values() for reading in readings} - {""}
    if len(managers) > 1:
        raise HistoryError(
            f"the clocks were compared to those of {len(managers)} managers: {', '.join(sorted(managers))}"
        )


def _require_distinct(histories: Sequence[Recorded]) -> None:
    seen: dict[tuple[str, int, int, str], str] = {}
    for history in histories:
        header = history.header
        mark = (header.boot_id, header.pid, header.start_ns, header.task)
        if mark in seen:
            raise HistoryError(f"{history.source}: the same history as {seen[mark]}")
        seen[mark] = history.source


def _names(histories: Sequence[Recorded]) -> list[str]:
    """What the processes of each are named by; a client that was revived has several histories."""
    names: list[str] = []
    for history in histories:
        base = history.header.task or history.header.host or "client"
        number = 1
        while (name := base if number == 1 else f"{base}.{number}") in names:
            number += 1
        names.append(name)
    return names
