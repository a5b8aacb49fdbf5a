"""Messages as plain JSON values: snake_case names, whole numbers as numbers, enums as lower-case words."""

from __future__ import annotations

import json
import math
from collections.abc import MutableMapping, MutableSequence
from typing import Any

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.message import Message
from syndicate.v1 import scheduler_pb2


def as_plain(message: Message) -> dict[str, Any]:
    """Every field of a message; a message field or an optional one that is not set is None.

    Bytes become text, with ``\\xNN`` for what is not UTF-8; ``nan`` and ``inf`` become text too.
    """
    return {field.name: _field(message, field.name) for field in message.DESCRIPTOR.fields}


def log_as_plain(answer: scheduler_pb2.ReadLogsResponse, number: int) -> dict[str, Any]:
    """One piece of a log as one JSON line; ``number`` counts them, so that a reader sees a gap."""
    return {"event": "log", "number": number, **as_plain(answer)}


def document(value: Any) -> str:
    """One JSON document on one line. ASCII only, so that nothing in it can steer a terminal."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False)


def _field(message: Message, name: str) -> Any:
    field: Any = message.DESCRIPTOR.fields_by_name[name]
    value = getattr(message, name)
    if isinstance(value, MutableMapping):
        return {str(key): _scalar(item) for key, item in sorted(value.items())}
    if isinstance(value, MutableSequence):
        return [_value(field.enum_type, item) for item in value]
    if field.has_presence and not message.HasField(name):
        return None
    return _value(field.enum_type, value)


def _value(enum: EnumDescriptor | None, value: Any) -> Any:
    if isinstance(value, Message):
        return as_plain(value)
    return _scalar(value) if enum is None else enum_word(enum, value)


def _scalar(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no number for it
    return value


def enum_word(kind: EnumDescriptor, number: int) -> str:
    """``JOB_STATE_TIMED_OUT`` is ``timed_out``; a value that these stubs do not know is its number."""
    value = kind.values_by_number.get(number)
    if value is None:
        return str(number)
    prefix = kind.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return value.name.removeprefix(prefix).lower()
