"""What survives a restart of the volunteer: highest epochs, and the clusters behind links, in one file.

A second file holds what tells this volunteer from another of its id: drawn once, the same ever after.
"""

from __future__ import annotations

import json
import re
import secrets
from pathlib import Path

from . import durable
from .core.model import Memory

_INSTANCE = re.compile(r"[0-9a-f]{32}")


class MemoryDamaged(Exception):
    """The file is not what this program wrote: one line that says so and what to do."""


def load(path: Path) -> Memory:
    """What was written last; nothing where there is no file. Raises MemoryDamaged, OSError."""
    try:
        values = json.loads(path.read_text())
        return Memory(
            tuple((str(cluster), int(epoch)) for cluster, epoch in values["epochs"].items()),
            tuple((str(link), str(cluster)) for link, cluster in values["clusters"].items()),
        )
    except FileNotFoundError:
        return Memory()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MemoryDamaged(f"{path} is damaged ({error}); remove it to start afresh") from error


def save(path: Path, memory: Memory) -> None:
    """Replaces the file whole, on the disk before it returns: an epoch that was seen fences for good."""
    durable.replace(
        path, json.dumps({"epochs": dict(memory.epochs), "clusters": dict(memory.clusters)}) + "\n"
    )


def instance(path: Path) -> str:
    """This state directory's own name, drawn where there is none yet. Raises MemoryDamaged, OSError."""
    try:
        name = path.read_text(errors="replace").strip()
    except FileNotFoundError:
        name = secrets.token_hex(16)
        durable.replace(path, name + "\n")
    if not _INSTANCE.fullmatch(name):
        raise MemoryDamaged(f"{path} is damaged; remove it to have another one drawn")
    return name
