"""Memory and disk that run out: told of the one whose they were, the task, its source or the machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from keeper.harness import KeeperProcess, Link, makefile, tarball
from syndicate.volunteer.keeper.counters import Counts, Shortage
from syndicate.volunteer.keeper.limits import find_version_1
from syndicate.volunteer.local import ErrorCode, Limits, Revive, SlotState

_MIB = 1 << 20
_WAITS = {"Makefile": makefile("@echo up; exec sleep 1000")}
_BIG = {**_WAITS, "big": "x" * (40 * _MIB)}
_LIMITS = Limits(disk_bytes=128 * _MIB, memory_bytes=160 * _MIB)
_HOG = "x = []\nwhile True:\n    x.append(bytearray(b'x' * (1 << 20)))\n"


def _memory_folder(keeper: KeeperProcess) -> Path:
    hierarchy = find_version_1("memory")
    return keeper.cgroup if hierarchy is None else hierarchy / keeper.cgroup.name


@contextmanager
def _bound(folder: Path, size: int) -> Iterator[None]:
    """A bound of this cgroup alone, set over the keeper's head."""
    unified = (folder / "memory.max").exists()
    file = folder / ("memory.max" if unified else "memory.limit_in_bytes")
    before = file.read_text()
    file.write_text(str(size))
    try:
        yield
    finally:
        file.write_text(before)


async def test_source_that_takes_too_much_memory_is_told_so(link: Link) -> None:
    """Unpacking ends with the task's bound of memory, not as a broken tarball; the slot is free again."""
    task = link.task(_BIG)

    refused = await link.refused(task.prepare_request(Limits(disk_bytes=128 * _MIB, memory_bytes=24 * _MIB)))

    assert refused.code is ErrorCode.OUT_OF_MEMORY, refused
    assert "24 MiB of memory to unpack. Ask for more with --memory" in refused.detail
    await task.begin(_LIMITS)
    await task.said("up")


@pytest.mark.parametrize("with_disk", [False, True])
async def test_source_that_takes_too_much_memory_at_a_revival_is_told_so(
    keeper: KeeperProcess, link: Link, with_disk: bool
) -> None:
    """A revival without disk unpacks under the same bound; the next finds a whole source, with disk too."""
    recipe = "@rm big; wc -c <more; echo up; exec sleep 1000"
    task = link.task({**_BIG, "Makefile": makefile(recipe), "more": "x" * (20 * _MIB)})
    await task.begin(_LIMITS)
    await task.said("up")
    await task.kill()

    # Above what the old disk holds, or the kernel refuses the bound. That is freed before the source is laid.
    with _bound(_memory_folder(keeper) / "slot-0", 48 * _MIB):
        refused = await link.refused(Revive(0, task.id, 2, False))

    assert refused.code is ErrorCode.OUT_OF_MEMORY, refused
    assert "Ask for more with --memory" in refused.detail
    assert (await link.sync()).slots[0].state is SlotState.ENDED
    await task.revive(3, with_disk)
    await task.said("up", 3)
    await task.kill(3)
    assert await task.output(3) == "20971520\nup\n"


@pytest.mark.parametrize(
    ("files", "limits"),
    [
        (_BIG, Limits(disk_bytes=8 * _MIB)),
        ({**_WAITS, **{f"f{n}": "" for n in range(200)}}, Limits(disk_bytes=8 * _MIB, disk_inodes=100)),
        ({**_WAITS, "usr/x": "", "big": "x" * (9 * _MIB)}, Limits(disk_bytes=8 * _MIB)),
    ],
    ids=["bytes", "inodes", "with a reserved name"],
)
async def test_source_that_does_not_fit_its_disk_is_told_so(
    link: Link, files: dict[str, str], limits: Limits
) -> None:
    """Bytes or inodes: the line says how much there is, and how to ask for more."""
    refused = await link.refused(link.task(files).prepare_request(limits))

    assert refused.code is ErrorCode.DISK_FULL, refused
    assert "does not fit on the task's disk of 8 MiB" in refused.detail
    assert refused.detail.endswith("Ask for more with --disk or --inodes")


async def test_broken_source_is_still_a_broken_source(link: Link) -> None:
    """Under the same bounds, what cannot be read is told as that."""
    refused = await link.refused(link.task_of(tarball(_WAITS)[:-20]).prepare_request(_LIMITS))

    assert refused.code is ErrorCode.BAD_SOURCE


async def test_memory_of_the_machine_is_not_blamed_on_the_task(keeper: KeeperProcess, link: Link) -> None:
    """A task far below its own bound that is ended for want of memory above it is ended whole, and says so.

    What ends it here is a bound of all slots together: the kernel's counters are the same as for the machine.
    """
    recipe = "@for i in $$(seq 9); do sleep 600 & done; python3 hog.py; sleep 600"
    task = link.task({"Makefile": makefile(recipe), "hog.py": _HOG})
    await task.prepare(Limits(disk_bytes=32 * _MIB, memory_bytes=1024 * _MIB))

    with _bound(_memory_folder(keeper), 96 * _MIB):
        await task.start()
        ended = await task.exit()

    assert (ended.killed, ended.cause) == (True, "host-memory")


async def test_memory_of_the_machine_is_not_blamed_on_a_source(keeper: KeeperProcess, link: Link) -> None:
    """Unpacking that ends for want of memory above its bound is the machine's failure: tried elsewhere."""
    task = link.task(_BIG)

    with _bound(_memory_folder(keeper), 24 * _MIB):
        refused = await link.refused(task.prepare_request(_LIMITS))

    assert refused.code is ErrorCode.FAILED, refused
    assert "this machine ran out of memory" in refused.detail


@pytest.mark.parametrize(
    ("now", "told", "shortage"),
    [
        (Counts(0, 5), True, Shortage.NONE),
        (Counts(1, 5), True, Shortage.OWN),
        (Counts(1, 0), True, Shortage.HOST),
        (Counts(1, 5), False, Shortage.HOST),
    ],
    ids=["reclaimed", "own", "above", "machine's own, told by nobody"],
)
def test_shortage_is_told_from_counters(now: Counts, told: bool, shortage: Shortage) -> None:
    """Own is only what was counted at the own bound, and signalled where that is signalled."""
    assert now.shortage_since(Counts(), told) is shortage
