"""Errors of settings: what is wrong, and where in a TOML file it stands, as in errors of syntax.

The standard library's reader tells lines only of what it cannot read.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

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


def wrong(mistake: Mapping[str, Any], known: Iterable[str], variables: str) -> str:
    """What is wrong, of a mistake that pydantic found; names in the environment begin with `variables`."""
    name = str(mistake["loc"][-1]) if mistake["loc"] else ""
    if mistake["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, known, 1)
        return "there is no such setting" + (f"; {near[0]} is one" if near else "")
    if mistake["type"] == "missing":
        return f"is not set: by a flag, {variables}{name.upper()} or a configuration file"
    return str(mistake["msg"]).removeprefix("Value error, ")


def _parts(name: str) -> list[str]:
    return [part.strip().strip("\"'") for part in name.split(".")]
