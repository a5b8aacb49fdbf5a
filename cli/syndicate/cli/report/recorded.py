"""Puts the histories of a job's clients onto the time line of its run."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from syndicate.cli.render.neutralise import neutralise_text
from syndicate.cli.report.logs import shortened
from syndicate.cli.report.run import Op, Recording
from syndicate.client_api.history import Merged, Operation, Recorded, merge
from syndicate.v1.common_pb2 import Stamp

_MOST_CHARACTERS = 60
_MOST_KINDS = 16
_NS = 1e9
# An operation as checkers tell it: `812.300 ms – 815.204 ms  process client-0/3  get x  -> 1`.
_TOLD = re.compile(r"^\s+(\d+\.\d{3}) ms – (?:(\d+\.\d{3}) ms|…)  process (\S+)  \S")
_ROUNDED_NS = 501


def recording(histories: Sequence[Recorded], start: Stamp, told: Sequence[str] = ()) -> Recording:
    """Operations of all histories; ``told`` is the verdict's text, whose operations are looked up.

    Raises HistoryError where histories of several machines cannot be put on one time line.
    """
    merged = merge(histories)
    clients, clocks = _zeros(histories, merged, start)
    zeros = _Zeros(clients)
    operations = sorted(merged.operations, key=lambda one: one.invoked_ns - zeros[str(one.process)])
    kinds = _Kinds(operations)
    ops = tuple(_op(one, zeros[str(one.process)], kinds[one.kind]) for one in operations)
    return Recording(ops, clocks, _places(told, operations))


def _zeros(
    histories: Sequence[Recorded], merged: Merged, start: Stamp
) -> tuple[dict[str, int], tuple[str, ...]]:
    """For each client the job's start on the clock of its operations, and the clocks in words."""
    zeros, told = {}, []
    for history, clock in zip(histories, merged.clocks, strict=True):
        zeros[clock.client] = start.monotonic_ns
        if clock.offset_ns is None and clock.boot_id == start.boot_id:
            told.append(f"{clock.client}: on the manager's own clock, intervals exact")
        elif clock.offset_ns is None:
            header = history.header
            zeros[clock.client] = header.start_ns - (header.start_utc_ns - start.utc_ns)
            told.append(f"{clock}: placed by the time of day, against faults known to no bound")
        else:
            told.append(str(clock))
    return zeros, tuple(neutralise_text(line) for line in told)


class _Kinds(dict[str, str]):
    """What each kind is called: the rare ones of very many share a name, so that tables have an end."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        counts = Counter(one.kind for one in operations)
        super().__init__((kind, neutralise_text(kind)) for kind, _ in counts.most_common(_MOST_KINDS))

    def __missing__(self, kind: str) -> str:
        return "other kinds"


class _Zeros(dict[str, int]):
    """By process; a client's processes are named `CLIENT/…`, and clients name themselves."""

    def __init__(self, clients: dict[str, int]) -> None:
        self._clients = clients

    def __missing__(self, process: str) -> int:
        client = max((name for name in self._clients if process.startswith(f"{name}/")), key=len)
        self[process] = self._clients[client]
        return self[process]


def _op(operation: Operation, zero_ns: int, kind: str) -> Op:
    ended = operation.completed_ns
    return Op(
        (operation.invoked_ns - zero_ns) / _NS,
        None if ended is None else (ended - zero_ns) / _NS,
        kind,
        operation.outcome.value,
        neutralise_text(str(operation.process)),
        _words(operation),
    )


def _words(operation: Operation) -> str:
    words = [operation.kind]
    words += [_value(value) for value in (operation.key, operation.argument) if value is not None]
    if operation.outcome.value == "ok" and operation.result is not None:
        words.append(f"→ {_value(operation.result)}")
    if operation.error:
        words.append(f"({operation.error})")
    return shortened(neutralise_text(" ".join(words)), _MOST_CHARACTERS)


def _value(value: Any) -> str:
    try:
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except RecursionError:  # it was read, where the stack was less deep
        return "…"


def _places(told: Sequence[str], operations: Sequence[Operation]) -> tuple[int, ...]:
    """Where the operations of a counterexample are: their times count from the history's first invocation."""
    wanted = [(round(begin * 1e6), process) for begin, process in _told_operations(told)]
    if not wanted or not operations:
        return ()
    origin = min(one.invoked_ns for one in operations)
    found = []
    for place, one in enumerate(operations):
        name = str(one.process)
        for begin, process in wanted:
            near = abs(one.invoked_ns - origin - begin) <= _ROUNDED_NS
            if near and process in (name, name.partition("/")[2]):
                found.append(place)
    return tuple(dict.fromkeys(found))


def _told_operations(told: Sequence[str]) -> list[tuple[float, str]]:
    return [(begin, process) for begin, _, process, _ in counterexample(told)]


def counterexample(told: Sequence[str]) -> list[tuple[float, float | None, str, str]]:
    """(begin in ms, end in ms, process, the line) of the operations that a verdict first shows to be bad."""
    found: list[tuple[float, float | None, str, str]] = []
    for line in told:
        match = _TOLD.match(line)
        if match is not None:
            begin, end, process = match.groups()
            found.append((float(begin), float(end) if end else None, process, line.strip()))
        elif found or line.strip() == "meanwhile:":
            return found  # of a composed checker the other parts', or what was open at the same time
    return found
