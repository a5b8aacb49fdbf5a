"""From events, invocations and completions in their order, to operations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from syndicate.client_api.history._error import HistoryError
from syndicate.client_api.history._operation import Operation, Outcome


@dataclass(slots=True)
class _Row:
    process: int | str
    kind: str
    key: Any
    argument: Any
    invoked_ns: int
    outcome: Outcome = Outcome.INFO
    result: Any = None
    completed_ns: int | None = None
    error: str = ""


def _operation(index: int, row: _Row) -> Operation:
    return Operation(
        index,
        row.process,
        row.kind,
        row.key,
        row.argument,
        row.outcome,
        row.result,
        row.invoked_ns,
        row.completed_ns,
        row.error,
    )


@dataclass(slots=True)
class Pairing:
    """Takes events one after the other; `where` of each call names the event in an error's text."""

    _rows: list[_Row] = field(default_factory=list)
    _by_id: dict[int, _Row] = field(default_factory=dict)
    _last_ns: dict[int | str, int] = field(default_factory=dict)
    _open: dict[int | str, tuple[_Row, str]] = field(default_factory=dict)

    def invoke(
        self, where: str, process: int | str, kind: str, key: Any, argument: Any, at_ns: int, ident: int = -1
    ) -> None:
        """Opens an operation. Raises HistoryError where its process has one open, or the id was used."""
        busy = self._open.get(process)
        if busy is not None:
            raise HistoryError(
                f"{where}: process {process!r} invokes {kind!r}, but {busy[0].kind!r} of {busy[1]} is open"
            )
        if at_ns < self._last_ns.get(process, at_ns):
            raise HistoryError(
                f"{where}: process {process!r} invokes {kind!r} before its last operation ended"
            )
        row = _Row(process, kind, key, argument, at_ns)
        if ident >= 0 and self._by_id.setdefault(ident, row) is not row:
            raise HistoryError(f"{where}: operation {ident} was invoked before")
        self._rows.append(row)
        self._open[process] = (row, where)

    def open_of(self, process: int | str) -> tuple[str, Any] | None:
        """Kind and key of what a process has open."""
        busy = self._open.get(process)
        return None if busy is None else (busy[0].kind, busy[0].key)

    def complete(
        self, where: str, process: int | str, outcome: Outcome, result: Any, error: str, at_ns: int
    ) -> None:
        """Ends what a process has open. Raises HistoryError where there is nothing."""
        busy = self._open.get(process)
        if busy is None:
            raise HistoryError(f"{where}: process {process!r} completes ({outcome}) what it has not invoked")
        self._end(where, busy[0], outcome, result, error, at_ns)

    def complete_by_id(
        self, where: str, ident: int, outcome: Outcome, result: Any, error: str, at_ns: int
    ) -> None:
        """Ends an operation by its id. Raises HistoryError where it was not invoked, or has ended."""
        row = self._by_id.get(ident)
        if row is None:
            raise HistoryError(f"{where}: operation {ident} is completed ({outcome}) without an invocation")
        if row.completed_ns is not None:
            raise HistoryError(
                f"{where}: operation {ident} is completed twice ({row.outcome}, then {outcome})"
            )
        self._end(where, row, outcome, result, error, at_ns)

    def operations(self) -> tuple[Operation, ...]:
        """All of them in the order of their invocations' times; what was never completed is INFO.

        Nothing can be told of them afterwards: each row is let go as its operation is made.
        """
        self._by_id.clear()
        self._open.clear()
        rows, self._rows = self._rows, []
        rows.sort(key=lambda row: row.invoked_ns)
        rows.reverse()
        operations: list[Operation] = []
        while rows:
            operations.append(_operation(len(operations), rows.pop()))
        return tuple(operations)

    def _end(self, where: str, row: _Row, outcome: Outcome, result: Any, error: str, at_ns: int) -> None:
        if at_ns < row.invoked_ns:
            raise HistoryError(f"{where}: {row.kind!r} of process {row.process!r} ends before it was invoked")
        row.outcome, row.error, row.completed_ns = outcome, error, at_ns
        row.result = result if outcome is Outcome.OK else None
        self._last_ns[row.process] = at_ns
        del self._open[row.process]
