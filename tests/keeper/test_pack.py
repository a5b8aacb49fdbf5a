"""The disk of a task that has ended, packed piece by piece."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from keeper.harness import KeeperProcess, Link, TestTask, linked, makefile, network_instance
from syndicate.volunteer.local import DiskRead, ErrorCode, Limits, ReadDisk, Release, Revive, SlotState

_PIECE = 256 << 10
_ITSELF_S = 4.5  # what nobody synced the kernel writes by itself, ext4 after five seconds


async def read(task: TestTask, limit: int = _PIECE) -> tuple[bytes, str]:
    """All pieces, and why there is no disk."""
    data, offset = b"", 0
    while True:
        reply = await task.link.ask(ReadDisk(task.slot, task.id, offset, limit))
        assert isinstance(reply, DiskRead), reply
        data += reply.data
        offset += len(reply.data)
        if reply.end:
            return data, reply.missing


def opened(data: bytes) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(data), mode="r:gz")


async def ended(link: Link, recipe: str, files: dict[str, str] | None = None) -> TestTask:
    """A task that ran this to its end."""
    task = link.task({"Makefile": makefile(recipe), **(files or {})})
    status, output = await task.run()
    assert status.status == 0, output
    return task


@asynccontextmanager
async def bounded(folder: Path, *extra: str) -> AsyncIterator[Link]:
    """A link to a keeper of its own with these settings."""
    keeper = KeeperProcess(folder, "p" + network_instance()[1:], slots=1, extra=extra)
    keeper.start()
    try:
        async with linked(keeper) as link:
            yield link
    finally:
        keeper.stop()


async def test_holds_what_the_task_could_write(link: Link) -> None:
    """Its source, what it made of it, its /tmp and its /dev/shm are there by the names that it saw."""
    task = await ended(
        link,
        "@echo 41 > state; mkdir -p data/deep; echo x > data/deep/f; echo t > /tmp/t; echo s > /dev/shm/s",
        {"lib.txt": "as it came"},
    )

    data, missing = await read(task)

    assert missing == ""
    with opened(data) as archive:
        names = set(archive.getnames())
        state = archive.extractfile("./state")
        assert {"./Makefile", "./lib.txt", "./data/deep/f", "tmp/t", "dev/shm/s"} <= names
        assert not any(name.startswith(("./usr", "./proc", "./bin/sh")) for name in names)
        assert state is not None
        assert state.read() == b"41\n"


async def test_comes_in_pieces_no_larger_than_asked_for(link: Link) -> None:
    """Pieces follow each other by their offsets and make one archive."""
    task = await ended(link, "@head -c 300000 /dev/urandom > noise")

    data, missing = await read(task, 10_000)

    assert missing == ""
    with opened(data) as archive:
        assert archive.getmember("./noise").size == 300_000


async def test_begins_anew_at_its_beginning(link: Link) -> None:
    """Who lost count starts over; a piece that is none of the packing under way is refused."""
    task = await ended(link, "@head -c 300000 /dev/urandom > noise")
    first = await link.ask(ReadDisk(task.slot, task.id, 0, 1000))
    refused = await link.refused(ReadDisk(task.slot, task.id, 77, 1000))

    data, missing = await read(task)

    assert isinstance(first, DiskRead)
    assert refused.code is ErrorCode.WRONG_STATE
    assert missing == ""
    with opened(data) as archive:
        assert archive.getmember("./noise").size == 300_000


async def test_hostile_files_hold_nothing_up(link: Link) -> None:
    """Pipes, sockets, links, holes, modes and names come as what they are, or are left out."""
    made = (
        "import os, socket\n"
        "os.mkfifo('pipe'); socket.socket(socket.AF_UNIX).bind('socket')\n"
        "os.symlink('/etc/shadow', 'shadow'); os.symlink('/proc/1/root', 'root'); os.symlink('.', 'loop')\n"
        "open('hole', 'wb').truncate(30 << 20); open('-rf', 'w'); open('two\\nlines', 'w')\n"
        "open('--checkpoint-action=exec=sh', 'w'); open('suid', 'w'); os.chmod('suid', 0o6777)\n"
        "open('closed', 'w'); os.chmod('closed', 0); os.mkdir('shut'); open('shut/f', 'w')\n"
        "os.chmod('shut', 0)\n"
        "os.link('suid', 'again')\n"
        "for n in range(300): os.mkdir('d'); os.chdir('d')\n"
    )
    task = await ended(link, "@python3 made.py", {"made.py": made})

    began = time.monotonic()
    data, missing = await read(task)

    assert missing == ""
    assert time.monotonic() - began < 20
    with opened(data) as archive:
        found = {member.name: member for member in archive}
    assert found["./pipe"].isfifo()
    assert (found["./shadow"].linkname, found["./root"].linkname) == ("/etc/shadow", "/proc/1/root")
    assert {"./-rf", "./two\nlines", "./loop"} <= set(found)
    assert found["./hole"].size == 30 << 20
    assert len(data) < 1 << 20
    assert not {"./closed", "./shut/f"} & {name for name, member in found.items() if member.isreg()}


async def test_a_hundred_thousand_files(link: Link) -> None:
    """As many files as a disk may have are packed within the time."""
    task = link.task(
        {"Makefile": makefile("@mkdir d; cd d; seq 90000 | xargs touch")},
    )
    status, output = await task.run(Limits(disk_bytes=64 << 20, disk_inodes=100_000))
    assert status.status == 0, output

    data, missing = await read(task)

    assert missing == ""
    with opened(data) as archive:
        assert sum(1 for member in archive if member.isreg()) == 90_001


async def test_too_large_is_told(tmp_path: Path) -> None:
    """What is larger packed than the bound is missing, and the slot goes on."""
    async with bounded(tmp_path, "--pack-bytes", "100000") as link:
        task = await ended(link, "@head -c 300000 /dev/urandom > noise")

        _, missing = await read(task)
        await task.release()

        assert missing == "packed it is larger than 0.0953674 MiB"
        assert (await link.audit()).left == ()


async def test_too_slow_is_told(tmp_path: Path) -> None:
    """What takes longer than it may is missing: time runs from the beginning, whoever is slow."""
    async with bounded(tmp_path, "--pack-s", "0.2") as link:
        task = await ended(link, "@head -c 9000000 /dev/urandom > noise")
        offset, missing = 0, ""
        while not missing:
            reply = await link.ask(ReadDisk(task.slot, task.id, offset, 1000))
            assert isinstance(reply, DiskRead)
            offset, missing = offset + len(reply.data), reply.missing

        assert missing == "packing it took longer than 0.2 s"
        await task.release()


async def test_of_a_task_that_lives_is_refused(link: Link) -> None:
    """Only what nobody writes to any more is packed."""
    task = link.task({"Makefile": makefile("@exec sleep 1000")})
    await task.begin()

    refused = await link.refused(ReadDisk(task.slot, task.id, 0, _PIECE))

    assert refused.code is ErrorCode.WRONG_STATE


async def test_a_release_ends_it(link: Link) -> None:
    """Whatever of a packing is under way, a release leaves nothing of it."""
    task = await ended(link, "@head -c 9000000 /dev/urandom > noise")
    await link.ask(ReadDisk(task.slot, task.id, 0, 1000))

    began = time.monotonic()
    await link.do(Release(task.slot, task.id))

    assert time.monotonic() - began < 20
    audited = await link.audit()
    assert (audited.in_use, audited.left) == ((), ())


async def test_a_new_connection_ends_it(link: Link) -> None:
    """A volunteer that comes back finds no packing, and can begin one."""
    task = await ended(link, "@head -c 900000 /dev/urandom > noise")
    await link.ask(ReadDisk(task.slot, task.id, 0, 1000))

    await link.sync()
    refused = await link.refused(ReadDisk(task.slot, task.id, 1000, 1000))
    _, missing = await read(task)

    assert refused.code is ErrorCode.WRONG_STATE
    assert missing == ""


async def test_the_task_can_live_on(link: Link) -> None:
    """The disk is the same after it: a revival finds it, also in the midst of a packing."""
    task = link.task(
        {"Makefile": makefile("@echo x >> state; cat state; head -c 900000 /dev/urandom > noise")}
    )
    await task.run()
    await link.ask(ReadDisk(task.slot, task.id, 0, 1000))

    await link.do(Revive(task.slot, task.id, 2, with_disk=True))
    await task.exit(2)

    assert await task.output(2) == "x\nx\n"
    assert (await link.sync()).slots[0].state is SlotState.ENDED


def in_packer(keeper: KeeperProcess, slot: int) -> dict[str, tuple[int, int, list[str]]]:
    """Of each program that packs: its uid, its rights, and the devices of its network."""
    found = {}
    for pid in (keeper.cgroup / f"slot-{slot}" / "packer" / "cgroup.procs").read_text().split():
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        fields = dict(line.split(":\t", 1) for line in lines)
        devices = [
            line.split(":")[0].strip() for line in Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
        ]
        found[fields["Name"]] = (int(fields["Uid"].split()[0]), int(fields["CapEff"], 16), devices)
    return found


async def test_packs_as_the_task_without_its_network(link: Link, keeper: KeeperProcess) -> None:
    """Who packs has the task's uid and no right beside, its cgroup, and a network that nothing is in."""
    task = await ended(link, "@head -c 9000000 /dev/urandom > noise")
    await link.ask(ReadDisk(task.slot, task.id, 0, 1000))

    uid, rights, devices = in_packer(keeper, task.slot)["tar"]

    assert uid >= 1000
    assert rights == 0
    assert devices == ["lo"]


@pytest.mark.parametrize("limit", [0, (256 << 10) + 1])
async def test_sizes_of_pieces_are_bounded(link: Link, limit: int) -> None:
    """A piece that no frame is to carry is no request."""
    task = await ended(link, "@true")

    with pytest.raises(ValueError, match=r"ReadDisk\.limit"):
        await link.ask(ReadDisk(task.slot, task.id, 0, limit))


async def test_after_a_loss_of_power_it_holds_what_was_synced(link: Link) -> None:
    """A disk whose power failed with the kill is brought back before it is packed."""
    writes = (
        "import os\n"
        "for name, sync in (('synced', True), ('lost', False)):\n"
        "    file = os.open('data/' + name, os.O_CREAT | os.O_WRONLY)\n"
        "    os.write(file, b'x' * 100_000)\n"
        "    if sync: os.fsync(file)\n"
        "print('written', flush=True)\n"
        "os.execlp('sleep', 'sleep', '1000')\n"
    )
    task = link.task({"Makefile": makefile("@exec python3 it.py"), "it.py": writes, "data/": ""})
    for _ in range(4):
        await link.do(replace(task.prepare_request(Limits(disk_bytes=16 << 20)), lose_unsynced=True))
        began = time.monotonic()
        await task.start()
        await task.said("written")
        await task.kill()
        in_time = time.monotonic() - began < _ITSELF_S

        data, missing = await read(task)

        assert missing == ""
        with opened(data) as archive:
            names = archive.getnames()
        if in_time or "./data/lost" not in names:
            break
        await task.release()  # the kernel may have written it by itself
    assert "./data/synced" in names
    assert "./data/lost" not in names
