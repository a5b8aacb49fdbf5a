"""EDN, the notation of Clojure in which Jepsen writes histories, read into JSON values and written from them.

The kept library for it (edn_format) has two dependencies, and what clients install has none beside gRPC. Of
the notation (https://github.com/edn-format/edn) all is read but namespaced maps (`#:a{…}`). Keywords, symbols
and characters become texts, lists, vectors and sets lists, tags are left off their values, and the keys of
maps become texts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from syndicate.client_api.history._error import HistoryError


class Keyword(str):
    """A text that stood as a keyword, without its colon."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Form:
    """A value and the line in which it begins."""

    line: int
    value: Any


_TOKEN = re.compile(
    r"""[\s,]*(?:
        (?P<string>"(?:[^"\\]|\\.)*")
      | (?P<open>\#?\{ | \[ | \()
      | (?P<close>[])}])
      | (?P<discard>\#_)
      | (?P<char>\\(?:newline|return|space|tab|formfeed|backspace|u[0-9A-Fa-f]{4}|.))(?=[][(){}",;\s]|$)
      | (?P<tag>\#[A-Za-z][^][(){}",;\s]*)
      | (?P<whole>[-+]?[0-9]+N?)(?=[][(){}",;\s]|$)
      | (?P<real>[-+]?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?M?)(?=[][(){}",;\s]|$)
      | (?P<word>[^][(){}",;\s#\\][^][(){}",;\s]*)
      | (?P<space>;[^\n]* | \Z))""",
    re.VERBOSE | re.DOTALL,
)
_PAIRS = {"{": "}", "#{": "}", "[": "]", "(": ")"}
_WORDS = {"nil": None, "true": True, "false": False}
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "\\": "\\"}
_CHARS = {"newline": "\n", "return": "\r", "space": " ", "tab": "\t", "formfeed": "\f", "backspace": "\b"}


@dataclass(slots=True)
class _Frame:
    """A collection that is not closed yet; of the outermost level `opener` is empty."""

    opener: str
    line: int
    items: list[Any] = field(default_factory=list)
    discards: int = 0


def read(source: str, text: str) -> list[Form]:
    """The forms of a text, one after the other; those of a list or vector where it is the first of them.

    Raises HistoryError, which names source and line.
    """
    forms = _Reader(source, text, 1).forms()
    if forms and isinstance(forms[0].value, list):
        if len(forms) > 1:
            raise HistoryError(f"{source}:{forms[1].line}: something stands behind the end of the history")
        return list(forms[0].value)
    return forms


def values(source: str, line: int, text: str) -> list[Any]:
    """The values that stand in a line. Raises HistoryError."""
    return [
        [item.value for item in form.value] if isinstance(form.value, list) else form.value
        for form in _Reader(source, text, line).forms()
    ]


class _Reader:
    """One text, token after token; no depth overflows a stack."""

    def __init__(self, source: str, text: str, line: int) -> None:
        self._source = source
        self._text = text
        self._line = line
        self._counted = 0
        self._frames = [_Frame("", line)]

    def forms(self) -> list[Form]:
        """The outermost forms. The items of a list or vector among them are forms too, with their lines."""
        frames, text, place, length = self._frames, self._text, 0, len(self._text)
        while place < length:
            match = _TOKEN.match(text, place)
            if match is None:
                raise self._error(place, f"no EDN: {text[place : place + 20].strip()!r}")
            kind = match.lastgroup or ""
            token, place = match[kind], match.end()
            if kind == "open":
                # Lines are asked for only where forms begin, and where something is wrong.
                line = self._line_of(match.start(kind)) if len(frames) < 3 else frames[-1].line
                frames.append(_Frame(token, line))
            elif kind == "close":
                frame = frames.pop()
                if _PAIRS.get(frame.opener) != token or frame.discards:
                    raise self._error(match.start(kind), f"{token!r} closes nothing")
                self._add(frame.line, self._collection(frame))
            elif kind == "discard":
                frames[-1].discards += 1
            elif kind not in ("space", "tag"):
                line = self._line_of(match.start(kind)) if len(frames) < 2 else frames[-1].line
                self._add(line, self._atom(match.start(kind), kind, token))
        last = frames[-1]
        if len(frames) > 1 or last.discards:
            raise HistoryError(f"{self._source}:{last.line}: {last.opener or '#_'!r} is not closed")
        return last.items

    def _add(self, line: int, value: Any) -> None:
        frame = self._frames[-1]
        if frame.discards:
            frame.discards -= 1
        elif len(self._frames) == 1 or (len(self._frames) == 2 and frame.opener != "{"):
            frame.items.append(Form(line, value))
        else:
            frame.items.append(value)

    def _collection(self, frame: _Frame) -> Any:
        if frame.opener != "{":
            return frame.items
        if len(frame.items) % 2:
            raise HistoryError(f"{self._source}:{frame.line}: a map with a key that has no value")
        pairs = zip(frame.items[::2], frame.items[1::2], strict=True)
        return {key if isinstance(key, str) else write(key): item for key, item in pairs}

    def _line_of(self, place: int) -> int:
        """The line of a place that is not before the last one that was asked for."""
        self._line += self._text.count("\n", self._counted, place)
        self._counted = place
        return self._line

    def _error(self, place: int, what: str) -> HistoryError:
        return HistoryError(f"{self._source}:{self._line_of(place)}: {what}")

    def _atom(self, start: int, kind: str, token: str) -> Any:
        if kind == "word":
            return Keyword(token[1:]) if token[0] == ":" else _WORDS.get(token, token)
        if kind == "string":
            if "\\" not in token:
                return token[1:-1]
            return _ESCAPE.sub(lambda escape: self._unescaped(start, escape[1]), token[1:-1])
        if kind == "char":
            name = token[1:]
            return chr(int(name[1:], 16)) if len(name) == 5 and name[0] == "u" else _CHARS.get(name, name)
        try:
            return float(token.rstrip("M")) if kind == "real" else int(token.rstrip("N"))
        except ValueError as error:  # more digits than Python reads
            raise self._error(start, str(error)) from error

    def _unescaped(self, start: int, name: str) -> str:
        if len(name) == 5:
            return chr(int(name[1:], 16))
        if name not in _ESCAPES:
            raise self._error(start, f"no escape: \\{name}")
        return _ESCAPES[name]


def write(value: Any) -> str:
    """A JSON value, or a Keyword, as EDN."""
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Keyword):
        return f":{value}"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{write(key)} {write(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(write(item) for item in value) + "]"
    if isinstance(value, (int, float)):
        return repr(value)
    raise HistoryError(f"{value!r} is no JSON value")


def _text(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    # Half of a surrogate pair has no place in UTF-8, but an escape.
    return f'"{escaped.encode("utf-8", "backslashreplace").decode()}"'
