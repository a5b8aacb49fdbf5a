"""Volunteers that were not upgraded yet: they say less, can do less, and ignore what they do not know."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import pytest
from google.protobuf.message import Message
from syndicate.v1 import chaos_pb2 as chaos
from syndicate.v1 import chaos_pb2_grpc as chaos_grpc
from syndicate.v1 import common_pb2 as common
from syndicate.v1 import registry_pb2 as registry
from syndicate.v1 import scheduler_pb2 as scheduler

from tests.manager.conftest import Running
from tests.manager.scripted import ScriptedVolunteer, reason, tarball, upload
from tests.manager.test_chaos import Client, new_id

# What the first volunteers knew of each message that has grown since.
KNOWN = {
    registry.Hello: range(1, 15),
    registry.Prepare: range(1, 6),
    registry.SetNetwork: range(1, 2),
    registry.Release: range(0),
    registry.Answer: range(1, 7),
    registry.TaskEvent: range(1, 5),
}


def older(message: Message) -> None:
    """Takes all of a message that the first volunteers neither sent nor read."""
    for field, value in message.ListFields():
        if field.number not in KNOWN.get(type(message), range(1, 1000)):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for one in [value] if isinstance(value, Message) else value:
                older(one)


@dataclass
class OlderVolunteer(ScriptedVolunteer):
    """One of the first: it can cut and kill, and that is all."""

    capabilities: tuple[str, ...] = ("cut", "kill")

    def say(self, **message: object) -> None:
        """Says what it knew how to say."""
        for one in message.values():
            assert isinstance(one, Message)
            older(one)
        super().say(**message)

    async def _take(self, message: registry.AttachResponse) -> None:
        older(message)
        await super()._take(message)


def volunteer(manager: Running) -> OlderVolunteer:
    """One of them, for this manager."""
    return OlderVolunteer(manager.volunteer_token, manager.volunteers)


@asynccontextmanager
async def client_of(manager: Running, older_one: OlderVolunteer) -> AsyncIterator[Client]:
    """A job of two machines and a client runs there."""
    async with grpc.aio.insecure_channel(manager.volunteers) as channel:
        source = await upload(manager.scheduler, tarball(Makefile="client:\n"), manager.token)
        job_id = await manager.submit(machines=2, client_sha256=source.sha256)
        await manager.reaches(job_id, common.JOB_STATE_RUNNING)
        yield Client(manager, older_one, job_id, chaos_grpc.ChaosControlStub(channel))


async def test_it_runs_a_job_from_submit_to_its_end(manager: Running) -> None:
    """Its heartbeats count, its output and its tasks' ends are taken, and `nodes` shows its version."""
    async with volunteer(manager).attached() as older_one:
        older_one.beat()
        job_id = await manager.submit(machines=2)
        await older_one.until(lambda: len(older_one.commands("start")) == 2)
        for task in ("master", "slave-0"):
            older_one.log(older_one.task(task), 0, b"hello\n")
            older_one.exit(older_one.task(task))
        job = await manager.reaches(job_id, common.JOB_STATE_SUCCEEDED, common.JOB_STATE_FAILED)
        await older_one.until(lambda: len(older_one.commands("release")) == 2)
        nodes = await manager.scheduler.ListNodes(scheduler.ListNodesRequest(), **manager.credentials)

    assert (job.state, job.attempt) == (common.JOB_STATE_SUCCEEDED, 1)
    assert [(n.version, n.state) for n in nodes.nodes] == [("test", scheduler.NODE_STATE_READY)]
    prepare = older_one.commands("prepare")[0].prepare
    assert prepare.source.sha256 and prepare.role and len(prepare.members) == 2


async def test_what_it_can_do_it_is_asked_for_as_ever(manager: Running) -> None:
    """A cut comes in the field that it knows, and is whole without the others."""
    async with volunteer(manager).attached() as older_one, client_of(manager, older_one) as client:
        slave = client.address("slave-0")
        await client.stub.Disconnect(
            chaos.DisconnectRequest(request_id=new_id(), ip=slave), **client.credentials
        )
        await client.stub.Kill(chaos.KillRequest(request_id=new_id(), ip=slave), **client.credentials)
        (cut,) = older_one.commands("set_network")

    assert list(cut.set_network.cut) == [client.address("master")]
    assert len(older_one.commands("kill")) == 1


async def test_what_it_cannot_do_is_refused_and_not_sent(manager: Running) -> None:
    """An error names the machine and what it cannot; nothing of the call was done at any member."""
    async with volunteer(manager).attached() as older_one, client_of(manager, older_one) as client:
        groups = [chaos.PartitionGroup(ips=[client.address(name)]) for name in ("master", "slave-0")]
        one_way = chaos.PartitionRequest(request_id=new_id(), groups=groups, one_way=True)
        slave = client.address("slave-0")
        for call, request in (
            (client.stub.Pause, chaos.PauseRequest(request_id=new_id(), ip=slave)),
            (client.stub.Reset, chaos.ResetRequest(request_id=new_id(), ip=slave)),
            (client.stub.Partition, one_way),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(request, **client.credentials)
            assert reason(refused) == "CANNOT"
            assert "node-a" in (refused.value.details() or "")
        job = await manager.job(client.job_id)

    assert older_one.commands("set_network") == older_one.commands("set_task") == []
    assert list(job.faults) == []


async def test_a_job_that_needs_more_is_refused_by_the_machines_name(manager: Running) -> None:
    """Loss of what is not synced needs every machine that it may come to; who cannot is named."""
    async with volunteer(manager).attached():
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await manager.submit(machines=1, lose_unsynced=True)

    assert reason(refused) == "CANNOT" and "node-a" in (refused.value.details() or "")
