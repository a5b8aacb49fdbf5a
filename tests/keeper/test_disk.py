"""Disks: what is left on them goes, whatever it is, at its time; and what of the host shows through them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from keeper.harness import KeeperProcess, Link, linked, makefile, network_instance
from syndicate.volunteer.keeper import mounts
from syndicate.volunteer.keeper.disk import Disk, DiskSize, Remains
from syndicate.volunteer.keeper.errors import KeeperError
from syndicate.volunteer.keeper.limits import find_version_1
from syndicate.volunteer.keeper.undertaker import Undertaker
from syndicate.volunteer.local import ErrorCode, Limits

_WAITS = {"Makefile": makefile("@echo up; exec sleep 1000")}
_MIB = 1 << 20
_HEAP_MIB = 48
_FILLS = f"""
import os
if not os.path.exists("heap"):
    with open("heap", "wb") as heap:
        heap.write(bytes({_HEAP_MIB} << 20))
print("up", flush=True)
os.execlp("sleep", "sleep", "1000")
"""
# All that could be in the way of who removes it; FS_IOC_SETFLAGS (0x40086602) is of ioctl_iflags(2).
_MESS = """
import fcntl, os, socket, struct, subprocess
made = 0
try:
    for folder in ("/", "/tmp", "/dev/shm"):
        os.chdir(folder)
        for _ in range(3000):
            os.mkdir("deep")
            os.chdir("deep")
    os.chdir("/tmp")
    for name in ("-rf", "a\\nb", "\\udcff", "x" * 255):
        os.mkdir(name)
        open(f"{name}/file", "w").close()
        os.chmod(name, 0)
    os.symlink("/", "link")
    os.mkfifo("pipe")
    bound = socket.socket(socket.AF_UNIX)
    bound.bind("/tmp/socket")
    held = os.open("/tmp/held", os.O_CREAT | os.O_RDWR)
    os.unlink("/tmp/held")
    for path in ("/Makefile", "/tmp"):
        try:
            fcntl.ioctl(os.open(path, os.O_RDONLY), 0x40086602, struct.pack("l", 0x10))
            print("immutable", flush=True)
        except OSError:
            pass
    os.mkdir("/many")
    for number in range(1_000_000):
        open(f"/many/{number}", "w").close()
        made += 1
except OSError as error:
    print("up after", error.strerror, made > 1000, flush=True)
os.execlp("sleep", "sleep", "1000")
"""


def in_own_mounts(work: Callable[[], None]) -> None:
    """Run `work` in a thread with mounts of its own, as a slot's."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            mounts.unshare_mounts()
            work()
        except BaseException as error:  # noqa: BLE001  # raised again below
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def test_detached_disk_is_whole_until_it_is_freed(tmp_path: Path) -> None:
    """Its mount point takes another disk at once, and what it held is there until who owns it lets go."""
    (tmp_path / "skeleton").mkdir()

    def look() -> None:
        old = Disk.make(tmp_path, tmp_path / "skeleton", DiskSize(_MIB, 100))
        (old.root / "kept").write_text("x")
        inside = os.open(old.upper, os.O_RDONLY)
        remains = old.detach()
        new = Disk.make(tmp_path, tmp_path / "skeleton", DiskSize(_MIB, 100))
        try:
            assert os.listdir(inside) == ["kept"]
            assert os.listdir(new.root) == []
        finally:
            os.close(inside)
            remains.free()
            remains.free()
            new.close()
            new.close()
        assert mounts.mounts_under(tmp_path, threading.get_native_id()) == []
        assert sorted(os.listdir(tmp_path)) == ["skeleton"]

    in_own_mounts(look)


def test_disk_tells_when_it_is_full(tmp_path: Path) -> None:
    """Full is a disk without a free byte, or without a free inode; its memory is counted amply."""
    (tmp_path / "skeleton").mkdir()

    def look() -> None:
        for fill in (_fill_bytes, _fill_inodes):
            disk = Disk.make(tmp_path, tmp_path / "skeleton", DiskSize(_MIB, 100))
            try:
                before = disk.memory()
                assert not disk.full()
                with pytest.raises(OSError, match="No space left"):
                    fill(disk.upper)
                assert disk.full()
                assert disk.memory() > before
            finally:
                disk.close()

    in_own_mounts(look)


def test_disk_without_a_free_inode_can_be_filled(tmp_path: Path) -> None:
    """Also where nothing on it takes a byte; and given back it takes as many bytes and files as before."""
    (tmp_path / "skeleton").mkdir()

    def look() -> None:
        disk = Disk.make(tmp_path, tmp_path / "skeleton", DiskSize(_MIB, 100))
        try:
            with pytest.raises(OSError, match="No space left"):
                _fill_inodes(disk.upper)

            disk.fill()

            with pytest.raises(OSError, match="No space left"):
                (disk.upper / "0").write_bytes(b"x")
            disk.give_back()
            (disk.upper / "0").write_bytes(bytes(_MIB // 2))
            with pytest.raises(OSError, match="No space left"):
                (disk.upper / "more").touch()
        finally:
            disk.close()

    in_own_mounts(look)


def _fill_bytes(folder: Path) -> None:
    (folder / "one").write_bytes(bytes(2 * _MIB))


def _fill_inodes(folder: Path) -> None:
    for number in range(200):
        (folder / str(number)).touch()


def test_undertaker_frees_beside_and_is_waited_for() -> None:
    """What it was given is freed without anybody's waiting, and all of it once it is closed."""
    undertaker = Undertaker()
    pipes = [os.pipe() for _ in range(3)]

    for out, _ in pipes:
        undertaker.bury(Remains([out]))
    undertaker.close()

    for _, into in pipes:
        with pytest.raises(BrokenPipeError):  # nobody has the other end
            os.write(into, b"x")
        os.close(into)


async def test_nothing_of_old_disks_is_left_when_release_is_answered(
    keeper: KeeperProcess, link: Link
) -> None:
    """A revival does not wait for the disk that it leaves, but a release does."""
    task = link.task({"Makefile": makefile("@python3 fill.py"), "fill.py": _FILLS})
    await task.begin(Limits(disk_bytes=64 * _MIB))
    await task.said("up")
    used = _memory_of_slot(keeper)
    assert used() > _HEAP_MIB * _MIB

    await task.kill()
    await task.revive(2, with_disk=False)
    await task.release()

    assert used() < _HEAP_MIB * _MIB // 2  # what it ran may stay in the page cache, as its own


async def test_revival_has_the_memory_of_the_disk_before(link: Link) -> None:
    """Where both do not fit into the task's bound, the old disk is freed before the new one is filled."""
    source = {**_WAITS, "heap": "x" * (40 * _MIB)}
    task = link.task(source)
    await task.begin(Limits(disk_bytes=48 * _MIB, memory_bytes=72 * _MIB))
    await task.said("up")

    for generation in (2, 3, 4):
        await task.kill(generation - 1)
        await task.revive(generation, with_disk=False)
        await task.said("up", generation)


def _memory_of_slot(keeper: KeeperProcess) -> Callable[[], int]:
    hierarchy = find_version_1("memory")
    if hierarchy is None:
        return lambda: int((keeper.cgroup / "slot-0" / "memory.current").read_text())
    file = hierarchy / keeper.cgroup.name / "slot-0" / "memory.usage_in_bytes"
    return lambda: int(file.read_text())


async def test_whatever_a_task_leaves_goes(link: Link) -> None:
    """Folders beyond any path, names and modes of all kinds, and as many files as the disk takes."""
    limits = Limits(disk_bytes=64 * _MIB, disk_inodes=20_000)
    task = link.task({"Makefile": makefile("@python3 mess.py"), "mess.py": _MESS})
    await task.begin(limits)
    await task.said("up after No space left on device True")
    await task.kill()

    await task.revive(2)  # the disk is kept, but for /tmp and /dev/shm
    await task.said("up after File exists False", 2)
    await task.kill(2)
    await task.revive(3, with_disk=False)
    await task.said("up after No space left on device True", 3)
    await task.release()

    assert (await link.audit()).left == ()


@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
async def test_cache_holds_up_nobody(link: Link, kind: str) -> None:
    """What is no file in the volunteer's cache is refused at once, and the slot takes the next task."""
    task = link.task(_WAITS)
    path = link.keeper.cache / task.digest
    path.rename(link.keeper.cache / "elsewhere")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to("elsewhere")
    else:
        path.mkdir()

    refused = await link.refused(task.prepare_request())

    assert refused.code is ErrorCode.FAILED
    path.rmdir() if kind == "folder" else path.unlink()
    (link.keeper.cache / "elsewhere").rename(path)
    await task.begin()
    await task.said("up")


async def test_mounts_in_a_sandbox_name_no_folder_of_the_host(link: Link) -> None:
    """Neither the disk's layers nor what is bound tells a task where the keeper has its state."""
    _, output = await link.task({"Makefile": makefile("@cat /proc/self/mountinfo")}).run()

    assert " / / " in output and "lowerdir=" in output
    for path in (link.keeper.state, link.keeper.run, link.keeper.cache):
        assert str(path) not in output
    assert "/slots/" not in output


async def test_slot_has_no_mounts_of_others(folder: Path) -> None:
    """What a sandbox starts with does not grow with the number of slots."""
    seen = []
    for slots in (1, 4):
        place = folder / str(slots)
        place.mkdir()
        keeper = KeeperProcess(place, network_instance()[::-1], slots)
        keeper.start()
        try:
            async with linked(keeper) as link:
                assert (await link.audit()).left == ()
                found = keeper.slot_mounts()
                assert len(found) == slots
                assert keeper.process is not None
                # What the host itself has may be another number each time.
                hosts = _mounts_of(Path(f"/proc/{keeper.process.pid}"))
                seen += [_mounts_of(each.parent.parent) - hosts for each in found]
        finally:
            keeper.stop()
    assert len(set(seen)) == 1


def _mounts_of(process: Path) -> int:
    return len((process / "mountinfo").read_text().splitlines())


def test_disk_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    """Without its lower layer there is no disk, no mount and no folder."""

    def look() -> None:
        with pytest.raises(KeeperError, match="cannot make a disk"):
            Disk.make(tmp_path, tmp_path / "missing", DiskSize(_MIB, 100))
        assert mounts.mounts_under(tmp_path, threading.get_native_id()) == []
        assert os.listdir(tmp_path) == []

    in_own_mounts(look)
