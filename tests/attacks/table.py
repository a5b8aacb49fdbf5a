"""The table of docs/security.md, from the attacks themselves: `python -m tests.attacks.table --write`.

Without `--write` it only compares, and exits 1 where the page is behind.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.attacks.attack import Attack
from tests.attacks.defence import find

HERE = Path(__file__).resolve().parent
PAGE = HERE.parents[1] / "docs" / "security.md"
START, END = "<!-- attacks -->", "<!-- /attacks -->"


def groups() -> Iterator[tuple[str, str, tuple[Attack, ...]]]:
    """Each test file's name, the first line of what it says of itself, and its attacks."""
    for path in sorted(HERE.glob("test_*.py")):
        module = importlib.import_module(f"tests.attacks.{path.stem}")
        if (attacks := getattr(module, "ATTACKS", None)) is not None:
            yield path.name, (module.__doc__ or "").splitlines()[0], attacks


def table() -> str:
    """All groups as Markdown."""
    parts = []
    for name, title, attacks in groups():
        rows = [f"\n### {title.removesuffix('.')}\n\n`tests/attacks/{name}`\n"]
        rows += ["| attack | tries | held by | succeeds |", "|---|---|---|---|"]
        rows += [row(attack) for attack in sorted(attacks, key=lambda attack: attack.id)]
        parts.append("\n".join(rows))
    return "\n".join(parts) + "\n"


def row(attack: Attack) -> str:
    """One attack."""
    if attack.without:
        shown = "without this: " + "; ".join(each.says for each in find(attack.without))
    else:
        shown = f"not shown: {attack.because}"
    cells = (f"`{attack.id}`", attack.tries, attack.held_by, shown)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def drawn(page: str) -> str:
    """The page with the table of today. Raises ValueError where it has no place for it."""
    before, found, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not (found and end):
        raise ValueError(f"{PAGE.name} has no place {START} … {END}")
    return f"{before}{START}\n{table()}\n{END}{after}"


def main() -> int:
    """Writes or compares the page."""
    page = PAGE.read_text()
    now = drawn(page)
    if "--write" in sys.argv[1:]:
        PAGE.write_text(now)
    elif now != page:
        sys.stderr.write("error: docs/security.md is behind the attacks; run: make docs\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent))  # as pytest has it, for tests that use another's helpers
    sys.exit(main())
