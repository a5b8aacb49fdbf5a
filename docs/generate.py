"""Draws the state tables of the pages from the transition tables in the code.

`python docs/generate.py` writes them; with `--check` it only compares, and exits 1 where a page is behind.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from enum import Enum
from pathlib import Path

from syndicate.manager.core.transitions import JOB_TRANSITIONS, TASK_TRANSITIONS
from syndicate.volunteer.core.transitions import SLOT_TRANSITIONS
from syndicate.volunteer.sync.core.transitions import BARRIER_TRANSITIONS, SESSION_TRANSITIONS

PAGE = Path(__file__).with_name("architecture.md")
BARRIERS = Path(__file__).with_name("barriers.md")


def word(value: Enum) -> str:
    """A state, as the diagram names it."""
    return value.name


def said(cause: Enum) -> str:
    """A cause in words, as its table says them."""
    return str(cause.value).lower()


def diagram(rows: Iterable[tuple[Enum, Enum, Enum]]) -> str:
    """A Mermaid state diagram of (state, cause, next state) rows; causes of one arrow share a line."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for state, cause, following in rows:
        arrows.setdefault((word(state), word(following)), []).append(said(cause))
    lines = ["```mermaid", "stateDiagram-v2"]
    lines += [f"    {a} --> {b}: {', '.join(dict.fromkeys(causes))}" for (a, b), causes in arrows.items()]
    return "\n".join([*lines, "```"])


Table = list[tuple[Enum, Enum, Enum]]

TABLES: dict[Path, dict[str, Table]] = {
    PAGE: {
        "job": [(*key, following) for key, following in JOB_TRANSITIONS.items()],
        "task": [(*key, following) for key, following in TASK_TRANSITIONS.items()],
        "slot": [
            (state, cause, following)
            for state, lines in SLOT_TRANSITIONS.items()
            for cause, following in lines.items()
        ],
    },
    BARRIERS: {
        "barrier": [(*key, following) for key, following in BARRIER_TRANSITIONS.items()],
        "session": [(*key, following) for key, following in SESSION_TRANSITIONS.items()],
    },
}


def drawn(path: Path, page: str) -> str:
    """The page with every marked diagram replaced by what the code says now."""
    for name, table in TABLES[path].items():
        start, end = f"<!-- table:{name} -->", f"<!-- /table:{name} -->"
        before, _, rest = page.partition(start)
        _, found, after = rest.partition(end)
        if not found:
            raise SystemExit(f"error: {path.name} has no place {start} … {end}")
        page = f"{before}{start}\n{diagram(table)}\n{end}{after}"
    return page


def main() -> None:
    """Writes the pages, or compares."""
    for path in TABLES:
        old = path.read_text()
        new = drawn(path, old)
        if "--check" not in sys.argv:
            path.write_text(new)
        elif new != old:
            raise SystemExit(f"error: {path.name} is behind the transition tables; run: make docs")


if __name__ == "__main__":
    main()
