"""Faults that last, over real channels: asked for by clients through their volunteer, and by users."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from syndicate.v1 import chaos_pb2 as chaos
from syndicate.v1 import chaos_pb2_grpc as chaos_grpc
from syndicate.v1 import common_pb2 as common
from syndicate.v1 import scheduler_pb2 as pb

from tests.manager import people
from tests.manager.conftest import Running, Start
from tests.manager.people import STAFF, Person, join, running_job
from tests.manager.scripted import WAIT_S, bearer, reason, tarball, trailer
from tests.manager.test_chaos import Client, client_of_a_job, new_id


async def lines(client: Client, **wish: Any) -> list[common.Fault]:
    """The ledger, as the client is shown it."""
    answer = await client.stub.ListFaults(chaos.ListFaultsRequest(**wish), **client.credentials)
    return list(answer.faults)


async def test_a_partition_by_groups(manager: Running) -> None:
    """Each side is told its whole state; the answer has the members and the groups."""
    async with client_of_a_job(manager) as client:
        master, slave = client.address("master"), client.address("slave-0")
        groups = [chaos.PartitionGroup(ips=[master]), chaos.PartitionGroup(ips=[slave])]
        request = chaos.PartitionRequest(request_id=new_id(), groups=groups, lease_s=60.0)
        answer = await client.stub.Partition(request, **client.credentials)
        commands = {
            command.task.task: command.set_network for command in client.volunteer.commands("set_network")
        }
        found = await lines(client)

    assert [member.ip for member in answer.members] == [master, slave]
    assert list(answer.groups) == groups
    assert (commands["master"].cut, commands["slave-0"].cut) == ([slave], [master])
    assert [(line.task, line.call_id, line.lease_s, line.shape) for line in found] == [
        ("master", 1, 60.0, "groups"),
        ("slave-0", 1, 60.0, "groups"),
    ]
    assert [list(line.cut_out) for line in found] == [["slave-0"], ["master"]]
    assert found[0].text == "master | slave-0"


async def test_a_degradation_and_what_heals_it(manager: Running) -> None:
    """One command with all of it, one without; the ledger says when and by whom it was healed."""
    async with client_of_a_job(manager) as client:
        ip, worse = client.address("slave-0"), common.Degradation(loss_percent=10.0, delay_ms=50.0)
        request = chaos.DegradeRequest(request_id=new_id(), ip=ip, degradation=worse, one_way=True)
        await client.stub.Degrade(request, **client.credentials)
        healed = await client.stub.Heal(chaos.HealRequest(request_id=new_id()), **client.credentials)
        (made, taken) = client.volunteer.commands("set_network")
        (line, heal) = await lines(client)
        nothing = await client.stub.Heal(chaos.HealRequest(request_id=new_id()), **client.credentials)

    assert [(link.peer, link.sent, link.HasField("heard")) for link in made.set_network.links] == [
        ("", worse, False)
    ]
    assert taken.set_network.ByteSize() == 0
    assert (list(healed.healed), [member.ip for member in healed.members]) == ([1], [ip])
    assert (line.healed_by, line.degradation, line.one_way) == ("client-0", worse, True)
    assert line.healed_at_manager == heal.applied_at_manager
    assert (nothing.applied.already, list(nothing.members)) == (True, [])


async def test_pause_signal_resume_and_a_full_disk(manager: Running) -> None:
    """The members' list says what is so."""
    async with client_of_a_job(manager) as client:
        ip, stub, says = client.address("slave-0"), client.stub, client.credentials
        await stub.Pause(chaos.PauseRequest(request_id=new_id(), ip=ip), **says)
        await stub.DiskFull(chaos.DiskFullRequest(request_id=new_id(), ip=ip), **says)
        signal = await stub.Signal(chaos.SignalRequest(request_id=new_id(), ip=ip, signal=3), **says)
        members = await stub.ListMembers(chaos.ListMembersRequest(), **says)
        await stub.Resume(chaos.ResumeRequest(request_id=new_id(), ip=ip), **says)
        states = [(c.set_task.paused, c.set_task.disk_full) for c in client.volunteer.commands("set_task")]
        in_force = await lines(client, in_force=True)

    slave = next(member for member in members.members if member.member.task == "slave-0")
    assert (slave.paused, slave.disconnected, list(slave.faults)) == (True, False, [2])
    assert signal.members[0].processes == 2
    assert states == [(True, False), (True, True), (False, True)]
    assert [line.kind for line in in_force] == [common.FAULT_KIND_DISK_FULL]


async def test_the_ledger_comes_in_pages(manager: Running) -> None:
    """In the order of its lines."""
    async with client_of_a_job(manager) as client:
        for _ in range(3):
            request = chaos.SignalRequest(request_id=new_id(), ip=client.address("slave-0"), signal=3)
            await client.stub.Signal(request, **client.credentials)
        first = await client.stub.ListFaults(chaos.ListFaultsRequest(page_size=2), **client.credentials)
        rest = await client.stub.ListFaults(
            chaos.ListFaultsRequest(page_size=2, page_token=first.next_page_token), **client.credentials
        )

    assert [line.fault_id for line in first.faults] == [1, 2]
    assert ([line.fault_id for line in rest.faults], rest.next_page_token) == ([3], "")


async def test_what_a_machine_cannot_do_is_shown(manager: Running) -> None:
    """By `nodes`, with the reason."""
    poor = manager.volunteer(cannot={"delay": "no netem"}, capabilities=("cut",))
    async with poor.attached():
        answer = await manager.scheduler.ListNodes(pb.ListNodesRequest(), **manager.credentials)

    [node] = answer.nodes
    assert [(each.capability, each.why) for each in node.cannot] == [("delay", "no netem")]


async def test_cannot_travels_with_its_metadata(manager: Running) -> None:
    """FAILED_PRECONDITION, CANNOT."""
    async with (
        manager.volunteer(
            capabilities=("cut", "kill"), cannot={"pause": "no freezer"}
        ).attached() as volunteer,
        grpc.aio.insecure_channel(manager.volunteers) as channel,
    ):
        source = await people.upload(manager.scheduler, tarball(Makefile="client:\n"), manager.token)
        job_id = await manager.submit(machines=2, client_sha256=source.sha256)
        await manager.reaches(job_id, common.JOB_STATE_RUNNING)
        client = Client(manager, volunteer, job_id, chaos_grpc.ChaosControlStub(channel))
        request = chaos.PauseRequest(request_id=new_id(), ip=client.address("slave-0"))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.stub.Pause(request, **client.credentials)

    told = trailer(refused.value)
    assert (refused.value.code(), reason(refused)) == (grpc.StatusCode.FAILED_PRECONDITION, "CANNOT")
    assert (told["syndicate-meta-capability"], told["syndicate-meta-volunteer"]) == ("pause", "node-a")
    assert str(refused.value.details()).endswith("cannot do pause: no freezer")


@pytest.mark.parametrize(
    ("method", "request_", "word"),
    [
        ("Disconnect", chaos.DisconnectRequest(lease_s=0.0), "lease_s is 0"),
        ("Degrade", chaos.DegradeRequest(), "says nothing"),
        ("Degrade", chaos.DegradeRequest(degradation=common.Degradation(loss_percent=float("nan"))), "nan"),
        ("Signal", chaos.SignalRequest(signal=9), "Kill"),
    ],
)
async def test_bad_input_is_named(manager: Running, method: str, request_: Any, word: str) -> None:
    """INVALID_ARGUMENT, BAD_FIELD."""
    async with client_of_a_job(manager) as client:
        request_ = type(request_).FromString(request_.SerializeToString())
        request_.request_id, request_.ip = new_id(), client.address("slave-0")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await getattr(client.stub, method)(request_, **client.credentials)

    assert (refused.value.code(), reason(refused)) == (grpc.StatusCode.INVALID_ARGUMENT, "BAD_FIELD")
    assert word in str(refused.value.details())


# ---- users ------------------------------------------------------------------------------------------------


def about(person: Person, job_id: int) -> dict[str, Any]:
    """What a user's call about a job takes."""
    return {"metadata": (*bearer(person.token), ("syndicate-job", str(job_id))), "timeout": WAIT_S}


async def test_a_user_breaks_her_own_job(manager: Running) -> None:
    """The ledger and the audit log say who; the ledger can be read when the job is over."""
    alice, tutor = await join(manager, "alice"), await join(manager, "tutor", STAFF)
    stub = chaos_grpc.ChaosControlStub(manager.channel)
    async with running_job(manager, alice) as (job_id, volunteer):
        job = await manager.job(job_id)
        ip = job.tasks[0].address
        await stub.Pause(chaos.PauseRequest(request_id=new_id(), ip=ip), **about(alice, job_id))
        await stub.Heal(chaos.HealRequest(request_id=new_id()), **about(tutor, job_id))
        volunteer.exit(volunteer.task("master"))
        await manager.reaches(job_id, common.JOB_STATE_SUCCEEDED)
        answer = await stub.ListFaults(chaos.ListFaultsRequest(), **about(alice, job_id))
        members = await stub.ListMembers(chaos.ListMembersRequest(), **about(alice, job_id))
        audit = await people.audit(manager, job_id=job_id)

    assert [(line.requested_by, line.healed_by) for line in answer.faults] == [
        ("user:alice", "user:tutor"),
        ("user:tutor", ""),
    ]
    assert [member.member.address for member in members.members] == [ip]
    assert [(line.who, line.method, line.subject) for line in audit][:2] == [
        ("tutor", "Heal", f"job {job_id}"),
        ("alice", "Pause", f"job {job_id}"),
    ]


async def test_a_graded_job_is_not_broken_by_its_owner(start: Start, tmp_path: Any) -> None:
    """GRADED for the student, in words that say why; staff may."""
    client = tmp_path / "client.tar"
    client.write_bytes(tarball(Makefile="client:\n\ttrue\n"))
    async with start(client=client) as manager:
        alice, tutor = await join(manager, "alice"), await join(manager, "tutor", STAFF)
        stub = chaos_grpc.ChaosControlStub(manager.channel)
        async with manager.volunteer().attached():
            source = await people.upload(manager.scheduler, tarball(), manager.token)
            job_id = await alice.submit(source.sha256)
            job = await manager.reaches(job_id, common.JOB_STATE_RUNNING)
            request = chaos.KillRequest(request_id=new_id(), ip=job.tasks[0].address)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.Kill(request, **about(alice, job_id))
            looked = await stub.ListFaults(chaos.ListFaultsRequest(), **about(alice, job_id))
            killed = await stub.Kill(request, **about(tutor, job_id))

    assert (refused.value.code(), reason(refused)) == (grpc.StatusCode.PERMISSION_DENIED, "GRADED")
    assert "is graded" in str(refused.value.details())
    assert (len(looked.faults), killed.processes) == (0, 3)
