"""The audit tells everything that no task and no waiting sandbox explains."""

from __future__ import annotations

import asyncio
from pathlib import Path

from keeper.harness import KeeperProcess, Link, makefile

_WAITS = {"Makefile": makefile("@echo up; exec sleep 1000")}


async def test_strangers_at_a_slot_that_stands_by_are_told(keeper: KeeperProcess, link: Link) -> None:
    """A process, a cgroup and a file beside the waiting sandbox are left; its own things are not."""
    before = await link.audit()
    own = keeper.cgroup / "slot-0" / "g1"
    beside, within = keeper.cgroup / "slot-0" / "g7", own / "syn-within"
    file = keeper.run / "slots" / "0" / "syn-stray"
    stray = await asyncio.create_subprocess_exec("sleep", "100")
    intruder = await asyncio.create_subprocess_exec("sleep", "100")
    try:
        for cgroup in (beside, within):
            cgroup.mkdir()
        file.touch()
        (beside / "cgroup.procs").write_text(str(stray.pid))
        (own / "cgroup.procs").write_text(str(intruder.pid))

        audit = await link.audit()
    finally:
        for process in (stray, intruder):
            process.kill()
            await process.wait()
        file.unlink()
        for cgroup in (beside, within):
            cgroup.rmdir()

    assert (before.in_use, before.left) == ((), ())
    assert audit.in_use == ()
    assert set(audit.left) == {
        *(f"process {intruder.pid} sleep", f"process {stray.pid} sleep"),
        *(f"cgroup {beside}", f"cgroup {within}", f"file {file}"),
    }
    assert (await link.audit()).left == ()


async def test_mount_at_a_slot_that_stands_by_is_told(keeper: KeeperProcess, link: Link) -> None:
    """A mount that is not of the waiting sandbox's disk is left."""
    await link.audit()  # both slots stand, each with mounts of its own
    place = keeper.state / "slots" / "0" / "syn-mount"
    place.mkdir()
    spaces = [f"--mount={namespace}" for namespace in keeper.slot_mounts()]
    try:
        for space in spaces:
            await _run(["nsenter", space, "mount", "-t", "tmpfs", "syndicate", str(place)])

        audit = await link.audit()
    finally:
        for space in spaces:
            await _run(["nsenter", space, "umount", str(place)])
        place.rmdir()

    assert audit.left == (f"mount {place}",)


async def _run(command: list[str]) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0


async def test_task_is_in_use_until_its_release(link: Link) -> None:
    """What a task has is told as in use, and after its release nothing is."""
    task = link.task(_WAITS)
    await task.begin()

    held = await link.audit()

    assert held.left == ()
    assert {Path(line.split()[1]).name for line in held.in_use if line.startswith("cgroup ")} == {"g1"}
    await task.release()
    audit = await link.audit()
    assert (audit.in_use, audit.left) == ((), ())
