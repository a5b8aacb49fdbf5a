"""Frames of the local protocol as bytes, and back: strict on both sides.

A frame is a 4-byte big-endian length of all that follows, a 4-byte length of the JSON head, the head, and
raw bytes. The head of a request is `{"frame": "request", "number": 7, "kind": "Start", "value": {…}}`; an
answer's `frame` is "reply", an event's "event" (without a number). In the head a field of bytes is its
length; the bytes themselves stand in the raw part, in the order of the fields.

What does not fit is refused with FrameError before anything acts on it: lengths, types, missing and unknown
fields, names outside `[a-z0-9-]`, addresses that are not IPv4, numbers out of range.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import StrEnum
from socket import AF_INET, inet_ntop, inet_pton
from types import NoneType, UnionType
from typing import Any, Final, cast, get_args, get_origin, get_type_hints

from . import local

_LENGTH: Final = struct.Struct(">I")
PREFIX_BYTES: Final = _LENGTH.size
_MAX_ITEMS: Final = 65_536
_MAX_INTEGER: Final = (1 << 63) - 1


class FrameError(ValueError):
    """Bytes or values that are no frame of this protocol: one line that names the field.

    Attributes:
        number: of the request, where so much could be read.
    """

    def __init__(self, detail: str, number: int | None = None) -> None:
        super().__init__(detail)
        self.number = number


# ---- what a field may hold ------------------------------------------------------------------------------


def _matching(pattern: str) -> Callable[[Any], bool]:
    compiled = re.compile(pattern)
    return lambda text: compiled.fullmatch(text) is not None


def _between(low: int, high: int) -> Callable[[Any], bool]:
    return lambda number: low <= number <= high


def _is_address(text: str) -> bool:
    try:  # a tenth of the time that ipaddress takes; a network may have thousands
        return inet_ntop(AF_INET, inet_pton(AF_INET, text)) == text
    except (OSError, ValueError):  # ValueError: a zero byte in it, or what no encoding has
        return False


def _is_line(text: str) -> bool:
    return len(text) <= 4096 and text.isprintable()


def _is_name(text: str) -> bool:
    return 0 < len(text) <= 255 and text.isprintable()


def _is_server(text: str) -> bool:
    host, _, port = text.partition(":")
    return text == "" or (_is_address(host) and port.isascii() and port.isdecimal() and len(port) <= 5)


def _is_barrier(text: str) -> bool:
    return len(text) <= local.LONGEST_BARRIER and text.isprintable()


def _is_address_or_all(text: str) -> bool:
    return text == "" or _is_address(text)


_ID: Final = _matching(r"[a-z0-9-]{1,63}")
_NATURAL: Final = _between(0, _MAX_INTEGER)
_POSITIVE: Final = _between(1, _MAX_INTEGER)
# What is no number, or is infinite, lies between no two.
_PERCENT: Final = _between(0, 100)
_MILLISECONDS: Final = _between(0, 600_000)
_FINITE: Final = _between(-_MAX_INTEGER, _MAX_INTEGER)
_ERROR: Final = _between(0, 255)
_TASK: Final = _matching(r"master|(slave|client)-(0|[1-9][0-9]{0,5})")

# Fields that are narrower than their type; for tuples and dicts the rule is about each item or key.
_RULES: Final[dict[str, Callable[[Any], bool]]] = {
    "TaskId.task": _TASK,
    "TaskId.job_id": _POSITIVE,
    "Member.task": _TASK,
    "Member.address": _is_address,
    "Prepare.address": _is_address,
    "Prepare.prefix_length": _between(1, 32),
    "Prepare.source": _matching(r"[0-9a-f]{64}"),
    "Prepare.job_name": lambda text: len(text) <= 255 and text.isprintable(),
    "Prepare.sync_server": _is_server,
    "BarrierTask.task": lambda text: _TASK(text) or _is_address(text),
    "BarrierRound.barrier": _is_barrier,
    "BarrierRound.error": _ERROR,
    "OpenBarrier.barrier": _is_barrier,
    "OpenBarrier.remaining": _between(-_MAX_INTEGER, _MAX_INTEGER),
    "OpenBarrier.missing": _TASK,
    "BarriersTold.trouble": _is_line,
    "Start.generation": _POSITIVE,
    "Kill.generation": _POSITIVE,
    "Revive.generation": _POSITIVE,
    "ReadLog.generation": _POSITIVE,
    "ReadLog.limit": _between(1, local.MAX_LOG_READ_BYTES),
    "ReadDisk.limit": _between(1, local.MAX_LOG_READ_BYTES),
    "NetworkState.cut": _is_address,
    "NetworkState.cut_out": _is_address,
    "NetworkState.cut_in": _is_address,
    "NetworkState.reset": _is_address,
    "LinkState.peer": _is_address_or_all,
    "Degradation.loss_percent": _PERCENT,
    "Degradation.delay_ms": _MILLISECONDS,
    "Degradation.jitter_ms": _MILLISECONDS,
    "Degradation.duplicate_percent": _PERCENT,
    "Degradation.corrupt_percent": _PERCENT,
    "Degradation.reorder_percent": _PERCENT,
    "DropBarriers.barrier": _is_barrier,
    "DropBarriers.id": _is_name,
    "Signal.generation": _POSITIVE,
    "Signal.number": _between(1, 64),
    "Signal.id": _is_name,
    "SlotInfo.address": _is_address_or_all,
    "Synced.fixed_address": _is_address_or_all,
    "Synced.network": _matching("fabric|host"),
    "Synced.capabilities": _matching(r"[a-z0-9_.-]{1,63}"),
    "Synced.unsafe": _matching(r"[a-z0-9_.-]{1,63}"),
    "Synced.epochs": _ID,
    "Incapability.capability": _matching(r"[a-z0-9_.-]{1,63}"),
    "Incapability.why": lambda text: len(text) <= local.MAX_WHY and text.isprintable(),
    "Synced.boot_id": _matching(r"[0-9a-f-]{1,36}"),
    "Stamp.boot_id": _matching(r"[0-9a-f-]{1,36}"),
    "Exit.status": _between(0, 255),
    "Exit.cause": _matching("|kill|release|lease|memory|host-memory"),
    "Refused.detail": _is_line,
    "DiskRead.missing": _is_line,
    "Audited.in_use": _is_line,
    "Audited.left": _is_line,
}


def _rule(owner: type, name: str) -> Callable[[Any], bool] | None:
    return _RULES.get(f"{owner.__name__}.{name}")


# ---- codecs: one pair of functions for each type --------------------------------------------------------


class _Raw:
    """The raw part of a frame while it is written or read."""

    def __init__(self, data: memoryview | None = None) -> None:
        self.parts: list[bytes] = []
        self._data = data if data is not None else memoryview(b"")
        self._at = 0

    def take(self, count: int, where: str) -> bytes:
        if count > len(self._data) - self._at:
            raise FrameError(f"{where}: the frame holds fewer bytes than it says")
        self._at += count
        return bytes(self._data[self._at - count : self._at])

    @property
    def left(self) -> int:
        return len(self._data) - self._at


@dataclass(frozen=True, slots=True)
class _Codec:
    """How one type goes into the head of a frame and comes out of it."""

    encode: Callable[[Any, _Raw], Any]
    decode: Callable[[Any, _Raw], Any]


_Rule = Callable[[Any], bool] | None


def _scalar(expected: type, rule: _Rule, where: str) -> _Codec:
    def check(value: Any, _raw: _Raw) -> Any:
        # bool is an int to isinstance, and must not pass for one.
        if type(value) is not expected:
            raise FrameError(f"{where}: {expected.__name__} expected, got {type(value).__name__}")
        if rule is not None and not rule(value):
            raise FrameError(f"{where}: not allowed: {str(value)[:80]!r}")
        return value

    return _Codec(check, check)


def _enumeration(expected: type[StrEnum], where: str) -> _Codec:
    def encode(value: Any, _raw: _Raw) -> str:
        if type(value) is not expected:
            raise FrameError(f"{where}: {expected.__name__} expected, got {type(value).__name__}")
        return value.value

    def decode(value: Any, _raw: _Raw) -> StrEnum:
        if type(value) is not str:
            raise FrameError(f"{where}: str expected, got {type(value).__name__}")
        try:
            return expected(value)
        except ValueError:
            raise FrameError(f"{where}: unknown value {value[:80]!r}") from None

    return _Codec(encode, decode)


def _raw_bytes(where: str) -> _Codec:
    def encode(value: Any, raw: _Raw) -> int:
        if type(value) is not bytes:
            raise FrameError(f"{where}: bytes expected, got {type(value).__name__}")
        raw.parts.append(value)
        return len(value)

    def decode(value: Any, raw: _Raw) -> bytes:
        if type(value) is not int or value < 0:
            raise FrameError(f"{where}: a length expected")
        return raw.take(value, where)

    return _Codec(encode, decode)


def _sequence(item: _Codec, where: str) -> _Codec:
    def run(value: Any, step: Callable[[Any, _Raw], Any], raw: _Raw, expected: Any) -> list[Any]:
        if type(value) is not expected:
            raise FrameError(f"{where}: {expected.__name__} expected, got {type(value).__name__}")
        if len(value) > _MAX_ITEMS:
            raise FrameError(f"{where}: more than {_MAX_ITEMS} items")
        return [step(each, raw) for each in value]

    return _Codec(
        lambda value, raw: run(value, item.encode, raw, tuple),
        lambda value, raw: tuple(run(value, item.decode, raw, list)),
    )


def _mapping(key: _Codec, item: _Codec, where: str) -> _Codec:
    def run(value: Any, step: Callable[[Any, _Raw], Any], raw: _Raw) -> dict[Any, Any]:
        if type(value) is not dict:
            raise FrameError(f"{where}: dict expected, got {type(value).__name__}")
        if len(value) > _MAX_ITEMS:
            raise FrameError(f"{where}: more than {_MAX_ITEMS} items")
        return {key.decode(name, raw): step(each, raw) for name, each in value.items()}

    return _Codec(
        lambda value, raw: run(value, item.encode, raw),
        lambda value, raw: run(value, item.decode, raw),
    )


def _optional(inner: _Codec) -> _Codec:
    return _Codec(
        lambda value, raw: None if value is None else inner.encode(value, raw),
        lambda value, raw: None if value is None else inner.decode(value, raw),
    )


def _record(owner: type) -> _Codec:
    hints = get_type_hints(owner)
    names = tuple(field.name for field in fields(owner))
    codecs = [_codec_of(hints[name], _rule(owner, name), f"{owner.__name__}.{name}") for name in names]
    encoders = tuple((name, codec.encode) for name, codec in zip(names, codecs, strict=True))
    decoders = tuple((name, codec.decode) for name, codec in zip(names, codecs, strict=True))
    expected = frozenset(names)

    def encode(value: Any, raw: _Raw) -> dict[str, Any]:
        if type(value) is not owner:
            raise FrameError(f"{owner.__name__} expected, got {type(value).__name__}")
        return {name: encode_field(getattr(value, name), raw) for name, encode_field in encoders}

    def decode(value: Any, raw: _Raw) -> Any:
        if type(value) is not dict:
            raise FrameError(f"{owner.__name__}: an object expected, got {type(value).__name__}")
        if value.keys() != expected:
            odd = sorted(value.keys() ^ expected)
            raise FrameError(f"{owner.__name__}: missing or unknown fields: {', '.join(odd)[:200]}")
        return owner(*[decode_field(value[name], raw) for name, decode_field in decoders])

    return _Codec(encode, decode)


def _codec_of(hint: Any, rule: _Rule, where: str) -> _Codec:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is bytes:
        return _raw_bytes(where)
    if hint is int:
        return _scalar(int, rule or _NATURAL, where)
    if hint is str:
        return _scalar(str, rule or _ID, where)
    if hint is bool:
        return _scalar(bool, None, where)
    if hint is float:
        return _scalar(float, rule or _FINITE, where)
    if origin is tuple:
        return _sequence(_codec_of(arguments[0], rule, where), where)
    if origin is dict:
        return _mapping(_codec_of(arguments[0], rule, where), _codec_of(arguments[1], None, where), where)
    if origin is UnionType:
        (inner,) = (each for each in arguments if each is not NoneType)
        return _optional(_codec_of(inner, rule, where))
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return _enumeration(hint, where)
    return _record(hint)


def _kinds(union: Any) -> dict[str, _Codec]:
    return {kind.__name__: _record(kind) for kind in get_args(union)}


_CODECS: Final = {
    "request": _kinds(local.Request),
    "reply": _kinds(local.Reply),
    "event": _kinds(local.Event),
}


# ---- frames ---------------------------------------------------------------------------------------------


_EVENT_FIELDS: Final = frozenset({"frame", "kind", "value"})
_NUMBERED_FIELDS: Final = _EVENT_FIELDS | {"number"}


def encode(frame: local.Frame) -> bytes:
    """All bytes of a frame, its length included; raises FrameError for what the protocol cannot carry."""
    head: dict[str, Any]
    value: object
    match frame:
        case local.RequestFrame(number, request):
            head, value = {"frame": "request", "number": number}, request
        case local.ReplyFrame(number, reply):
            head, value = {"frame": "reply", "number": number}, reply
        case local.EventFrame(event):
            head, value = {"frame": "event"}, event
    kind = type(value).__name__
    codec = _CODECS[head["frame"]].get(kind)
    if codec is None:
        raise FrameError(f"a {head['frame']} cannot be a {kind}")
    raw = _Raw()
    text = _to_json(head | {"kind": kind, "value": codec.encode(value, raw)}).encode()
    body = b"".join((_LENGTH.pack(len(text)), text, *raw.parts))
    if len(body) > local.MAX_FRAME_BYTES:
        raise FrameError(f"a frame of {len(body)} bytes: at most {local.MAX_FRAME_BYTES}")
    return _LENGTH.pack(len(body)) + body


def body_length(prefix: bytes, longest: int = local.MAX_FRAME_BYTES) -> int:
    """How many bytes follow the first PREFIX_BYTES of a frame; raises FrameError if out of bounds."""
    length = cast(int, _LENGTH.unpack(prefix)[0])
    if not PREFIX_BYTES < length <= longest:
        raise FrameError(f"a frame of {length} bytes: more than {PREFIX_BYTES}, at most {longest}")
    return length


def decode(body: bytes) -> local.Frame:
    """The frame whose bytes after the length are `body`; raises FrameError for anything else."""
    if len(body) < PREFIX_BYTES:
        raise FrameError("the frame ends before its head")
    end = PREFIX_BYTES + _LENGTH.unpack_from(body)[0]
    if end > len(body):
        raise FrameError("the frame ends within its head")
    head = _head(body[PREFIX_BYTES:end])
    number = head.get("number")
    known = number if type(number) is int and _NATURAL(number) else None
    try:
        return _frame(head, known, _Raw(memoryview(body)[end:]))
    except FrameError as error:
        raise FrameError(str(error), known) from None


def _frame(head: dict[str, Any], number: int | None, raw: _Raw) -> local.Frame:
    sort, kind = head.get("frame"), head.get("kind")
    codecs = _CODECS.get(sort) if isinstance(sort, str) else None
    if codecs is None:
        raise FrameError("frame: neither request, reply nor event")
    expected = _EVENT_FIELDS if sort == "event" else _NUMBERED_FIELDS
    if head.keys() != expected:
        raise FrameError(f"missing or unknown fields: {', '.join(sorted(head.keys() ^ expected))[:200]}")
    codec = codecs.get(kind) if isinstance(kind, str) else None
    if codec is None:
        raise FrameError(f"kind: unknown {sort} {str(kind)[:80]!r}")
    value = codec.decode(head["value"], raw)
    if raw.left:
        raise FrameError(f"{raw.left} bytes after the end of the frame")
    if sort == "event":
        return local.EventFrame(value)
    if number is None:
        raise FrameError("number: a natural number expected")
    return local.RequestFrame(number, value) if sort == "request" else local.ReplyFrame(number, value)


def _head(text: bytes) -> dict[str, Any]:
    try:
        head = _from_json(text.decode("utf-8"))
    except FrameError:
        raise
    # A deep nest of brackets exhausts the parser's recursion; UnicodeDecodeError is a ValueError.
    except (ValueError, RecursionError) as error:
        raise FrameError(f"the head is not JSON: {str(error)[:120]}") from None
    if type(head) is not dict:
        raise FrameError("the head is not an object")
    return head


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise FrameError("a field is given twice")
    return found


def _no_constant(name: str) -> Any:
    raise FrameError(f"{name} is not a number of this protocol")


# Made once: `json.loads` and `json.dumps` with arguments make theirs anew each time.
_from_json: Final = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_constant).decode
_to_json: Final = json.JSONEncoder(separators=(",", ":")).encode


__all__ = ["PREFIX_BYTES", "FrameError", "body_length", "decode", "encode"]
