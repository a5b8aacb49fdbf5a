"""A revival without disk where the old disk holds much: Revive as the keeper answers it, until make runs."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.figure import Figure, of
from tests.keeper.harness import KeeperProcess, linked, network_instance

NAMES = ("revive_empty",)
ROUNDS = 25
OLD_FILES = 5000
SOURCE_FILES = 50
_MAKEFILE = ".PHONY: master\nmaster:\n\t@/usr/bin/python3 fill.py\n\t@echo filled; exec sleep 1000\n"
_FILL = f"""for number in range({OLD_FILES}):
    open(f"filled-{{number}}", "w").write("x" * 100)
"""


def source() -> dict[str, str]:
    """As many files as are meant, of which one fills the disk."""
    files = {f"source-{number}": "y" * 200 for number in range(SOURCE_FILES - 2)}
    return {"Makefile": _MAKEFILE, "fill.py": _FILL, **files}


def measure() -> Iterator[Figure]:
    """Beside the same revival of a disk that is kept."""
    with tempfile.TemporaryDirectory(prefix="syn-bench-") as folder:
        keeper = KeeperProcess(Path(folder), network_instance())
        keeper.start()
        try:
            yield asyncio.run(_measured(keeper))
        finally:
            keeper.stop()


async def _measured(keeper: KeeperProcess) -> Figure:
    async with linked(keeper) as link:
        task = link.task(source())
        await task.begin()
        await task.said("filled")
        empty: list[float] = []
        kept: list[float] = []
        for generation in range(2, 2 + 2 * ROUNDS):
            await task.kill(generation - 1)
            anew = generation % 2 == 0
            done = await task.revive(generation, with_disk=not anew)
            (empty if anew else kept).append(done.took_ns / 1e6)
            await task.said("filled", generation)
    return of("revive_empty", "ms", empty, "Revive with that disk", kept)
