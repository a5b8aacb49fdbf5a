"""ChaosControl as a volunteer relays it: attestation, faults, Finish."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from syndicate.v1 import chaos_pb2 as chaos
from syndicate.v1 import chaos_pb2_grpc as chaos_grpc
from syndicate.v1 import common_pb2 as common

from tests.manager.conftest import Running
from tests.manager.scripted import WAIT_S, ScriptedVolunteer, bearer, reason, tarball, upload

Metadata = tuple[tuple[str, str], ...]


class Client:
    """A client task, as its volunteer relays its calls."""

    def __init__(
        self, manager: Running, volunteer: ScriptedVolunteer, job_id: int, stub: chaos_grpc.ChaosControlStub
    ):
        ref = volunteer.task("client-0")
        task = f"{ref.cluster_id}/{ref.job_id}/{ref.attempt}/{ref.task}/{ref.generation}"
        self.job_id = job_id
        self.stub = stub
        self.volunteer = volunteer
        self.metadata: Metadata = (
            *bearer(manager.volunteer_token),
            ("syndicate-session", volunteer.welcome.session),
            ("syndicate-task", task),
        )

    @property
    def credentials(self) -> dict[str, object]:
        """What a relayed call carries."""
        return {"metadata": self.metadata, "timeout": WAIT_S}

    def address(self, task: str) -> str:
        """The address of a member."""
        prepare = self.volunteer.commands("prepare")[-1].prepare
        return next(m.address for m in prepare.members if m.task == task)


@asynccontextmanager
async def client_of_a_job(manager: Running) -> AsyncIterator[Client]:
    """A job of two machines and a client runs."""
    async with (
        manager.volunteer().attached() as volunteer,
        grpc.aio.insecure_channel(manager.volunteers) as channel,
    ):
        source = await upload(manager.scheduler, tarball(Makefile="client:\n"), manager.token)
        job_id = await manager.submit(machines=2, client_sha256=source.sha256)
        await manager.reaches(job_id, common.JOB_STATE_RUNNING)
        yield Client(manager, volunteer, job_id, chaos_grpc.ChaosControlStub(channel))


def new_id() -> str:
    """A request id."""
    return str(uuid.uuid4())


async def test_a_cut_is_answered_when_it_holds(manager: Running) -> None:
    """Disconnect sends the whole set and answers with the volunteer's stamp; again it says `already`."""
    async with client_of_a_job(manager) as client:
        request = chaos.DisconnectRequest(request_id=new_id(), ip=client.address("slave-0"))
        first = await client.stub.Disconnect(request, **client.credentials)
        again = await client.stub.Disconnect(
            chaos.DisconnectRequest(request_id=new_id(), ip=client.address("slave-0")), **client.credentials
        )
        (command,) = client.volunteer.commands("set_network")

    assert first.applied.fault_id == 1 and not first.applied.already
    assert first.applied.applied_at.boot_id == "boot-1"
    assert again.applied.already
    assert command.task.task == "slave-0"
    assert client.address("master") in command.set_network.cut


async def test_the_ledger_has_its_intent_before_the_command(manager: Running) -> None:
    """A fault that is under way stands in the job with no applied-at yet."""
    async with client_of_a_job(manager) as client:
        client.volunteer.answers = False
        request = chaos.KillRequest(request_id=new_id(), ip=client.address("slave-0"))
        call = asyncio.ensure_future(client.stub.Kill(request, **client.credentials))
        await client.volunteer.until(lambda: bool(client.volunteer.commands("kill")))
        before = await manager.job(client.job_id)
        client.volunteer.answer(client.volunteer.commands("kill")[0], processes=3)
        answer = await call
        after = await manager.job(client.job_id)

    assert not before.faults[0].HasField("applied_at")
    assert before.faults[0].requested_by == "client-0"
    assert answer.processes == 3
    assert after.faults[0].HasField("applied_at")


async def test_kill_and_revive_make_the_next_generation(manager: Running) -> None:
    """Revive without a word about the disk keeps it, and answers the generation that runs."""
    async with client_of_a_job(manager) as client:
        ip = client.address("slave-0")
        await client.stub.Kill(chaos.KillRequest(request_id=new_id(), ip=ip), **client.credentials)
        revived = await client.stub.Revive(
            chaos.ReviveRequest(request_id=new_id(), ip=ip), **client.credentials
        )
        (command,) = client.volunteer.commands("revive")
        members = await client.stub.ListMembers(chaos.ListMembersRequest(), **client.credentials)

    assert revived.generation == 2
    assert (command.revive.with_disk, command.task.generation) == (True, 2)
    assert {m.member.task: m.generation for m in members.members} == {
        "master": 1,
        "slave-0": 2,
        "client-0": 1,
    }


async def test_a_repeated_fault_happens_once(manager: Running) -> None:
    """The same request id gets the first answer, and no second command is sent."""
    async with client_of_a_job(manager) as client:
        request = chaos.KillRequest(request_id=new_id(), ip=client.address("master"))
        first = await client.stub.Kill(request, **client.credentials)
        again = await client.stub.Kill(request, **client.credentials)
        kills = client.volunteer.commands("kill")

    assert first == again
    assert len(kills) == 1


async def test_several_addresses_go_out_in_one_message(manager: Running) -> None:
    """One call, one message of commands, an answer with each member in the order of the addresses."""
    async with client_of_a_job(manager) as client:
        client.volunteer.answers = False
        ips = [client.address("slave-0"), client.address("master")]
        request = chaos.KillRequest(request_id=new_id(), ips=ips)
        call = asyncio.ensure_future(client.stub.Kill(request, **client.credentials))
        await client.volunteer.until(lambda: len(client.volunteer.commands("kill")) == 2)
        messages = [len(m.commands.commands) for m in client.volunteer.told if m.HasField("commands")]
        slave, master = client.volunteer.commands("kill")
        client.volunteer.answer(master, processes=5)
        client.volunteer.answer(slave, processes=3)
        answer = await call
        again = await client.stub.Kill(request, **client.credentials)
        job = await manager.job(client.job_id)

    assert messages[-1] == 2
    assert [(m.ip, m.processes, m.applied.fault_id) for m in answer.members] == [
        (ips[0], 3, 1),
        (ips[1], 5, 2),
    ]
    assert (answer.processes, answer.applied.already) == (8, False)
    assert answer.applied.fault_id in (1, 2)
    assert again == answer
    assert [fault.task for fault in job.faults] == ["slave-0", "master"]


async def test_one_address_has_one_member_in_the_answer(manager: Running) -> None:
    """Of each fault, whether it is named by `ip` or by `ips`."""
    async with client_of_a_job(manager) as client:
        ip, rest = client.address("slave-0"), client.credentials
        killed = await client.stub.Kill(chaos.KillRequest(request_id=new_id(), ip=ip), **rest)
        revived = await client.stub.Revive(chaos.ReviveRequest(request_id=new_id(), ips=[ip]), **rest)
        cut = await client.stub.Disconnect(chaos.DisconnectRequest(request_id=new_id(), ip=ip), **rest)
        healed = await client.stub.Reconnect(chaos.ReconnectRequest(request_id=new_id(), ips=[ip]), **rest)

    for answer in (killed, revived, cut, healed):
        [member] = answer.members
        assert (member.ip, member.applied) == (ip, answer.applied)
    assert revived.members[0].generation == revived.generation == 2


async def test_an_address_and_a_list_of_them_is_too_much(manager: Running) -> None:
    """`ip` or `ips`, not both."""
    async with client_of_a_job(manager) as client:
        master, slave = client.address("master"), client.address("slave-0")
        request = chaos.KillRequest(request_id=new_id(), ip=master, ips=[slave])
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.stub.Kill(request, **client.credentials)
        kills = client.volunteer.commands("kill")

    assert (refused.value.code(), reason(refused)) == (grpc.StatusCode.INVALID_ARGUMENT, "BAD_FIELD")
    assert kills == []


async def test_finish_decides_the_job(manager: Running) -> None:
    """What the last client says becomes the job's result, and later calls are refused."""
    async with client_of_a_job(manager) as client:
        result = common.Result(
            outcome=common.OUTCOME_FAIL, score=0.5, metrics={"lost": float("inf")}, text="lost a write"
        )
        answer = await client.stub.Finish(
            chaos.FinishRequest(request_id=new_id(), result=result), **client.credentials
        )
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.stub.Kill(
                chaos.KillRequest(request_id=new_id(), ip=client.address("master")), **client.credentials
            )
        job = await manager.reaches(client.job_id, common.JOB_STATE_FAILED)

    assert answer.clients_left == 0 and answer.finished_at.monotonic_ns > 0
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert job.result == result
    assert job.reason == common.REASON_CLIENT_FAILED


@pytest.mark.parametrize(
    ("ip", "code", "word"),
    [
        ("slave-0", grpc.StatusCode.INVALID_ARGUMENT, "NOT_AN_ADDRESS"),
        ("10.77.9.9", grpc.StatusCode.NOT_FOUND, "NO_SUCH_MEMBER"),
    ],
)
async def test_addresses_that_are_no_member_are_refused(
    manager: Running, ip: str, code: grpc.StatusCode, word: str
) -> None:
    """Only addresses of the caller's own job mean anything."""
    async with client_of_a_job(manager) as client:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.stub.Kill(chaos.KillRequest(request_id=new_id(), ip=ip), **client.credentials)

    assert (refused.value.code(), reason(refused)) == (code, word)


@pytest.mark.parametrize(
    "attested",
    [
        (),
        (("syndicate-session", "0" * 32),),
        (("syndicate-task", "c/1/1/client-0/1"),),
        (("syndicate-session", "0" * 32), ("syndicate-task", "c/1/1/client-0")),
        (("syndicate-session", "0" * 32), ("syndicate-task", "c/one/1/client-0/1")),
    ],
)
async def test_calls_without_an_attested_client_are_refused(manager: Running, attested: Metadata) -> None:
    """Every method wants to know which task calls, Ping too."""
    metadata = (*bearer(manager.volunteer_token), *attested)
    async with grpc.aio.insecure_channel(manager.volunteers) as channel:
        stub = chaos_grpc.ChaosControlStub(channel)
        calls = [
            (stub.Kill, chaos.KillRequest(request_id=new_id(), ip="10.77.0.2")),
            (stub.Revive, chaos.ReviveRequest(request_id=new_id(), ip="10.77.0.2")),
            (stub.Disconnect, chaos.DisconnectRequest(request_id=new_id(), ip="10.77.0.2")),
            (stub.Reconnect, chaos.ReconnectRequest(request_id=new_id(), ip="10.77.0.2")),
            (stub.Reset, chaos.ResetRequest(request_id=new_id(), ip="10.77.0.2")),
            (stub.Partition, chaos.PartitionRequest(request_id=new_id(), shape=chaos.PARTITION_SHAPE_HALVES)),
            (stub.Degrade, chaos.DegradeRequest(request_id=new_id(), ip="10.77.0.2")),
            (stub.Pause, chaos.PauseRequest(request_id=new_id(), ip="10.77.0.2")),
            (stub.Resume, chaos.ResumeRequest(request_id=new_id(), ip="10.77.0.2")),
            (stub.DiskFull, chaos.DiskFullRequest(request_id=new_id(), ip="10.77.0.2")),
            (stub.Signal, chaos.SignalRequest(request_id=new_id(), ip="10.77.0.2", signal=3)),
            (stub.Heal, chaos.HealRequest(request_id=new_id())),
            (stub.ListFaults, chaos.ListFaultsRequest()),
            (stub.Finish, chaos.FinishRequest(request_id=new_id())),
            (stub.PutHistory, chaos.PutHistoryRequest()),
            (stub.GatherHistories, chaos.GatherHistoriesRequest()),
            (stub.ReadHistory, chaos.ReadHistoryRequest(task="client-0")),
            (stub.ListMembers, chaos.ListMembersRequest()),
            (stub.Ping, chaos.PingRequest()),
        ]
        for method, request in calls:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await method(request, metadata=metadata, timeout=WAIT_S)
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
            assert reason(refused) == "NOT_A_CLIENT"


def by_session(client: Client, session: str) -> dict[str, object]:
    """The client's credentials, relayed over another stream."""
    metadata = tuple((k, session if k == "syndicate-session" else v) for k, v in client.metadata)
    return {"metadata": metadata, "timeout": WAIT_S}


async def test_a_volunteer_cannot_speak_for_anothers_client(manager: Running) -> None:
    """A task is believed only from the volunteer that holds it, known by its stream, not by what it says."""
    async with (
        client_of_a_job(manager) as client,
        manager.volunteer(volunteer_id="node-b").attached() as other,
    ):
        forged = by_session(client, other.welcome.session)
        forged["metadata"] = (*forged["metadata"], ("syndicate-volunteer", "node-a"))  # type: ignore[misc]  # a tuple
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.stub.Ping(chaos.PingRequest(), **by_session(client, other.welcome.session[:-1]))
        with pytest.raises(grpc.aio.AioRpcError) as denied:
            await client.stub.ListMembers(chaos.ListMembersRequest(), **forged)

    assert len(other.welcome.session) == 32
    assert (refused.value.code(), reason(refused)) == (grpc.StatusCode.UNAVAILABLE, "MANAGER_AWAY")
    assert (denied.value.code(), reason(denied)) == (grpc.StatusCode.PERMISSION_DENIED, "NOT_A_CLIENT")


async def until_refused(stub: chaos_grpc.ChaosControlStub, credentials: dict[str, object]) -> None:
    """Calls again and again; the manager sees the end of a stream a moment after the volunteer."""
    async with asyncio.timeout(WAIT_S):
        while True:
            await stub.Ping(chaos.PingRequest(), **credentials)


async def test_a_call_over_a_stream_that_ended_is_to_be_tried_again(manager: Running) -> None:
    """The volunteer has another stream soon, and the client calls again."""
    async with client_of_a_job(manager) as client:
        old = client.credentials
        await client.stub.Ping(chaos.PingRequest(), **old)
        client.volunteer.hang_up()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await until_refused(client.stub, old)

    assert (refused.value.code(), reason(refused)) == (grpc.StatusCode.UNAVAILABLE, "MANAGER_AWAY")


async def test_ping_tells_the_managers_clock(manager: Running) -> None:
    """Ping changes nothing and answers with a stamp."""
    async with client_of_a_job(manager) as client:
        answer = await client.stub.Ping(chaos.PingRequest(), **client.credentials)

    assert answer.manager_at.monotonic_ns > 0


async def test_a_report_that_is_too_long_is_refused(manager: Running) -> None:
    """The text of a result is bounded."""
    async with client_of_a_job(manager) as client:
        result = common.Result(text="x" * (64 << 10) + "x")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.stub.Finish(
                chaos.FinishRequest(request_id=new_id(), result=result), **client.credentials
            )

    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
