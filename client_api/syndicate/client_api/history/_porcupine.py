"""The two shapes of history that Porcupine's tests are made of.

The log of Jepsen's etcd test (`read`, `write` and `cas` on one register)::

    INFO  jepsen.util - 0   :invoke  :write  3

and, of tests of key-value stores, EDN without times, in which an operation without an end is left open::

    {:process 0, :type :invoke, :f :append, :key "0", :value "x 0 0 y"}
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from syndicate.client_api.history import _edn
from syndicate.client_api.history._error import HistoryError
from syndicate.client_api.history._events import INVOKE, Event, events_of, operations_of
from syndicate.client_api.history._jepsen import NEMESIS, read_jepsen
from syndicate.client_api.history._operation import Operation, Outcome

_LOG_LINE = re.compile(r"\bjepsen\.util\s+-\s+(:?\w+)\s+:(invoke|ok|fail|info)\s+:(\S+)\s*(.*)$")
TIMED_OUT = "timed-out"
REGISTER_KINDS = ("read", "write", "cas")
MAP_KINDS = ("get", "put", "append")


def read_porcupine(path: str | os.PathLike[str]) -> tuple[Operation, ...]:
    """Reads either shape; lines of a log that tell no operation are passed over.

    Times are the places of the events. Raises HistoryError, which names file and line.
    """
    source = os.fspath(path)
    with open(source, encoding="utf-8", errors="replace") as file:
        lines = file.read().split("\n")
    if next((line for line in lines if line.strip()), "").lstrip().startswith(("{", "[")):
        return read_jepsen(path)
    events = list(_events(source, lines))
    if not events:
        raise HistoryError(f"{source}: no line tells an operation")
    return operations_of(events)


def _events(source: str, lines: Sequence[str]) -> Iterator[Event]:
    for number, line in enumerate(lines, 1):
        match = _LOG_LINE.search(line)
        if match is None or match[1].removeprefix(":") == NEMESIS:
            continue
        where = f"{source}:{number}"
        process, type_, kind, rest = match.groups()
        if not process.isdecimal():
            raise HistoryError(f"{where}: process {process!r} is no number")
        found = [*_edn.values(source, number, rest), None, None]
        value, error = found[0], found[1]
        # What stands for the value of an operation that failed may be the reason.
        if type_ in (Outcome.FAIL, Outcome.INFO) and error is None and isinstance(value, _edn.Keyword):
            value, error = None, value
        reason = "" if error is None else error if isinstance(error, str) else _edn.write(error)
        yield Event(where, type_, int(process), kind, None, value, error=reason)


def write_porcupine(path: str | os.PathLike[str], operations: Sequence[Operation]) -> None:
    """Writes operations without keys as the log, others as EDN.

    The log holds `read`, `write` and `cas` of whole numbers; the EDN `get`, `put` and `append` of texts,
    without the operations that failed (they never happened) and without the ends that nobody knows. Raises
    HistoryError for an operation that has no place in its shape.
    """
    log = all(operation.key is None for operation in operations)
    lines = []
    for operation, process, completion in events_of(operations):
        line = _log_line if log else _map_line
        lines.append(line(operation, process, completion))
    Path(path).write_text("".join(f"{line}\n" for line in lines if line), encoding="utf-8")


def _log_line(operation: Operation, process: int, completion: bool) -> str:
    _require_kind(operation, REGISTER_KINDS)
    value = operation.argument
    if operation.kind == "read" and completion:
        value = operation.result
    if not _fits_log(operation.kind, value):
        raise HistoryError(
            f"operation {operation.index}: {operation.kind} of {value!r} has no place in the log"
        )
    type_ = operation.outcome.value if completion else INVOKE
    shown = _edn.write(value)
    if completion and (operation.outcome is Outcome.INFO or (type_ == "fail" and operation.kind != "cas")):
        shown = f":{TIMED_OUT}"
    return f"INFO  jepsen.util - {process}\t:{type_}\t:{operation.kind}\t{shown}"


def _fits_log(kind: str, value: Any) -> bool:
    if kind == "cas":
        return (
            isinstance(value, (list, tuple)) and len(value) == 2 and all(_is_number(item) for item in value)
        )
    return _is_number(value) or (kind == "read" and value is None)


def _is_number(value: Any) -> bool:
    return type(value) is int and value >= 0


def _map_line(operation: Operation, process: int, completion: bool) -> str:
    _require_kind(operation, MAP_KINDS)
    if operation.outcome is Outcome.FAIL or (completion and operation.outcome is Outcome.INFO):
        return ""
    value = operation.argument
    if operation.kind == "get":
        # What was never written reads as the empty text there.
        value = operation.result or "" if completion else None
    asked = operation.kind == "get" and not completion
    for item in (operation.key,) if asked else (operation.key, value):
        if not isinstance(item, str):
            raise HistoryError(f"operation {operation.index}: {item!r} is no text, as this shape has them")
    type_ = operation.outcome.value if completion else INVOKE
    words = f":process {process}, :type :{type_}, :f :{operation.kind}"
    return f"{{{words}, :key {_edn.write(operation.key)}, :value {_edn.write(value)}}}"


def _require_kind(operation: Operation, kinds: Sequence[str]) -> None:
    if operation.kind not in kinds:
        known = ", ".join(kinds)
        raise HistoryError(f"operation {operation.index}: {operation.kind!r} has no place here, only {known}")
