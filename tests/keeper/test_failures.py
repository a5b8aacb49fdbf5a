"""What goes wrong beneath a slot is refused in one line, or ends the keeper at once; it never hangs it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from keeper.harness import SECONDS, KeeperProcess, Link, linked, makefile, network_instance
from syndicate.volunteer.keeper.box import Box, Pipes, Site
from syndicate.volunteer.keeper.cgroups import Cgroup
from syndicate.volunteer.keeper.errors import KeeperError
from syndicate.volunteer.keeper.process import Process
from syndicate.volunteer.keeper.sandbox import Layout, Orders, Programs, Unpacker
from syndicate.volunteer.keeper.trees import remove_tree
from syndicate.volunteer.local import WHOLE, ErrorCode, Release, Revive, SetNetwork

_WAITS = {"Makefile": makefile("@echo up; exec sleep 1000")}
_DEEP = """
import os
for top in ("/tmp", "/dev/shm"):
    os.chdir(top)
    for _ in range(1500):
        os.mkdir("d")
        os.chdir("d")
os.symlink("/etc", "link")
print("up", flush=True)
os.execlp("sleep", "sleep", "1000")
"""
_BROKEN = """
from syndicate.volunteer.keeper.slots import Slot

async def broken(self, request):
    raise RuntimeError("a broken invariant")

Slot.suffer = broken
"""


@pytest.fixture
def own(folder: Path) -> Iterator[KeeperProcess]:
    """A keeper that the test starts and may break."""
    keeper = KeeperProcess(folder, network_instance()[::-1], slots=1)
    yield keeper
    if keeper.process is not None:
        try:
            keeper.stop()  # in order, so that it leaves no cgroup
        except subprocess.TimeoutExpired:
            keeper.stop(signal.SIGKILL)
            raise


async def test_release_during_stand_by_stops_only_the_prepare(link: Link) -> None:
    """A prepare that waits behind the stand-by is released: the keeper, its slot and the stand-by go on."""
    task = link.task(_WAITS)
    for _ in range(15):
        await task.prepare()
        await task.release()  # and now the slot stands by

        asked = (link.ask(task.prepare_request()), link.ask(Release(0, task.id)))
        await asyncio.gather(*asked)

        await task.release()
    assert (await link.audit()).left == ()


async def test_failed_stand_by_leaves_nothing(own: KeeperProcess) -> None:
    """Without its launcher a keeper cannot stand by, and keeps no disk for a sandbox that is not there."""
    own.start()
    assert own.process is not None
    async with linked(own, release=False) as link:
        task = link.task(_WAITS)
        await task.prepare()
        os.kill(_launcher_of(own.process.pid), signal.SIGKILL)

        await task.release()

        assert (await link.audit()).left == ()
        refused = await link.refused(task.prepare_request())
        assert refused.code is ErrorCode.FAILED
        assert (await link.audit()).left == ()


def _launcher_of(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return next(
        int(each) for each in children if b"launcher.py" in Path(f"/proc/{each}/cmdline").read_bytes()
    )


async def test_broken_invariant_ends_the_keeper(own: KeeperProcess) -> None:
    """An exception that nobody expects ends the keeper soon, loudly, and with its tasks."""
    own.start_changed(_BROKEN)
    assert own.process is not None and own.process.stdout is not None
    async with linked(own, release=False) as link:
        task = link.task(_WAITS)
        await task.begin()

        breaking = asyncio.create_task(link.ask(SetNetwork(0, task.id, WHOLE)))
        status = await asyncio.to_thread(own.process.wait, SECONDS)

        with suppress(ConnectionError):
            await breaking
    own.process.stdout.close()
    own.process = None
    assert status == 1
    assert "a broken invariant" in own.errors.read_text()
    assert "not_cleared" not in own.errors.read_text()
    assert not own.cgroup.exists()


async def test_deep_folders_do_not_hinder_a_revival(link: Link) -> None:
    """Folders nested deeper than any path can name go with their generation."""
    task = link.task({"Makefile": makefile("@python3 deep.py"), "deep.py": _DEEP})
    await task.begin()
    await task.said("up")
    await task.kill()

    await task.revive(2)

    await task.said("up", 2)


async def test_log_that_cannot_be_made_refuses_the_revival(keeper: KeeperProcess, link: Link) -> None:
    """A state folder that takes no log refuses a revival, which leaves no sandbox and can be asked again."""
    task = link.task(_WAITS)
    await task.begin()
    await task.kill()
    hindrance = keeper.state / "slots" / "0" / "log-2.head"
    hindrance.touch()

    refused = await link.refused(Revive(0, task.id, 2, True))

    assert refused.code is ErrorCode.FAILED
    assert not [line for line in (await link.audit()).in_use if line.startswith("process")]
    hindrance.unlink()
    await task.revive(2)
    await task.said("up", 2)


def test_tree_is_removed_without_following_links(tmp_path: Path) -> None:
    """What a link leads to stays."""
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    top = tmp_path / "top"
    for name in ("a/b/c", "a/d", "e"):
        (top / name).mkdir(parents=True)
        (top / name / "file").touch()
    (top / "a" / "link").symlink_to(kept)

    remove_tree(top)

    assert os.listdir(tmp_path) == ["kept"]
    assert os.listdir(kept) == ["file"]


def test_sandbox_that_takes_no_orders_is_not_the_sources_fault(tmp_path: Path) -> None:
    """Orders that nobody reads are refused as the machine's failure."""
    cancel = os.eventfd(0)
    out, orders = os.pipe2(os.O_NONBLOCK)
    with suppress(BlockingIOError):
        while True:
            os.write(orders, bytes(4096))
    site = Site(1000, Cgroup(tmp_path), tmp_path, Programs(tmp_path, tmp_path), (), cancel, None, True)
    box = Box(site, Cgroup(tmp_path), Process(os.getpid()), Pipes(-1, -1, -1, -1, orders))
    try:
        with pytest.raises(KeeperError, match="does not answer") as caught:
            box.order(Orders(Unpacker.GZIP, Layout(), {}, ["master"], 4096, 1 << 20), time.monotonic())
    finally:
        for descriptor in (cancel, out, orders):
            os.close(descriptor)
        box.process.close()
    assert caught.value.code is ErrorCode.FAILED


async def test_sandbox_that_had_orders_never_serves_another(own: KeeperProcess) -> None:
    """One that outlasts its refused task counts as left, and the next task gets a new one."""
    own.start()
    assert own.process is not None
    hindrance = own.cgroup / "slot-0" / "g1" / "syn-hindrance"
    (namespace,) = own.slot_mounts()
    enter = ["nsenter", f"--mount={namespace}"]
    async with linked(own) as link:
        hindrance.mkdir()
        await _run([*enter, "mount", "-t", "tmpfs", "syndicate", str(hindrance)])

        refused = await link.refused(link.task_of(b"not a tar").prepare_request())

        assert refused.code is ErrorCode.BAD_SOURCE or "cannot remove" in refused.detail
        assert f"cgroup {hindrance.parent}" in (await link.audit()).left
        await _run([*enter, "umount", str(hindrance)])
        task = link.task(_WAITS)
        await task.begin()
        await task.said("up")


async def _run(command: list[str]) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0


async def test_nothing_that_the_starter_left_open_reaches_a_task(own: KeeperProcess, tmp_path: Path) -> None:
    """A folder of the host's behind a descriptor would be a way out of the task's root."""
    holding = 'exec 9<"$0" 40<"$0" 200<"$0"; exec "$@"'
    own.start(["bash", "-c", holding, str(tmp_path)])
    assert own.process is not None
    folder = f"/proc/{own.process.pid}/fd"
    kept = []
    for name in os.listdir(folder):
        with suppress(FileNotFoundError):  # one that it had open for a moment
            kept.append(os.readlink(f"{folder}/{name}"))
    async with linked(own) as link:
        _, output = await link.task({"Makefile": makefile("@ls -l /proc/self/fd")}).run()

    numbers = {line.split()[-3] for line in output.splitlines() if " -> " in line}
    assert numbers == {"0", "1", "2", "3"}, output  # 3 is that of the listing itself
    assert str(tmp_path) not in kept
