"""Fits text into a terminal's columns. Any other output has UNLIMITED ones: nothing is cut or broken."""

from __future__ import annotations

import re
import textwrap

UNLIMITED = 1 << 20
_LEAST = 30
"""A text gets so many columns, however narrow the terminal: it breaks such lines itself."""
_GLUE = "\0"
"""Stands for a blank that is not broken at; no text that is shown holds it."""
_TOGETHER = re.compile(r"(?:± )?[\d.,]+ (?:ms|s|min|h|d|[KMG]?B)\b|`[^`]{1,40}`")


def hung(prefix: str, text: str, room: int) -> list[str]:
    """A text behind a prefix, broken between words, each later line below the text's beginning.

    A number stays with its unit, and a command in backquotes whole.
    """
    if len(prefix) + len(text) <= room:
        return [(prefix + text).rstrip()]
    text = _TOGETHER.sub(lambda match: match.group().replace(" ", _GLUE), text)
    parts = textwrap.wrap(
        text, max(_LEAST, room - len(prefix)), break_long_words=False, break_on_hyphens=False
    ) or [""]
    parts = [part.replace(_GLUE, " ") for part in parts]
    return [(prefix + parts[0]).rstrip(), *(" " * len(prefix) + part for part in parts[1:])]


def laid_out(prefix: str, text: str, room: int) -> list[str]:
    """A line of advice: its parts (``Next:  …     End it:  …``) get lines of their own if need be."""
    if len(prefix) + len(text) <= room:
        return [prefix + text]
    parts = re.split(" {4,}", text.strip())
    return [line for part in parts for line in hung(prefix, part, room)]


def elided(text: str, room: int, more: str = "…") -> str:
    """A text of at most ``room`` columns; ``more`` stands for what it lost."""
    return text if len(text) <= room else text[: max(0, room - len(more))] + more
