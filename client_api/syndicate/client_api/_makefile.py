"""Reads the targets of a Makefile as text. Never runs make: the tree may be anybody's."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass

MAKEFILE_NAMES = ("GNUmakefile", "makefile", "Makefile")  # the order in which GNU make looks
MAX_MAKEFILE_BYTES = 1 << 20

_ASSIGNMENT = re.compile(r"^\s*(?:(?:export|override|private|unexport)\s+)*[^\s:#=]+\s*(?:[?+!]|:{1,3})?=")
_KEYWORD = re.compile(
    r"^\s*(?:ifeq|ifneq|ifdef|ifndef|else|endif|vpath|undefine|export|unexport|override)\b(?!\s*:)"
)
_OPAQUE = re.compile(r"^\s*(?:-?include|sinclude|-?load)\s|\$[({]eval\b|^\s*\$[({]call\b|\.RECIPEPREFIX")
_DEFINE = re.compile(r"^\s*(?:override\s+|export\s+)*define\b")
_ENDEF = re.compile(r"^\s*endef\b")


@dataclass(frozen=True, slots=True)
class Targets:
    """What a Makefile's text says about its targets."""

    names: tuple[str, ...]
    """Explicit targets, sorted; special ones such as ``.PHONY`` left out."""
    patterns: tuple[str, ...]
    """Targets of pattern rules, with their ``%``."""
    opaque: bool
    """True when includes, computed names or the like may define targets that the text does not show."""


@dataclass(frozen=True, slots=True)
class MakefileCheck:
    """Which of the wanted targets a Makefile lacks. Nothing is missing where the text cannot tell."""

    missing: tuple[str, ...]
    found: tuple[str, ...]


def read_targets(text: str) -> Targets:
    """Finds the targets of a Makefile in its text."""
    names: set[str] = set()
    patterns: set[str] = set()
    opaque = False
    in_define = False
    for raw in _logical_lines(text):
        if in_define or _DEFINE.match(raw):
            in_define = not _ENDEF.match(raw)
            opaque = opaque or "$(eval" in raw
            continue
        if raw.startswith("\t"):
            continue
        line = _without_comment(raw)
        if _OPAQUE.search(line):
            opaque = True
        if _KEYWORD.match(line) or _ASSIGNMENT.match(line):
            continue
        left, colon = _before_colon(line)
        if not colon:
            continue
        for name in left.replace("&", " ").split() if "$" not in left else ():
            (patterns if "%" in name else names).add(name)
        opaque = opaque or "$" in left or ".DEFAULT" in left.split()
    plain = sorted(name for name in names if not re.fullmatch(r"\.[A-Z_]+", name))
    return Targets(tuple(plain), tuple(sorted(patterns)), opaque)


def check_makefile(text: str, targets: Sequence[str]) -> MakefileCheck:
    """Says which of ``targets`` a Makefile with this text lacks; those that may be there count as there."""
    read = read_targets(text)
    if read.opaque:
        return MakefileCheck((), read.names)

    def possible(target: str) -> bool:
        return target in read.names or any(_matches(pattern, target) for pattern in read.patterns)

    return MakefileCheck(tuple(target for target in targets if not possible(target)), read.names)


def _matches(pattern: str, target: str) -> bool:
    head, _, tail = pattern.partition("%")
    return fnmatch.fnmatchcase(target, _literal(head) + "?*" + _literal(tail))


def _literal(text: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", text)


def _logical_lines(text: str) -> list[str]:
    joined = re.sub(r"\\\r?\n[ \t]*", " ", text)
    return joined.splitlines()


def _without_comment(line: str) -> str:
    return re.split(r"(?<!\\)#", line, maxsplit=1)[0]


def _before_colon(line: str) -> tuple[str, bool]:
    """The part of a rule before its colon, as far as the colon stands outside of ``$(…)``."""
    depth = 0
    for index, letter in enumerate(line):
        if letter in "({":
            depth += 1
        elif letter in ")}":
            depth = max(0, depth - 1)
        elif letter == ":" and depth == 0:
            return line[:index], True
        elif letter == "=" and depth == 0:
            return "", False
    return "", False
