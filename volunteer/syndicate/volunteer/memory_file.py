"""What survives a restart of the volunteer: highest epochs, and the clusters behind links, in one file."""

from __future__ import annotations

import json
import os
from pathlib import Path

from .core.model import Memory


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
    fresh = path.with_name(path.name + ".new")
    text = json.dumps({"epochs": dict(memory.epochs), "clusters": dict(memory.clusters)}) + "\n"
    with fresh.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)
