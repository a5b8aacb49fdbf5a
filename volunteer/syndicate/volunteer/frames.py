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
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import cache
from io import BytesIO
from itertools import repeat
from json.encoder import encode_basestring_ascii
from operator import attrgetter
from types import NoneType, UnionType
from typing import Any, Final, cast, get_args, get_origin, get_type_hints

from . import local
from .frame_rules import FINITE, ID, MAX_INTEGER, NATURAL, RULES, SIZE, Rule

_LENGTH: Final = struct.Struct(">I")
_LENGTHS: Final = struct.Struct(">II")
PREFIX_BYTES: Final = _LENGTH.size
_MAX_ITEMS: Final = 65_536


class FrameError(ValueError):
    """Bytes or values that are no frame of this protocol: one line that names the field.

    Attributes:
        number: of the request, where so much could be read.
    """

    def __init__(self, detail: str, number: int | None = None) -> None:
        super().__init__(detail)
        self.number = number


# ---- codecs ---------------------------------------------------------------------------------------------

# Most frames come to a process that has just slept, and find none of their code in a cache. So there are
# tables of steps, gone through by two loops, and not a function for each field. The parser gives an object as
# a tuple of pairs: so its names are compared with those of a class at once, and doubled ones are seen.

_Pairs = tuple[tuple[str, Any], ...]
_ToJson = Callable[[Any, list[bytes]], str]  # puts raw bytes into the list
_FromJson = Callable[[Any, BytesIO], Any]  # takes raw bytes from the file

# What is done with a value: the type that it has to have, whether it may be None instead, its rule, then what
# makes JSON of it, and whether that wants the list; or what makes a value of JSON that is none yet. Last is
# the name of the field, for errors.
_Writing = tuple[type, bool, Rule | None, Callable[..., str], bool, str]
_Reading = tuple[type, bool, Rule | None, _FromJson | None, str]
_Codec = tuple[_Writing, _Reading]


def _written(values: Iterable[Any], steps: Iterable[_Writing], raw: list[bytes]) -> list[str]:
    """Each value as JSON, by the step at its place; the steps may go on without end."""
    texts = []
    for value, (kind, optional, rule, to_json, nested, where) in zip(values, steps):  # noqa: B905
        # bool is an int to isinstance, and must not pass for one.
        if type(value) is not kind:
            if value is None and optional:
                texts.append("null")
                continue
            raise _unexpected(where, kind, value)
        if rule is not None and not rule(value):
            raise _not_allowed(where, value)
        texts.append(to_json(value, raw) if nested else to_json(value))
    return texts


def _read(values: Iterable[Any], steps: Iterable[_Reading], raw: BytesIO) -> list[Any]:
    """What each value of JSON stands for, by the step at its place; the steps may go on without end."""
    found: list[Any] = []
    for value, (kind, optional, rule, from_json, where) in zip(values, steps):  # noqa: B905
        if type(value) is not kind:
            if value is None and optional:
                found.append(None)
                continue
            raise _other_json(where, kind, value)
        if rule is not None and not rule(value):
            raise _not_allowed(where, value)
        found.append(value if from_json is None else from_json(value, raw))
    return found


def _unexpected(where: str, kind: type, value: Any) -> FrameError:
    return FrameError(f"{where}: {kind.__name__} expected, got {type(value).__name__}")


def _other_json(where: str, kind: type, value: Any) -> FrameError:
    expected, got = ("object" if each is tuple else each.__name__ for each in (kind, type(value)))
    return FrameError(f"{where}: {expected} expected, got {got}")


def _not_allowed(where: str, value: Any) -> FrameError:
    return FrameError(f"{where}: not allowed: {str(value)[:80]!r}")


def _too_many(where: str) -> FrameError:
    return FrameError(f"{where}: more than {_MAX_ITEMS} items")


_USUAL: Final[dict[type, Rule | None]] = {int: NATURAL, str: ID, float: FINITE, bool: None}
_TEXTS: Final[dict[type, Callable[[Any], str]]] = {
    int: str,
    float: repr,
    str: encode_basestring_ascii,
    bool: {False: "false", True: "true"}.__getitem__,
}


def _scalar(kind: type, rule: Rule | None, where: str) -> _Codec:
    return ((kind, False, rule, _TEXTS[kind], False, where), (kind, False, rule, None, where))


def _enumeration(kind: type[StrEnum], where: str) -> _Codec:
    members = {each.value: each for each in kind}

    def from_json(value: str, _raw: BytesIO) -> StrEnum:
        found = members.get(value)
        if found is None:
            raise FrameError(f"{where}: unknown value {value[:80]!r}")
        return found

    return ((kind, False, None, encode_basestring_ascii, False, where), (str, False, None, from_json, where))


def _raw_bytes(where: str) -> _Codec:
    def to_json(value: bytes, raw: list[bytes]) -> str:
        raw.append(value)
        return str(len(value))

    def from_json(value: int, raw: BytesIO) -> bytes:
        found = raw.read(value)
        if len(found) != value:
            raise FrameError(f"{where}: the frame holds fewer bytes than it says")
        return found

    return ((bytes, False, None, to_json, True, where), (int, False, SIZE, from_json, where))


def _sequence(item: _Codec, where: str) -> _Codec:
    writing, reading = repeat(item[0]), repeat(item[1])

    def to_json(value: tuple[Any, ...], raw: list[bytes]) -> str:
        if not value:
            return "[]"
        if len(value) > _MAX_ITEMS:
            raise _too_many(where)
        return f"[{','.join(_written(value, writing, raw))}]"

    def from_json(value: list[Any], raw: BytesIO) -> tuple[Any, ...]:
        if not value:
            return ()
        if len(value) > _MAX_ITEMS:
            raise _too_many(where)
        return tuple(_read(value, reading, raw))

    return ((tuple, False, None, to_json, True, where), (list, False, None, from_json, where))


def _mapping(key: _Codec, item: _Codec, where: str) -> _Codec:
    (write_key, read_key), (write_item, read_item) = key, item

    def to_json(value: dict[str, Any], raw: list[bytes]) -> str:
        if len(value) > _MAX_ITEMS:
            raise _too_many(where)
        names = _written(value, repeat(write_key), raw)
        values = _written(value.values(), repeat(write_item), raw)
        return f"{{{','.join(map(':'.join, zip(names, values, strict=True)))}}}"

    def from_json(value: _Pairs, raw: BytesIO) -> dict[str, Any]:
        if len(value) > _MAX_ITEMS:
            raise _too_many(where)
        found = _object(value)
        names = _read(found, repeat(read_key), raw)
        return dict(zip(names, _read(found.values(), repeat(read_item), raw), strict=True))

    return ((dict, False, None, to_json, True, where), (tuple, False, None, from_json, where))


def _optional(inner: _Codec) -> _Codec:
    (kind, _, *writing), (json_kind, _, *reading) = inner
    return cast(_Writing, (kind, True, *writing)), cast(_Reading, (json_kind, True, *reading))


@cache
def _record(owner: type) -> tuple[_ToJson, _FromJson]:
    hints, expected = get_type_hints(owner), tuple(field.name for field in fields(owner))
    wheres = {name: f"{owner.__name__}.{name}" for name in expected}
    codecs = [_codec_of(hints[name], RULES.get(where), where) for name, where in wheres.items()]
    writing, reading = [write for write, _ in codecs], [read for _, read in codecs]
    # A getter of one name would give no tuple; all records but those without fields have several.
    values_of = attrgetter(*expected) if expected else lambda value: ()
    template = "{" + ",".join(f'"{name}":%s' for name in expected) + "}"

    def to_json(value: Any, raw: list[bytes]) -> str:
        return template % tuple(_written(values_of(value), writing, raw))

    def from_json(pairs: _Pairs, raw: BytesIO) -> Any:
        names, values = zip(*pairs) if pairs else ((), ())  # noqa: B905 - pairs are of two
        if names != expected:
            values = _sorted_out(pairs, expected, owner.__name__)
        return owner(*_read(values, reading, raw))

    return to_json, from_json


def _object(pairs: _Pairs) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise FrameError("a field is given twice")
    return found


def _sorted_out(pairs: _Pairs, expected: tuple[str, ...], owner: str) -> tuple[Any, ...]:
    """The values in the order of `expected`; in an object they may stand in any."""
    found = _object(pairs)
    odd = found.keys() ^ set(expected)
    if odd:
        raise FrameError(f"{owner}: missing or unknown fields: {', '.join(sorted(odd))[:200]}")
    return tuple(found[name] for name in expected)


def _codec_of(hint: Any, rule: Rule | None, where: str) -> _Codec:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is bytes:
        return _raw_bytes(where)
    if hint in _TEXTS:
        return _scalar(hint, rule or _USUAL[hint], where)
    if origin is tuple:
        return _sequence(_codec_of(arguments[0], rule, where), where)
    if origin is dict:
        return _mapping(_codec_of(arguments[0], rule, where), _codec_of(arguments[1], None, where), where)
    if origin is UnionType:
        (inner,) = (each for each in arguments if each is not NoneType)
        return _optional(_codec_of(inner, rule, where))
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return _enumeration(hint, where)
    to_json, from_json = _record(hint)
    return ((hint, False, None, to_json, True, where), (tuple, False, None, from_json, where))


# ---- frames ---------------------------------------------------------------------------------------------


_EVENT_FIELDS: Final = frozenset({"frame", "kind", "value"})
_NUMBERED_FIELDS: Final = _EVENT_FIELDS | {"number"}


@dataclass(frozen=True, slots=True)
class _Kind:
    """How frames of one kind are made and read: `head` has room for the number and for the value's JSON."""

    sort: str
    fields: int
    head: str
    to_json: _ToJson
    from_json: _FromJson


def _kind(sort: str, owner: type) -> _Kind:
    fields, number = (_EVENT_FIELDS, "") if sort == "event" else (_NUMBERED_FIELDS, '"number":%s,')
    head = f'{{"frame":"{sort}",{number}"kind":"{owner.__name__}","value":%s}}'
    return _Kind(sort, len(fields), head, *_record(owner))


_SORTS: Final = {"request": local.Request, "reply": local.Reply, "event": local.Event}
_KINDS: Final = {kind: _kind(sort, kind) for sort, union in _SORTS.items() for kind in get_args(union)}
_KINDS_BY_NAME: Final = {kind.__name__: found for kind, found in _KINDS.items()}


def encode(frame: local.Frame) -> bytes:
    """All bytes of a frame, its length included; raises FrameError for what the protocol cannot carry."""
    value: object
    number: int | None
    if isinstance(frame, local.RequestFrame):
        sort, value, number = "request", frame.request, frame.number
    elif isinstance(frame, local.ReplyFrame):
        sort, value, number = "reply", frame.reply, frame.number
    else:
        sort, value, number = "event", frame.event, None
    kind = _KINDS.get(type(value))
    if kind is None or kind.sort != sort:
        raise FrameError(f"a {sort} cannot be a {type(value).__name__}")
    raw: list[bytes] = []
    text = kind.to_json(value, raw)
    head = (kind.head % (text if number is None else (number, text))).encode()
    length = PREFIX_BYTES + len(head)
    if raw:
        length += sum(map(len, raw))
    if length > local.MAX_FRAME_BYTES:
        raise FrameError(f"a frame of {length} bytes: at most {local.MAX_FRAME_BYTES}")
    return b"".join((_LENGTHS.pack(length, len(head)), head, *raw))


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
    pairs = _parsed(body[PREFIX_BYTES:end])
    head = dict(pairs)
    number = head.get("number")
    known = number if type(number) is int and 0 <= number <= MAX_INTEGER else None
    try:
        name, given = head.get("kind"), head.get("value")
        kind = _KINDS_BY_NAME.get(name) if type(name) is str else None
        if (
            kind is None
            or kind.sort != head.get("frame")
            or type(given) is not tuple
            or len(pairs) != kind.fields  # those looked at and the number below, so none twice and no other
        ):
            raise _odd_head(head, pairs)
        raw = _NO_BYTES
        if end < len(body):
            raw = BytesIO(body)  # which copies nothing
            raw.seek(end)
        value = kind.from_json(given, raw)
        left = raw.read()
        if left:
            raise FrameError(f"{len(left)} bytes after the end of the frame")
        if kind.sort == "event":
            return local.EventFrame(value)
        if known is None:
            raise _odd_head(head, pairs)
        return local.RequestFrame(known, value) if kind.sort == "request" else local.ReplyFrame(known, value)
    except FrameError as error:
        raise FrameError(str(error), known) from None


def _odd_head(head: dict[str, Any], pairs: _Pairs) -> FrameError:
    """What is wrong with the head of a frame, but for its value and number."""
    sort = head.get("frame")
    if type(sort) is not str or sort not in _SORTS:
        return FrameError("frame: neither request, reply nor event")
    odd = head.keys() ^ (_EVENT_FIELDS if sort == "event" else _NUMBERED_FIELDS)
    if odd:
        return FrameError(f"missing or unknown fields: {', '.join(sorted(odd))[:200]}")
    if len(head) != len(pairs):
        return FrameError("a field is given twice")
    kind = head["kind"]
    if type(kind) is not str:  # never shown: what the parser took may still be too deep to be written
        return _other_json("kind", str, kind)
    if kind not in _KINDS_BY_NAME or _KINDS_BY_NAME[kind].sort != sort:
        return FrameError(f"kind: unknown {sort} {kind[:80]!r}")
    if type(head["value"]) is not tuple:
        return _other_json("value", tuple, head["value"])
    return FrameError("number: a natural number expected")


def _parsed(data: bytes) -> _Pairs:
    try:
        text = str(data, "utf-8")
        pairs, end = _from_json(text)
    except FrameError:
        raise
    # A deep nest of brackets exhausts the parser's recursion; UnicodeDecodeError is a ValueError.
    except (ValueError, RecursionError) as error:
        raise FrameError(f"the head is not JSON: {str(error)[:120]}") from None
    if end != len(text):
        raise FrameError("the head is not JSON: it goes on after its end")
    if type(pairs) is not tuple:
        raise FrameError("the head is not an object")
    return cast(_Pairs, pairs)


def _no_constant(name: str) -> Any:
    raise FrameError(f"{name} is not a number of this protocol")


# Made once: `json.loads` with arguments makes its own anew each time.
_from_json: Final = json.JSONDecoder(object_pairs_hook=tuple, parse_constant=_no_constant).raw_decode

_NO_BYTES: Final = BytesIO()  # the raw part of most frames


__all__ = ["PREFIX_BYTES", "FrameError", "body_length", "decode", "encode"]
