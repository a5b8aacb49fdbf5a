"""Where in a TOML file a setting stands: errors of values name the line as those of syntax do.

The standard library's reader tells lines only of what it cannot read.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

_HEADER = re.compile(r"^\s*\[\s*([^\[\]]+?)\s*\]\s*(#.*)?$")
_KEY = re.compile(r"^\s*([A-Za-z0-9_.\"' -]+?)\s*=")


def line_of(text: str, path: Sequence[object]) -> int | None:
    """The line, from 1 on, of the key at this path; None where no part of it stands in the text.

    Of a path into a list or an inline table it is the line of the key that holds it.
    """
    wanted = [str(part) for part in path]
    table: list[str] = []
    best: tuple[int, int] | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = here = _parts(header[1])
        elif key := _KEY.match(line):
            here = [*table, *_parts(key[1])]
        else:
            continue
        if here == wanted[: len(here)] and (best is None or len(here) > best[0]):
            best = (len(here), number)
    return None if best is None else best[1]


def place(file: Path, path: Sequence[object]) -> str:
    """`FILE:LINE: ` where the key stands in the file, else nothing."""
    try:
        text = file.read_text()
        tomllib.loads(text)
    except (OSError, ValueError):
        return ""
    number = line_of(text, path) if path else None
    return "" if number is None else f"{file}:{number}: "


def _parts(name: str) -> list[str]:
    return [part.strip().strip("\"'") for part in name.split(".")]
