"""Jepsen's histories: maps of `:process :type :f :value :time :index`, as EDN or as JSON.

An operation's argument is the invocation's value, its result the completion's: as it stands there, so that
the result of a write is what was written. `:key` stands beside them where a test has it; Jepsen's own tests
of independent keys put `[key value]` into the value, which `independent` takes apart and puts together.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from syndicate.client_api.history import _edn
from syndicate.client_api.history._error import HistoryError
from syndicate.client_api.history._events import TYPES, Event, events_of, operations_of
from syndicate.client_api.history._lines import parse, shown
from syndicate.client_api.history._operation import Operation, Outcome

NEMESIS = "nemesis"


def read_jepsen(path: str | os.PathLike[str], *, independent: bool = False) -> tuple[Operation, ...]:
    """Reads a history of Jepsen's: EDN or JSON, maps one after the other or in one vector.

    What the nemesis did is left out. The order of the maps rules, as in Jepsen; times that are missing or do
    not grow are made to. Raises HistoryError, which names file and line (of a JSON array: the place in it).
    """
    source = os.fspath(path)
    return operations_of(event for event in _events(source, _text(source), independent))


def write_jepsen(
    path: str | os.PathLike[str],
    operations: Sequence[Operation],
    *,
    form: str = "edn",
    independent: bool = False,
) -> None:
    """Writes a history in Jepsen's shape, one map a line; `form` is `edn` or `json`.

    Processes become numbers (see `events_of`). An OK without a result repeats its argument, as Jepsen's do.
    """
    if form not in ("edn", "json"):
        raise ValueError(f"form must be 'edn' or 'json', not {form!r}")
    lines = []
    for index, (operation, process, completion) in enumerate(events_of(operations)):
        event = _map(operation, process, completion, independent) | {"index": index}
        lines.append(_edn_line(event) if form == "edn" else json.dumps(event, separators=(",", ":")))
    Path(path).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _text(source: str) -> str:
    try:
        return Path(source).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise HistoryError(f"{source}: no UTF-8: {error}") from error


def _events(source: str, text: str, independent: bool) -> Iterator[Event]:
    for where, line in _maps(source, text):
        if not isinstance(line, dict):
            raise HistoryError(f"{where}: no map, but {shown(line)}")
        process = line.get("process")
        if isinstance(process, str) and process.removeprefix(":") == NEMESIS:
            continue
        yield event_of(where, line, independent)


def _maps(source: str, text: str) -> Iterator[tuple[str, Any]]:
    """The maps, each with the name of its place."""
    if not _is_json(text):
        for form in _edn.read(source, text):
            yield f"{source}:{form.line}", form.value
    elif text.lstrip().startswith("["):
        for place, item in enumerate(_json(source, text)):
            yield f"{source}: item {place}", item
    else:
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                yield f"{source}:{number}", _json(f"{source}:{number}", line)


def _is_json(text: str) -> bool:
    """In JSON a map's first key is in quotes."""
    beginning = text.lstrip().removeprefix("[").lstrip()[:1000]
    return beginning.startswith("{") and beginning[1:].lstrip().startswith('"')


def _json(where: str, text: str) -> Any:
    try:
        return parse(text)
    except (ValueError, RecursionError) as error:
        raise HistoryError(f"{where}: no JSON: {error}") from error


def event_of(where: str, line: dict[str, Any], independent: bool) -> Event:
    """The event of a map. Raises HistoryError."""
    type_ = _name(where, line, "type")
    if type_ not in TYPES:
        raise HistoryError(f"{where}: ':type' must be one of {', '.join(TYPES)}, not {type_!r}")
    process = line.get("process")
    if type(process) is not int:
        raise HistoryError(f"{where}: ':process' must be a number, not {shown(process)}")
    time = line.get("time")
    if time is not None and type(time) is not int:
        raise HistoryError(f"{where}: ':time' must be a whole number of nanoseconds, not {shown(time)}")
    key, value = line.get("key"), line.get("value")
    if independent:
        if not isinstance(value, list) or len(value) != 2:
            raise HistoryError(f"{where}: ':value' must be [key value], not {shown(value)}")
        key, value = value
    error = line.get("error")
    # -1 is Jepsen's word for a time that nobody took.
    return Event(
        where,
        type_,
        process,
        _name(where, line, "f"),
        key,
        value,
        None if time == -1 else time,
        "" if error is None else error if isinstance(error, str) else _edn.write(error),
    )


def _name(where: str, line: dict[str, Any], name: str) -> str:
    value = line.get(name)
    if not isinstance(value, str) or not value.removeprefix(":"):
        raise HistoryError(f"{where}: {':' + name!r} must be a keyword, not {shown(value)}")
    return str(value.removeprefix(":"))


def _map(operation: Operation, process: int, completion: bool, independent: bool) -> dict[str, Any]:
    value = operation.argument
    if completion and operation.outcome is Outcome.OK and operation.result is not None:
        value = operation.result
    event: dict[str, Any] = {
        "type": operation.outcome.value if completion else "invoke",
        "process": process,
        "f": operation.kind,
    }
    if independent:
        event["value"] = [operation.key, value]
    else:
        if operation.key is not None:
            event["key"] = operation.key
        event["value"] = value
    event["time"] = operation.completed_ns if completion else operation.invoked_ns
    if completion and operation.error:
        event["error"] = operation.error
    return event


def _edn_line(event: dict[str, Any]) -> str:
    words = event | {"type": _edn.Keyword(event["type"]), "f": _edn.Keyword(event["f"])}
    if event["f"] == "txn":
        words["value"] = _micro_operations(event["value"])
    return "{" + ", ".join(f":{name} {_edn.write(value)}" for name, value in words.items()) + "}"


def _micro_operations(value: Any) -> Any:
    """The functions of a transaction's parts, such as `append` and `r`, are keywords in Jepsen's."""
    if not isinstance(value, list):
        return value
    return [
        [_edn.Keyword(part[0]), *part[1:]]
        if isinstance(part, list) and part and isinstance(part[0], str)
        else part
        for part in value
    ]
