"""Makes a job's bytes harmless to a terminal, and keeps them readable.

A job's output, its client's text and its names are anybody's. Control characters could move the cursor, set
the title, write to the clipboard or hide lines; bidirectional overrides could make a line read as another;
letters without a width could make two texts look the same; marks in heaps could cover other lines. They are
shown as escapes: ``\\x1b``, ``\\u202e``; bytes that are not UTF-8 as ``\\xNN``. Tabs stay.
"""

from __future__ import annotations

import re
import unicodedata

_UNSAFE = re.compile(
    "["
    "\x00-\x08\x0a-\x1f\x7f-\x9f"  # C0 without the tab, DEL, C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks, embeddings, overrides and isolates of direction
    "\u2028\u2029"  # separators that some terminals and pagers break lines at
    "\ufeff\ufff9-\ufffb"  # byte order mark, interlinear annotation
    "\U000e0000-\U000e007f"  # tags: letters that nobody sees
    "\xad\u034f\u180e\u200b\u2060-\u2064\u206a-\u206f"  # no width, or none unless a line breaks there
    "\u115f\u1160\u3164\uffa0"  # fillers: letters that are blank
    "\ud800-\udfff"  # lone surrogates, which cannot be written at all
    "]"
)
_MOST_MARKS = 8
"""On one letter: more than any script stacks."""


def neutralise(data: bytes) -> str:
    """One line of output, for display. A carriage return before the line's end is the line's end."""
    return neutralise_text(data.removesuffix(b"\r").decode("utf-8", "surrogateescape"))


def neutralise_text(text: str) -> str:
    """One line of text, for display; a newline in it is shown as an escape."""
    shown = _UNSAFE.sub(_escape, text)
    return shown if shown.isascii() else _without_heaps(shown)


def neutralise_lines(text: str) -> list[str]:
    """A text of several lines, for display, line by line."""
    return [neutralise_text(line.removesuffix("\r")) for line in text.split("\n")] if text else []


def _without_heaps(text: str) -> str:
    """The text with the marks beyond those that one letter may carry as escapes."""
    shown, marks = [], 0
    for letter in text:
        marks = marks + 1 if unicodedata.category(letter).startswith("M") else 0
        shown.append(letter if marks <= _MOST_MARKS else _escaped(ord(letter)))
    return "".join(shown)


def _escape(match: re.Match[str]) -> str:
    return _escaped(ord(match.group()))


def _escaped(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
