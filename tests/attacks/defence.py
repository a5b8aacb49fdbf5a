"""A defence that a test switches off, by patching one seam of a daemon before it starts."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Defence:
    """`off` runs in the daemon's own process, before its main; `says` names the defence for people."""

    daemon: Literal["keeper", "volunteer", "manager"]
    says: str
    off: Callable[[], None]


def find(name: str) -> list[Defence]:
    """The defences of `GROUP/NAME`, or of several joined by `+`, all of one daemon.

    They stand in DEFENCES of tests/attacks/defences/GROUP.py. Raises KeyError for one that is not there.
    """
    found = []
    for one in name.split("+"):
        group, _, short = one.partition("/")
        found.append(importlib.import_module(f"tests.attacks.defences.{group}").DEFENCES[short])
    assert len({each.daemon for each in found}) == 1, f"{name}: of several daemons"
    return found
