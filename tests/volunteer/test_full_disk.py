"""A volunteer whose own disk is full, on a real file system of one MiB."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from syndicate.v1 import common_pb2
from syndicate.v1 import registry_pb2 as pb
from volunteer.fakes import Bench, bench
from volunteer.test_command import run, run_arguments

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")

SOURCE = os.urandom(200_000)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Where the volunteer has its state."""
    folder = tmp_path / "state"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", "size=1m,mode=700", "syndisk", str(folder)]
    subprocess.run(["mount", *options], check=True, timeout=60)
    yield folder
    subprocess.run(["umount", str(folder)], check=True, timeout=60)


@pytest.fixture
async def world(tmp_path: Path, small_disk: Path) -> AsyncIterator[Bench]:
    """Keeper and manager stand; the volunteer does not run yet."""
    async with bench(tmp_path) as made:
        yield made


def fill(disk: Path, left: int) -> Path:
    """Takes all but this many bytes; the file that has them."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    os.truncate(filler, filler.stat().st_size - left)
    return filler


async def prepared(world: Bench, attempt: int) -> pb.Answer:
    """What becomes of a task whose source is not on the machine yet."""
    ref = f"slave-{attempt}"
    source = world.manager.add_source(SOURCE)
    await world.manager.ask(ref, reserve=pb.Reserve(ttl_ms=10_000))
    return await world.manager.ask(ref, prepare=pb.Prepare(source=source, role=common_pb2.ROLE_SLAVE))


@pytest.mark.parametrize("left", [0, 65_536], ids=["full", "too small for the source"])
async def test_a_source_that_does_not_fit_is_refused_until_there_is_room(
    world: Bench, small_disk: Path, left: int
) -> None:
    """The manager hears why, the stream stands, nothing of the source is left; with room it is taken."""
    await world.start()
    await world.manager.attached()
    filler = fill(small_disk, left)

    refused = await prepared(world, 1)
    kept = set(os.listdir(small_disk / "cache"))
    filler.unlink()
    await world.manager.ask("slave-1", release=pb.Release())
    taken = await prepared(world, 2)

    assert (refused.code, kept) == (pb.ANSWER_CODE_FAILED, set())
    assert "No space left on device" in refused.detail
    assert taken.code == pb.ANSWER_CODE_DONE
    assert world.running and len(world.manager.streams) == 1


async def test_an_epoch_that_cannot_be_kept_ends_it_in_one_line(world: Bench, small_disk: Path) -> None:
    """It would fence nobody after a restart; with 74, and with room it comes back."""
    await world.start()
    await world.manager.attached()
    await world.stop()
    world.manager.epoch += 1
    filler = fill(small_disk, 0)

    status, _, said = await run(*run_arguments(world), "--allow-root")
    filler.unlink()
    await world.start()
    async with asyncio.timeout(60):
        await world.manager.attached(len(world.manager.streams) + 1)

    file = small_disk / "memory.json"
    errors = [line for line in said.splitlines() if not line.startswith("{")]
    assert (status, errors) == (74, [f"error: {file} cannot be used (no space left on device)"])
    assert '"c1": 2' in file.read_text()
