"""The windows in which faults held, of the ledger's lines."""

from __future__ import annotations

from collections.abc import Iterable

from syndicate.client_api._results import LASTING, Fault, FaultKind
from syndicate.client_api.checkers._windows import FaultWindow


def fault_windows(faults: Iterable[Fault]) -> list[FaultWindow]:
    """When each fault that took hold was in force, on the manager's clock; one window for each call.

    A kill lasts until its task was revived, if it ever was; signals last no time and have no window. For
    ``NotVacuous`` and ``AvailableAgain`` beside a history that was merged onto the manager's clock.
    """
    lines = sorted((fault for fault in faults if _held(fault)), key=lambda fault: fault.fault_id)
    revived = [fault for fault in lines if fault.kind is FaultKind.REVIVE]
    calls: dict[int, list[Fault]] = {}
    for fault in lines:
        if fault.kind in LASTING or fault.kind is FaultKind.KILL:
            calls.setdefault(fault.call_id, []).append(fault)
    windows = [_window(call, revived) for call in calls.values()]
    return sorted(windows, key=lambda window: window.start_ns)


def _window(call: list[Fault], revived: list[Fault]) -> FaultWindow:
    ends = [_end_ns(fault, revived) for fault in call]
    known = [end for end in ends if end is not None]
    tasks = ", ".join(fault.task for fault in call)
    start = min(_applied_ns(fault) for fault in call)
    end = max(known) if len(known) == len(ends) else None
    # Both are known to within their errors only: a window never ends before it starts.
    return FaultWindow(f"{call[0].kind.value} {tasks}", start, None if end is None else max(start, end))


def _end_ns(fault: Fault, revived: list[Fault]) -> int | None:
    if fault.kind is FaultKind.KILL:
        later = (one for one in revived if one.task == fault.task and one.fault_id > fault.fault_id)
        after = next(later, None)
        return None if after is None else _applied_ns(after)
    return None if fault.healed_at_manager is None else fault.healed_at_manager.monotonic_ns


def _held(fault: Fault) -> bool:
    return fault.applied_at_manager is not None and not fault.error


def _applied_ns(fault: Fault) -> int:
    stamp = fault.applied_at_manager
    assert stamp is not None  # noqa: S101 - those that never held were left out
    return stamp.monotonic_ns
