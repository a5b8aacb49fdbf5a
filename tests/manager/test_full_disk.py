"""A manager without room for the output of tasks, on a real file system that is full."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from syndicate.v1 import common_pb2 as common
from syndicate.v1 import scheduler_pb2 as scheduler

from tests.manager.conftest import Running, Start
from tests.manager.scripted import ScriptedVolunteer
from tests.manager.test_metrics import seen
from tests.support.metrics import value

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """The folder of output, with no room in it; the file that takes it all away."""
    folder = tmp_path / "state" / "logs"
    folder.mkdir(parents=True)
    options = ["-t", "tmpfs", "-o", "size=64k,mode=700", "syndisk", str(folder)]
    subprocess.run(["mount", *options], check=True, timeout=60)
    with (folder / "filler").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    yield folder / "filler"
    subprocess.run(["umount", str(folder)], check=True, timeout=60)


async def output_of_a_job(manager: Running, volunteer: ScriptedVolunteer) -> tuple[scheduler.Job, bytes]:
    """What can be read of a job that wrote one line, and how it ended."""
    started = len(volunteer.commands("start"))
    job_id = await manager.submit()
    await volunteer.until(lambda: len(volunteer.commands("start")) == started + 1)
    acked = sum(m.HasField("log_ack") for m in volunteer.told)
    volunteer.log(volunteer.task("master"), 0, b"hello\n")
    await volunteer.until(lambda: sum(m.HasField("log_ack") for m in volunteer.told) > acked)
    volunteer.exit(volunteer.task("master"))
    job = await manager.reaches(job_id, common.JOB_STATE_SUCCEEDED, common.JOB_STATE_FAILED)
    request = scheduler.ReadLogsRequest(job_id=job_id)
    return job, b"".join(
        [piece.piece.data async for piece in manager.scheduler.ReadLogs(request, **manager.credentials)]
    )


async def test_output_without_room_is_counted_and_the_job_goes_on(start: Start, full: Path) -> None:
    """The volunteer is told that it may forget it; with room the next job's output is kept again."""
    async with (
        start(metrics_listen="127.0.0.1:0") as manager,
        manager.volunteer().attached() as volunteer,
    ):
        first, nothing = await output_of_a_job(manager, volunteer)
        lost = value(await seen(manager), "syndicate_manager_log_bytes_total", outcome="lost")
        await asyncio.to_thread(full.unlink)
        second, all_of_it = await output_of_a_job(manager, volunteer)

    assert (first.state, nothing, lost) == (common.JOB_STATE_SUCCEEDED, b"", len(b"hello\n"))
    assert (second.state, all_of_it) == (common.JOB_STATE_SUCCEEDED, b"hello\n")
