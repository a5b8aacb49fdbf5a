"""Jobs that replay others, at a manager that serves: who may, what is filled in, and when the faults come."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from syndicate.client_api import Chaos, Nemesis, NotInReplay, SchedulerClient, nemesis
from syndicate.manager.core.effects import Answer
from syndicate.manager.core.events import Event, SubmitJob
from syndicate.manager.engine import Engine
from syndicate.v1 import common_pb2 as common
from syndicate.v1 import scheduler_pb2 as pb

from tests.manager.conftest import Running, Start
from tests.manager.people import STAFF, Person, code_and_reason, join, new_id
from tests.manager.scripted import WAIT_S, tarball, upload

ERROR = grpc.aio.AioRpcError
WITHIN_NS = 20_000_000
MOST_NS = 10**12


async def replay(who: Person, job_id: int, **spec: Any) -> int:
    """Somebody submits a replay of a job."""
    wish = pb.JobSpec(replay_of=job_id, **spec)
    answer = await who.stub.Submit(pb.SubmitRequest(request_id=new_id(), spec=wish), **who.says)
    return answer.job_id


async def refused(who: Person, job_id: int, **spec: Any) -> tuple[grpc.StatusCode, str]:
    """How a replay is refused."""
    with pytest.raises(ERROR) as error:
        await replay(who, job_id, **spec)
    return code_and_reason(error.value)


async def cancel(manager: Running, job_id: int) -> None:
    """A job ends."""
    request = pb.CancelJobRequest(request_id=new_id(), job_id=job_id)
    await manager.scheduler.CancelJob(request, **manager.credentials)
    await manager.reaches(job_id, common.JOB_STATE_CANCELLED)


async def broken(manager: Running, owner: Person, staff: Person | None = None, **spec: Any) -> int:
    """A job of the owner's, of two, that somebody broke and that has ended."""
    source = await upload(manager.scheduler, tarball(), manager.token)
    job_id = await owner.submit(source.sha256, **{"machines": 2, **spec})
    await manager.reaches(job_id, common.JOB_STATE_RUNNING)
    who = staff or owner
    with SchedulerClient(manager.users, who.token, insecure=True) as client, client.chaos(job_id) as chaos:
        members = await asyncio.to_thread(chaos.members)
        await asyncio.to_thread(chaos.disconnect, members[0])
    await cancel(manager, job_id)
    return job_id


def asked_at(job: pb.Job) -> list[tuple[int, str, int]]:
    """What was asked for in a job: kind, member, and when after the start, in nanoseconds.

    A line is written when its member has nothing else under way: those of one moment come in any order.
    """
    return sorted(
        (line.kind, line.task, line.requested_at.monotonic_ns - job.started_at.monotonic_ns)
        for line in job.faults
        if line.requested_by not in ("job end", "lease")
    )


async def test_faults_come_at_the_recorded_times(manager: Running) -> None:
    """A nemesis of all faults: the same calls, each asked for within 20 ms of its offset.

    What else the machine does may hold some of them up: each is to be that near in one of several replays.
    """
    alice = await join(manager, "alice")
    every = [
        nemesis.kill(rate=3, duration=(0.05, 0.1)),
        nemesis.pause(rate=3, duration=0.05),
        nemesis.disconnect(rate=3, duration=0.05),
        nemesis.reset(rate=3, duration=0.05),
        nemesis.partition("isolate-one", rate=3, duration=0.05),
        nemesis.degrade(loss="10%", rate=3, duration=0.05),
        nemesis.disk_full(rate=3, duration=0.05),
        nemesis.signal("QUIT", rate=3, duration=0.05),
    ]

    def work(chaos: Chaos) -> None:
        Nemesis(chaos, seed=7, faults=every).run(1.0)

    async with manager.volunteer().attached():
        source = await upload(manager.scheduler, tarball(), manager.token)
        job_id = await alice.submit(source.sha256, machines=2)
        await manager.reaches(job_id, common.JOB_STATE_RUNNING)
        with SchedulerClient(manager.users, alice.token, insecure=True) as client:
            await asyncio.to_thread(work, client.chaos(job_id))
        await cancel(manager, job_id)
        first = await manager.job(job_id)
        then, until = asked_at(first), asyncio.get_running_loop().time() + WAIT_S
        off_ns = [MOST_NS] * len(then)
        while max(off_ns) > WITHIN_NS and asyncio.get_running_loop().time() < until:
            made = await replay(alice, job_id)
            await until_played(manager, made, len(then))
            await cancel(manager, made)
            second = await manager.job(made)
            now = asked_at(second)
            assert [line[:2] for line in now] == [line[:2] for line in then]
            off_ns = [min(least, abs(b[2] - a[2])) for least, a, b in zip(off_ns, then, now, strict=True)]

    assert max(off_ns) <= WITHIN_NS
    assert second.spec.replay_of == job_id
    [told] = [line.text for line in second.story if line.event == "replay.ended"]
    assert told.startswith(f"replay of job {job_id}: ")


async def until_played(manager: Running, job_id: int, lines: int) -> None:
    """Wait until a replay has made so many lines, and all of them hold."""
    call = manager.scheduler.WatchJob(pb.WatchJobRequest(job_id=job_id), **manager.credentials)
    async for picture in call:
        found = [line for line in picture.job.faults if line.requested_by == "replay"]
        if len(found) >= lines and all(line.HasField("applied_at") for line in found):
            call.cancel()
            return
    raise AssertionError("the job ended before")


async def test_what_is_left_open_is_as_in_the_replayed_job(start: Start, tmp_path: Path) -> None:
    """Source, gang, limits and the client whose digest a student is not told: the manager fills them in."""
    path = tmp_path / "client.tgz"
    path.write_bytes(tarball(Makefile="client:\n\ttrue\n"))
    async with start(client=path) as manager, manager.volunteer().attached():
        alice, tutor = await join(manager, "alice"), await join(manager, "tutor", STAFF)
        job_id = await broken(manager, alice, tutor, limits=common.Limits(pids=99), time_limit_s=50.0)
        made = await replay(alice, job_id, name="again")
        first, second = await manager.job(job_id), await manager.job(made)
        shown = (await alice.stub.GetJob(pb.GetJobRequest(job_id=made), **alice.says)).job

    expected = pb.JobSpec()
    expected.CopyFrom(first.spec)
    expected.name, expected.replay_of = "again", job_id
    assert second.spec == expected
    assert second.spec.client_sha256 and not shown.spec.client_sha256
    assert second.story[0].text.endswith(f"a replay of job {job_id}")


async def test_who_may_not_run_a_job_may_not_replay_it(manager: Running) -> None:
    """What one may not see does not exist; what was published may be looked at, and not run."""
    async with manager.volunteer().attached():
        alice, mallory = await join(manager, "alice"), await join(manager, "mallory")
        job_id = await broken(manager, alice)
        assert await refused(mallory, job_id) == (grpc.StatusCode.NOT_FOUND, "NO_SUCH_JOB")
        request = pb.PublishJobRequest(request_id=new_id(), job_id=job_id, published=True)
        await manager.scheduler.PublishJob(request, **manager.credentials)
        assert await refused(mallory, job_id) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_TOO_LOW")
        assert await refused(alice, 4711) == (grpc.StatusCode.NOT_FOUND, "NO_SUCH_JOB")
        assert await refused(alice, -1) == (grpc.StatusCode.NOT_FOUND, "NO_SUCH_JOB")
        tutor = await join(manager, "tutor", STAFF)
        assert await replay(tutor, job_id)


async def test_a_replay_does_not_wait_for_other_submissions(
    manager: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To plan one takes up to 0.1 s: sixty in a row would hold everybody up for seconds."""
    call, waits = Engine.call, list[bool]()

    async def noted(
        engine: Engine, make: Callable[[int], Event], within_s: float | None = None, in_crowd: bool = False
    ) -> Answer:
        def made(number: int) -> Event:
            event = make(number)
            if isinstance(event, SubmitJob):
                waits.append(in_crowd)
            return event

        return await call(engine, made, within_s, in_crowd)

    monkeypatch.setattr(Engine, "call", noted)
    alice = await join(manager, "alice")
    async with manager.volunteer(slots=4).attached():
        job_id = await broken(manager, alice)
        await replay(alice, job_id)

    assert waits == [True, False]


async def test_a_team_mate_may(manager: Running) -> None:
    """Whose source is the team's, so is the job's replay."""
    stub = manager.scheduler
    await stub.PutTeam(
        pb.PutTeamRequest(request_id=new_id(), team=pb.Team(name="red")), **manager.credentials
    )
    async with manager.volunteer().attached():
        alice, bob = await join(manager, "alice", team="red"), await join(manager, "bob", team="red")
        job_id = await broken(manager, alice)
        made = await replay(bob, job_id)
        assert (await manager.job(made)).owner == "bob"


async def test_another_default_client_is_said(start: Start, tmp_path: Path) -> None:
    """A graded job is replayed with the client that grades, or by staff."""
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(tarball(Makefile=f"client:\n\techo {name}\n"))
    async with start(client=tmp_path / "one") as manager, manager.volunteer().attached():
        alice, tutor = await join(manager, "alice"), await join(manager, "tutor", STAFF)
        job_id = await broken(manager, alice, tutor)
    async with start(client=tmp_path / "two") as manager, manager.volunteer().attached():
        alice, tutor = await join(manager, "alice"), await join(manager, "tutor", STAFF)
        assert await refused(alice, job_id) == (grpc.StatusCode.FAILED_PRECONDITION, "CLIENT_CHANGED")
        made = await replay(tutor, job_id)
        first, second = await manager.job(job_id), await manager.job(made)
    assert first.spec.client_sha256 == second.spec.client_sha256


async def test_another_gang_and_a_job_that_runs_are_refused(manager: Running) -> None:
    """Each by its reason, and without a job."""
    async with manager.volunteer().attached():
        alice = await join(manager, "alice")
        job_id = await broken(manager, alice)
        assert await refused(alice, job_id, machines=3) == (grpc.StatusCode.INVALID_ARGUMENT, "BAD_FIELD")
        made = await replay(alice, job_id)
        await manager.reaches(made, common.JOB_STATE_RUNNING)
        assert await refused(alice, made) == (grpc.StatusCode.FAILED_PRECONDITION, "JOB_NOT_ENDED")
        await cancel(manager, made)
        source = await upload(manager.scheduler, tarball(), manager.token)
        whole = await alice.submit(source.sha256)
        await manager.reaches(whole, common.JOB_STATE_RUNNING)
        await cancel(manager, whole)
        assert await refused(alice, whole) == (grpc.StatusCode.FAILED_PRECONDITION, "NOTHING_TO_REPLAY")
        assert await alice.jobs() == [whole, made, job_id]


async def test_a_users_call_stands_for_the_recorded_one(manager: Running) -> None:
    """It does nothing itself; one without a counterpart is an error of its own."""
    async with manager.volunteer().attached():
        alice = await join(manager, "alice")
        job_id = await broken(manager, alice)
        with SchedulerClient(manager.users, alice.token, insecure=True) as client:
            made = await asyncio.to_thread(client.replay, job_id)
            await manager.reaches(made, common.JOB_STATE_RUNNING)
            with client.chaos(made) as chaos:
                members = await asyncio.to_thread(chaos.members)
                held = await asyncio.to_thread(chaos.disconnect, members[0])
                with pytest.raises(NotInReplay, match=f"replays job {job_id}"):
                    await asyncio.to_thread(chaos.pause, members[0])
                faults = await asyncio.to_thread(chaos.faults)
    assert list(held.fault_ids) == [fault.fault_id for fault in faults] == [1]
    assert faults[0].requested_by == "replay"


async def test_the_replayed_job_may_go(manager: Running) -> None:
    """The plan is the replay's own: it needs no other job's rows."""
    async with manager.volunteer(slots=2).attached():
        alice = await join(manager, "alice")
        job_id = await broken(manager, alice)
        source = await upload(manager.scheduler, tarball(), manager.token)
        other = await alice.submit(source.sha256, machines=2)
        await manager.reaches(other, common.JOB_STATE_RUNNING)
        made = await replay(alice, job_id)
        assert (await manager.job(made)).state == common.JOB_STATE_QUEUED
        path = manager.state_dir / "manager.db"
        with contextlib.closing(sqlite3.connect(path, timeout=60)) as rows, rows:
            rows.execute("DELETE FROM fault WHERE job_id = ?", (job_id,))
        await cancel(manager, other)
        await until_played(manager, made, 1)
