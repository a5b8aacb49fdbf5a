"""Histories that clients hand over: waiting for all of them, across restarts, and who reads them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from syndicate.manager.histories import PIECE_BYTES
from syndicate.v1 import chaos_pb2 as chaos
from syndicate.v1 import chaos_pb2_grpc as chaos_grpc
from syndicate.v1 import common_pb2 as common
from syndicate.v1 import scheduler_pb2 as scheduler

from tests.manager.conftest import Running, Start
from tests.manager.people import STAFF, Person, join
from tests.manager.scripted import WAIT_S, ScriptedVolunteer, bearer, reason, tarball, upload
from tests.manager.test_chaos import new_id
from tests.manager.test_restart import still_held

DATA = bytes(range(256)) * 4


class Clients:
    """The clients of one job, as their volunteer relays their calls."""

    def __init__(self, manager: Running, volunteer: ScriptedVolunteer, channel: grpc.aio.Channel) -> None:
        self.manager = manager
        self.volunteer = volunteer
        self.stub = chaos_grpc.ChaosControlStub(channel)

    @property
    def job_id(self) -> int:
        """Their job."""
        return self.volunteer.task("client-0").job_id

    def said(self, number: int = 0, generation: int | None = None) -> dict[str, Any]:
        """What a relayed call of one of them carries."""
        ref = self.volunteer.task(f"client-{number}")
        task = f"{ref.cluster_id}/{ref.job_id}/{ref.attempt}/{ref.task}/{generation or ref.generation}"
        metadata = (
            *bearer(self.manager.volunteer_token),
            ("syndicate-session", self.volunteer.welcome.session),
            ("syndicate-task", task),
        )
        return {"metadata": metadata, "timeout": WAIT_S}

    def address(self, number: int) -> str:
        """The address of one of them."""
        prepare = self.volunteer.commands("prepare")[-1].prepare
        return next(member.address for member in prepare.members if member.task == f"client-{number}")

    async def put(self, number: int, data: bytes = DATA, generation: int | None = None, **how: Any) -> int:
        """Hands a history over whole, unless told otherwise."""
        whole = how.pop("whole", True)
        sha256 = how.pop("sha256", "") or (hashlib.sha256(data).hexdigest() if whole else "")
        request = chaos.PutHistoryRequest(
            data=data, sha256=sha256, final=how.pop("final", bool(sha256)), **how
        )
        return (await self.stub.PutHistory(request, **self.said(number, generation))).size

    async def gather(self, wait_s: float = 60.0) -> chaos.GatherHistoriesResponse:
        """What client-0 is told."""
        return await self.stub.GatherHistories(chaos.GatherHistoriesRequest(wait_s=wait_s), **self.said())

    async def finish(self, number: int) -> None:
        """One of them is done."""
        await self.stub.Finish(chaos.FinishRequest(request_id=new_id()), **self.said(number))

    async def kill(self, number: int) -> None:
        """Client-0 kills another one."""
        request = chaos.KillRequest(request_id=new_id(), ip=self.address(number))
        await self.stub.Kill(request, **self.said())


@asynccontextmanager
async def clients(manager: Running, number: int = 3) -> AsyncIterator[Clients]:
    """A job of one machine with clients runs."""
    async with (
        manager.volunteer(slots=8).attached() as volunteer,
        grpc.aio.insecure_channel(manager.volunteers) as channel,
    ):
        source = await upload(manager.scheduler, tarball(Makefile="client:\n"), manager.token)
        job_id = await manager.submit(machines=1, client_sha256=source.sha256, clients=number)
        await manager.reaches(job_id, common.JOB_STATE_RUNNING)
        yield Clients(manager, volunteer, channel)


def told(answer: chaos.GatherHistoriesResponse) -> list[tuple[str, str, int, bool]]:
    """Histories in short."""
    return [(one.task, one.name, one.size, bool(one.sha256)) for one in answer.histories]


async def test_gathering_waits_for_the_last_one(manager: Running) -> None:
    """It answers when every other client has handed all over; what was closed without `final` is not all."""
    async with clients(manager) as job:
        await job.put(0)
        await job.put(1, final=False)
        waiting = asyncio.ensure_future(job.gather())
        await job.put(2)
        with pytest.raises(grpc.aio.AioRpcError) as early:
            await job.gather(0)
        await job.put(1, name="second")
        found = await waiting

    assert reason(early) == "HISTORIES_MISSING" and "client-1:" in str(early.value.details())
    assert early.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert told(found) == [
        ("client-0", "history", 1024, True),
        ("client-1", "history", 1024, True),
        ("client-1", "second", 1024, True),
        ("client-2", "history", 1024, True),
    ]
    assert not found.missing


async def test_clients_that_end_without_handing_over_are_missing(manager: Running) -> None:
    """Killed or finished, with a part or nothing: nobody waits for them, and they are named."""
    async with clients(manager) as job:
        await job.put(1, whole=False)
        waiting = asyncio.ensure_future(job.gather())
        await job.kill(1)
        await job.finish(2)
        found = await waiting

    assert told(found) == [("client-1", "history", 1024, False)]
    assert list(found.missing) == ["client-1", "client-2"]


async def test_a_revived_client_is_waited_for_again(manager: Running) -> None:
    """What its first generation said was all of that one."""
    async with clients(manager, 2) as job:
        await job.put(1)
        await job.kill(1)
        before = await job.gather(0)
        request = chaos.ReviveRequest(request_id=new_id(), ip=job.address(1))
        revived = await job.stub.Revive(request, **job.said())
        with pytest.raises(grpc.aio.AioRpcError) as early:
            await job.gather(0)
        await job.put(1, name="history-2", generation=revived.generation)
        found = await job.gather(0)

    assert not before.missing and reason(early) == "HISTORIES_MISSING"
    assert [one.name for one in found.histories] == ["history", "history-2"] and not found.missing


async def test_histories_are_there_after_a_restart(start: Start) -> None:
    """Also half of one, which goes on; and the waiting begins again where it was."""
    async with start() as manager, clients(manager, 2) as job:
        await job.put(0)
        await job.put(1, DATA[:100], whole=False)
        folder = manager.state_dir / "histories" / str(job.job_id) / "1" / "client-1"
        told_before = job.volunteer
    with (folder / "history.data").open("ab") as file:
        file.write(b"a piece that was never acknowledged")
    async with start() as manager:
        script: dict[str, Any] = {"held": still_held(told_before), "cluster_id": told_before.cluster_id}
        async with (
            manager.volunteer(slots=8, **script).attached() as volunteer,
            grpc.aio.insecure_channel(manager.volunteers) as channel,
        ):
            volunteer.told += told_before.told  # how its tasks were started
            again = Clients(manager, volunteer, channel)
            waiting = asyncio.ensure_future(again.gather())
            size = await again.put(1, DATA[:100], whole=False)
            await again.put(1, DATA[100:], offset=100, sha256=hashlib.sha256(DATA).hexdigest())
            found = await waiting
            read = await again.stub.ReadHistory(chaos.ReadHistoryRequest(task="client-1"), **again.said())

    assert (size, read.data) == (100, DATA)
    assert told(found) == [(f"client-{number}", "history", 1024, True) for number in range(2)]


async def test_what_a_client_reads_and_may_not(manager: Running) -> None:
    """A piece of any history of its job, after Finish too; handing over and gathering end with it."""
    data = bytes(range(256)) * 1024
    async with clients(manager, 2) as job:
        first = chaos.PutHistoryRequest(data=data[:PIECE_BYTES])
        await job.stub.PutHistory(first, **job.said(1))
        await job.put(1, data[PIECE_BYTES:], offset=PIECE_BYTES, whole=False)
        await job.finish(0)
        parts = [
            (
                await job.stub.ReadHistory(
                    chaos.ReadHistoryRequest(task="client-1", offset=offset), **job.said()
                )
            ).data
            for offset in (0, PIECE_BYTES, len(data))
        ]
        refused = {}
        for name, request in (
            ("PutHistory", chaos.PutHistoryRequest()),
            ("GatherHistories", chaos.GatherHistoriesRequest()),
            ("ReadHistory", chaos.ReadHistoryRequest(task="client-1", name="../x")),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await getattr(job.stub, name)(request, **job.said())
            refused[name] = reason(caught)

    assert b"".join(parts) == data and [len(part) for part in parts] == [PIECE_BYTES, 65536, 0]
    assert refused == {
        "PutHistory": "CLIENT_FINISHED",
        "GatherHistories": "CLIENT_FINISHED",
        "ReadHistory": "NO_SUCH_HISTORY",
    }


@pytest.mark.parametrize("wait_s", [-1.0, 60.1, float("nan"), float("inf")])
async def test_a_wait_that_cannot_be(manager: Running, wait_s: float) -> None:
    """BAD_FIELD."""
    async with clients(manager, 1) as job:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await job.gather(wait_s)
    assert reason(caught) == "BAD_FIELD"


async def test_gathering_ends_with_the_job(manager: Running) -> None:
    """Whoever waits is told that nothing comes any more."""
    async with clients(manager, 2) as job:
        waiting = asyncio.ensure_future(job.gather())
        await asyncio.sleep(0)
        request = scheduler.CancelJobRequest(request_id=new_id(), job_id=job.job_id)
        await manager.scheduler.CancelJob(request, **manager.credentials)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await waiting
    assert reason(caught) in ("JOB_NOT_RUNNING", "ATTEMPT_ENDED", "NOT_A_CLIENT")


async def read_all(person: Person | None, manager: Running, job_id: int, **fields: Any) -> dict[str, bytes]:
    """Each history that a user is sent; its sizes and digests are what was said before."""
    stub, says = (manager.scheduler, manager.credentials) if person is None else (person.stub, person.says)
    found: dict[str, bytes] = {}
    sizes: dict[str, tuple[int, str]] = {}
    async for answer in stub.ReadHistories(scheduler.ReadHistoriesRequest(job_id=job_id, **fields), **says):
        key = f"{answer.task}/{answer.name}"
        sizes.setdefault(key, (answer.size, answer.sha256))
        found[key] = found.get(key, b"") + answer.data
    for key, (size, sha256) in sizes.items():
        assert size == len(found[key]) and sha256 in ("", hashlib.sha256(found[key]).hexdigest())
    return found


async def test_users_read_histories_while_the_job_runs_and_after(manager: Running) -> None:
    """All of a job's, or one client's; an attempt or a task that is not there is refused."""
    large = bytes(range(256)) * (3 << 10)
    async with clients(manager, 2) as job:
        for offset in range(0, len(large), PIECE_BYTES):
            await job.put(0, large[offset : offset + PIECE_BYTES], offset=offset, whole=False)
        await job.put(1, b"")
        running = await read_all(None, manager, job.job_id)
        for number in range(2):
            await job.finish(number)
        await manager.reaches(job.job_id, common.JOB_STATE_SUCCEEDED)
        ended = await read_all(None, manager, job.job_id, tasks=["client-1"], attempt=1)
        for bad in ({"attempt": 2}, {"attempt": -1}, {"tasks": ["client-2"]}, {"tasks": ["../x"]}):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await read_all(None, manager, job.job_id, **bad)
            assert reason(caught) == "BAD_FIELD", bad

    assert running == {"client-0/history": large, "client-1/history": b""}
    assert ended == {"client-1/history": b""}


async def test_students_read_them_once_the_job_is_published(manager: Running) -> None:
    """As what clients print; staff do before."""
    async with clients(manager, 1) as job:
        await job.put(0)
        student, staff = await join(manager, "alice"), await join(manager, "tutor", STAFF)
        hidden = await read_all(staff, manager, job.job_id)
        with pytest.raises(grpc.aio.AioRpcError) as other:
            await read_all(student, manager, job.job_id)
        published = scheduler.PublishJobRequest(request_id=new_id(), job_id=job.job_id, published=True)
        await manager.scheduler.PublishJob(published, **manager.credentials)
        shown = await read_all(student, manager, job.job_id)

    assert reason(other) == "NO_SUCH_JOB"
    assert hidden == shown == {"client-0/history": DATA}
