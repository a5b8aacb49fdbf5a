"""The lines of a history's file, written and taken apart.

The first line is the header, each other one an event. Times (`t`) are nanoseconds since the header's
`start_ns`; what is null is left out::

    {"syndicate_history":1,"boot_id":"…","host":"client-0","task":"client-0","pid":7,"start_ns":…,"start_utc_ns":…}
    {"i":0,"t":81250,"p":3,"f":"put","k":"x","v":5}         process 3 invokes put(5) on x: operation 0
    {"ok":0,"t":912000}                                     operation 0 happened; "v" would be its result
    {"fail":1,"t":990100,"e":"not the leader"}              it did not happen
    {"info":2,"t":5000000,"e":"timed out"}                  nobody knows
    {"clock":-51000,"error":180,"t":70000,"manager":"…"}    this clock minus the manager's, ± error, in ns

An operation of small values takes some 45 + 25 bytes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from json.encoder import encode_basestring_ascii
from typing import Any

from syndicate.client_api.history._clock import ClockReading
from syndicate.client_api.history._error import HistoryError

VERSION = 1
MOST = 2**63 - 1
"""Of a number: no clock counts further in nanoseconds, and a time line is drawn with less."""
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True, slots=True)
class Header:
    """Who recorded a history, and on which clock."""

    boot_id: str
    """The machine: clocks of one boot id are one clock."""
    host: str
    """Its host name; in a job the task's."""
    task: str
    """SYNDICATE_TASK, for instance `client-0`; empty outside of a job."""
    pid: int
    """The process, as it sees itself."""
    start_ns: int
    """CLOCK_BOOTTIME when the history was opened."""
    start_utc_ns: int
    """Nanoseconds since 1970 then, for people to read and never for arithmetic."""

    def line(self) -> bytes:
        """The first line."""
        return f"{encode({'syndicate_history': VERSION} | asdict(self))}\n".encode("ascii")


def encode(value: Any) -> str:
    """A value as JSON in ASCII. Raises TypeError, ValueError or RecursionError for what is no JSON value."""
    kind = type(value)
    if kind is str:
        return encode_basestring_ascii(value)
    if kind is int:
        return int.__repr__(value)
    if value is not None and kind is not bool and kind is not float:
        _require_names(value)
    return _ENCODER.encode(value)


def _require_names(value: Any) -> None:
    """Raises TypeError where a key is no text: JSON would make one of it, and it would come back as that."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"key {key!r} of an object is no text")
            _require_names(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _require_names(item)


def member(name: str, value: Any, what: str) -> str:
    """`,"name":value` of an object; empty for None. Raises HistoryError that names `what`."""
    if value is None:
        return ""
    try:
        return f',"{name}":{encode(value)}'
    except (TypeError, ValueError, RecursionError) as error:
        raise HistoryError(f"{what} is no JSON value: {error}") from error


def clock_line(reading: ClockReading, since_ns: int) -> bytes:
    """The line of a reading."""
    manager = member("manager", reading.manager_boot_id or None, "the manager's boot id")
    bound = f'"clock":{reading.offset_ns},"error":{reading.error_ns}'
    return f'{{{bound},"t":{reading.at_ns - since_ns}{manager}}}\n'.encode("ascii")


def decode(where: str, raw: bytes) -> dict[str, Any]:
    """The object of a line. Raises HistoryError."""
    try:
        value = parse(raw.decode())
    except (ValueError, RecursionError) as error:
        raise HistoryError(f"{where}: no JSON: {error}") from error
    if not isinstance(value, dict):
        raise HistoryError(f"{where}: no JSON object")
    return value


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def parse(text: str) -> Any:
    """A JSON value. Raises ValueError or RecursionError."""
    return _DECODER.decode(text)


def header_of(where: str, line: dict[str, Any]) -> Header:
    """The header that the first line holds. Raises HistoryError."""
    version = line.get("syndicate_history")
    if version is None:
        raise HistoryError(f"{where}: no header: not a history of Syndicate")
    if version != VERSION or type(version) is not int:
        raise HistoryError(f"{where}: version {version!r} of the format is not known here, only {VERSION}")
    return Header(
        text_of(where, line, "boot_id"),
        text_of(where, line, "host"),
        text_of(where, line, "task"),
        number_of(where, line, "pid"),
        number_of(where, line, "start_ns"),
        number_of(where, line, "start_utc_ns"),
    )


def number_of(where: str, line: dict[str, Any], name: str) -> int:
    """A whole number of at least 0 and at most `MOST`. Raises HistoryError."""
    value = line.get(name)
    if type(value) is not int or value < 0:
        raise HistoryError(f"{where}: {name!r} must be a whole number of at least 0, not {shown(value)}")
    if value > MOST:
        raise HistoryError(f"{where}: {name!r} must be at most {MOST}, not {shown(value)}")
    return value


def text_of(where: str, line: dict[str, Any], name: str, default: str | None = None) -> str:
    """A text. Raises HistoryError."""
    value = line.get(name, default)
    if not isinstance(value, str):
        raise HistoryError(f"{where}: {name!r} must be a text, not {shown(value)}")
    return value


def shown(value: Any) -> str:
    """A value for an error's text, not longer than a line."""
    text = "missing" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
