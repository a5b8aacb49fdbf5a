"""Operations as text and as JSON values."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from syndicate.client_api.history._operation import Operation, Outcome

_LONGEST = 60  # characters of one value in a line; the rest is of no use to a reader


def value(thing: Any) -> str:
    """A JSON value, cut in its middle where it is long."""
    try:
        text = json.dumps(thing, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(thing)
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]}…{text[-half:]}"


def call(operation: Operation) -> str:
    """What was called: ``put "x" 2``."""
    words = [operation.kind]
    if operation.key is not None:
        words.append(str(operation.key))
    if operation.argument is not None:
        words.append(value(operation.argument))
    return " ".join(words)


def gave(operation: Operation) -> str:
    """What was called, and what came of it: ``get x returned 1``."""
    if operation.outcome is Outcome.FAIL:
        return f"{call(operation)} failed"
    if operation.outcome is Outcome.INFO:
        return f"{call(operation)}, whose end nobody knows,"
    if operation.result is None and operation.argument is not None:
        return call(operation)
    return f"{call(operation)} returned {value(operation.result)}"


def at(ns: int | None, origin: int) -> str:
    """A time, in milliseconds since the history's first invocation."""
    return "…" if ns is None else f"{(ns - origin) / 1e6:.3f} ms"


def line(operation: Operation, origin: int) -> str:
    """One operation in one line: when, who, what, and what came of it."""
    end = {Outcome.OK: "ok", Outcome.FAIL: "failed", Outcome.INFO: "unknown"}[operation.outcome]
    if operation.outcome is Outcome.OK and (operation.result is not None or operation.argument is None):
        end = f"-> {value(operation.result)}"
    when = f"{at(operation.invoked_ns, origin)} – {at(operation.completed_ns, origin)}"
    return f"{when}  process {operation.process}  {call(operation)}  {end}"


def lines(indent: str, operations: Iterable[Operation], origin: int) -> list[str]:
    """One line each."""
    return [indent + line(operation, origin) for operation in operations]


def plain(operation: Operation) -> dict[str, Any]:
    """An operation as a JSON object of its attributes."""
    names = ("index", "process", "kind", "key", "argument", "outcome", "result", "invoked_ns", "completed_ns")
    told = {name: getattr(operation, name) for name in names}
    return {**told, "outcome": operation.outcome.value, "error": operation.error}
