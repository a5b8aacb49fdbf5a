"""``.syndicateignore``: which files of a folder are not sent."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass

from syndicate.client_api._errors import PackError

IGNORE_FILE = ".syndicateignore"
DEFAULT_NAMES = (
    ".git",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".venv",
    "__pycache__",
    "node_modules",
)
"""What lies beside a source and is none of it: histories, caches, and what is installed from elsewhere."""


@dataclass(frozen=True, slots=True)
class _Pattern:
    glob: str
    anchored: bool
    folders_only: bool

    def matches(self, path: str, is_folder: bool) -> bool:
        if self.folders_only and not is_folder:
            return False
        return fnmatch.fnmatchcase(path if self.anchored else path.rpartition("/")[2], self.glob)


@dataclass(frozen=True, slots=True)
class Ignore:
    """Patterns, one a line; blank lines and lines that begin with ``#`` say nothing.

    ``*.o`` leaves out every file of such a name, wherever it lies; a pattern with a slash is matched from the
    root (``build/*.log``, ``/notes``); a slash at its end means folders only. ``*`` matches slashes too.
    There are no exceptions (``!``).
    """

    patterns: tuple[_Pattern, ...]

    @classmethod
    def parse(cls, text: str) -> Ignore:
        """Reads the patterns. Raises PackError for a line that is not one."""
        patterns = []
        for number, raw in enumerate(text.splitlines(), 1):
            line = raw.strip()
            if not line or line.startswith("#"):
                continue
            if line.startswith("!"):
                raise PackError(
                    f"{IGNORE_FILE} line {number}: exceptions (`!`) are not supported",
                    "Name what is to be left out, one pattern a line.",
                )
            body = line.rstrip("/")
            anchored = "/" in body
            patterns.append(_Pattern(body.lstrip("/"), anchored, line.endswith("/")))
        return cls(tuple(patterns))

    def matches(self, path: str, is_folder: bool) -> bool:
        """Whether a pattern names the entry at ``path`` (slashes, relative to the root)."""
        return any(pattern.matches(path, is_folder) for pattern in self.patterns)
