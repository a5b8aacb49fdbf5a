"""A manager that ends in the middle of things, and the one that follows it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import grpc
import pytest
from syndicate.v1 import common_pb2 as common
from syndicate.v1 import registry_pb2 as registry
from syndicate.v1 import scheduler_pb2 as scheduler

from tests.manager.conftest import Running, Start
from tests.manager.scripted import WAIT_S, ScriptedVolunteer, bearer, tarball, trailer, upload


def still_held(volunteer: ScriptedVolunteer) -> list[registry.HeldTask]:
    """What the volunteer holds, as it tells the next manager."""
    prepared = {c.task.task: c for c in volunteer.commands("prepare")}
    addresses = {m.task: m.address for c in prepared.values() for m in c.prepare.members}
    return [
        registry.HeldTask(
            task=c.task, slot=c.slot, address=addresses[c.task.task], state=common.TASK_STATE_RUNNING
        )
        for c in volunteer.commands("start")
    ]


async def test_a_running_job_goes_on_under_the_next_manager(start: Start) -> None:
    """The tasks that a volunteer still holds are adopted, and their ends count."""
    async with start() as manager, manager.volunteer().attached() as volunteer:
        job_id = await manager.submit(machines=2)
        await manager.reaches(job_id, common.JOB_STATE_RUNNING)
        told = volunteer
    async with start() as manager:
        script: dict[str, Any] = {"held": still_held(told), "cluster_id": told.cluster_id}
        async with manager.volunteer(**script).attached() as volunteer:
            for held in script["held"]:
                volunteer.exit(held.task)
            job = await manager.reaches(job_id, common.JOB_STATE_SUCCEEDED)

    assert job.attempt == 1
    assert volunteer.welcome.epoch == 2
    assert not volunteer.commands("start")


async def test_a_waiting_job_waits_on(start: Start) -> None:
    """A queued job survives a restart and runs when a volunteer comes."""
    async with start() as manager, manager.volunteer(answers=False).attached():
        job_id = await manager.submit()
    async with start() as manager, manager.volunteer(exit_at_start=True).attached():
        job = await manager.reaches(job_id, common.JOB_STATE_SUCCEEDED)

    assert job.submitted_at.utc_ns > 0


async def test_a_repeat_after_a_restart_gets_the_first_answer(start: Start) -> None:
    """A caller that does not know whether its Submit arrived may ask again after the restart."""
    request_id = str(uuid.uuid4())
    async with start() as manager, manager.volunteer(answers=False).attached():
        first = await manager.submit(request_id=request_id)
    async with start() as manager, manager.volunteer(answers=False).attached():
        again = await manager.submit(request_id=request_id)
        jobs = await manager.scheduler.ListJobs(scheduler.ListJobsRequest(), **manager.credentials)

    assert (again, len(jobs.jobs)) == (first, 1)


async def test_logs_survive_a_restart(start: Start) -> None:
    """What was read before is there after, and the volunteer's repeat adds nothing."""
    async with start() as manager, manager.volunteer().attached() as volunteer:
        job_id = await manager.submit()
        await manager.reaches(job_id, common.JOB_STATE_RUNNING)
        volunteer.log(volunteer.task("master"), 0, b"before ")
        await volunteer.until(lambda: any(m.HasField("log_ack") for m in volunteer.told))
        told = volunteer
    async with start() as manager:
        script: dict[str, Any] = {"held": still_held(told), "cluster_id": told.cluster_id}
        async with manager.volunteer(**script).attached() as volunteer:
            volunteer.log(told.task("master"), 0, b"before ")
            volunteer.log(told.task("master"), 7, b"after")
            volunteer.exit(told.task("master"))
            request = scheduler.ReadLogsRequest(job_id=job_id, follow=True)
            data = [p.piece.data async for p in manager.scheduler.ReadLogs(request, **manager.credentials)]

    assert b"".join(data) == b"before after"


async def test_those_who_wait_are_told_to_try_again(start: Start) -> None:
    """A stop ends streams and watches with UNAVAILABLE, not with silence."""
    async with start(stop_grace_s=WAIT_S) as manager:
        volunteer = manager.volunteer()
        async with volunteer.attached():
            job_id = await manager.submit(machines=1)
            await manager.reaches(job_id, common.JOB_STATE_RUNNING)
            watch = manager.scheduler.WatchJob(
                scheduler.WatchJobRequest(job_id=job_id), **manager.credentials
            )
            await watch.read()
            os.kill(os.getpid(), signal.SIGTERM)
            with pytest.raises(grpc.aio.AioRpcError) as told:
                await to_the_end(watch)
            async with asyncio.timeout(WAIT_S):
                error = await volunteer.ended

    assert told.value.code() is grpc.StatusCode.UNAVAILABLE
    assert error is not None and error.code() is grpc.StatusCode.UNAVAILABLE
    assert trailer(error)["syndicate-reason"] == "MANAGER_AWAY"


async def test_a_killed_manager_has_kept_every_job_it_acknowledged(tmp_path: Path) -> None:
    """kill -9 between answers loses nothing that was answered."""
    state = tmp_path / "state"
    process = manager_process(state)
    running = await until_ready(process, state)
    acknowledged: list[int] = []
    async with running.channel, running.volunteer(answers=False).attached():
        source = await upload(running.scheduler, tarball(), running.token)

        async def caller() -> None:
            while True:
                request = scheduler.SubmitRequest(
                    request_id=str(uuid.uuid4()),
                    spec=scheduler.JobSpec(source_sha256=source.sha256, machines=1),
                )
                answer = await running.scheduler.Submit(
                    request, metadata=bearer(running.token), timeout=WAIT_S
                )
                acknowledged.append(answer.job_id)
                if len(acknowledged) == 100:
                    process.kill()

        ends = await asyncio.gather(*(caller() for _ in range(8)), return_exceptions=True)
    process.wait(WAIT_S)

    process = manager_process(state)
    running = await until_ready(process, state)
    async with running.channel:
        listed = await running.scheduler.ListJobs(
            scheduler.ListJobsRequest(page_size=1000), **running.credentials
        )
    process.terminate()
    process.wait(WAIT_S)

    assert all(isinstance(end, grpc.aio.AioRpcError) for end in ends)
    assert len(acknowledged) >= 100
    assert {job.job_id for job in listed.jobs} >= set(acknowledged)


async def to_the_end(stream: Any) -> None:
    """Read a stream until it ends."""
    while await stream.read() is not grpc.aio.EOF:
        pass


def manager_process(state: Path) -> subprocess.Popen[bytes]:
    """A manager in a process of its own."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "syndicate.manager", "--state-dir", str(state)),
            *("--listen-users", "127.0.0.1:0", "--listen-volunteers", "127.0.0.1:0"),
            "--insecure",
        ],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )


async def until_ready(process: subprocess.Popen[bytes], state: Path) -> Running:
    """Wait until it says that it is ready."""
    assert process.stdout is not None
    line = await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), WAIT_S)
    process.stdout.close()
    assert line.startswith(b"ready ")
    said = json.loads((state / "manager.ready").read_text())
    tokens = [(state / f"{name}.token").read_text().strip() for name in ("admin", "volunteer")]
    channel = grpc.aio.insecure_channel(said["users"])
    return Running(state, said["users"], said["volunteers"], *tokens, said["epoch"], channel)
