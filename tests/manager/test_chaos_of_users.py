"""What `client_api` does to a user's job, at a manager that serves: calls, and a nemesis of all faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from syndicate.client_api import (
    BadField,
    Chaos,
    FaultKind,
    Nemesis,
    NoSuchFault,
    NoSuchJob,
    NotAClient,
    SchedulerClient,
    TaskState,
    nemesis,
)
from syndicate.v1 import common_pb2 as common

from tests.manager import people
from tests.manager.conftest import Running
from tests.manager.people import join
from tests.manager.scripted import tarball

EVERYTHING = [
    nemesis.kill(rate=3, duration=(0.05, 0.1)),
    nemesis.pause(rate=3, duration=0.05),
    nemesis.disconnect(rate=3, duration=0.05),
    nemesis.reset(rate=3, duration=0.05),
    nemesis.partition("isolate-one", rate=3, duration=0.05),
    nemesis.degrade(loss="10%", rate=3, duration=0.05),
    nemesis.disk_full(rate=3, duration=0.05),
    nemesis.signal("QUIT", rate=3, duration=0.05),
]


@asynccontextmanager
async def broken_by_alice(manager: Running) -> AsyncIterator[tuple[SchedulerClient, int]]:
    """A job of two that alice runs, and her connection."""
    alice = await join(manager, "alice")
    async with manager.volunteer().attached():
        source = await people.upload(manager.scheduler, tarball(), manager.token)
        job_id = await alice.submit(source.sha256, machines=2)
        await manager.reaches(job_id, common.JOB_STATE_RUNNING)
        with SchedulerClient(manager.users, alice.token, insecure=True) as client:
            yield client, job_id


async def test_a_nemesis_leaves_a_job_as_it_was(manager: Running) -> None:
    """Every kind of fault is injected, recorded under the user's name, and taken back."""

    def work(chaos: Chaos) -> Nemesis:
        for _ in range(10):
            monkey = Nemesis(chaos, seed=7, faults=EVERYTHING)
            monkey.run(0.8)
            # Anew where the machine stood still longer than a nemesis waits for an answer: a fault that may
            # not have begun is taken back, and not injected again.
            if all(window.certain for window in monkey.windows()):
                return monkey
        raise AssertionError(f"a fault was uncertain ten times, at last: {monkey.windows()}")

    async with broken_by_alice(manager) as (client, job_id):
        chaos = client.chaos(job_id)
        monkey = await asyncio.to_thread(work, chaos)
        members = await asyncio.to_thread(chaos.members)
        faults = await asyncio.to_thread(chaos.faults)

    assert (monkey.refused(), monkey.unhealed()) == ((), ())
    assert {window.kind for window in monkey.windows()} == {fault.kind for fault in EVERYTHING}
    assert all(window.end_ns is not None for window in monkey.windows())
    assert {fault.kind for fault in faults} == set(FaultKind) - {
        FaultKind.RECONNECT,
        FaultKind.RESUME,
        FaultKind.UNSPECIFIED,
    }
    assert {fault.requested_by for fault in faults} == {"user:alice"}
    assert not any(fault.in_force for fault in faults)
    assert [member.state for member in members] == [TaskState.RUNNING] * 2


async def test_refusals_are_errors_of_the_tree(manager: Running) -> None:
    """Those of ChaosControl as ChaosErrors, those about the job as SchedulerErrors."""
    async with broken_by_alice(manager) as (client, job_id):
        with client.chaos(job_id) as chaos:
            [master, _] = await asyncio.to_thread(chaos.members)
            with pytest.raises(BadField, match="at least 8,000"):
                await asyncio.to_thread(chaos.degrade, master, rate=1)
            with pytest.raises(NoSuchFault):
                await asyncio.to_thread(chaos.heal, 99)
            with pytest.raises(NotAClient):
                await asyncio.to_thread(chaos.finish)
        with pytest.raises(NoSuchJob):
            await asyncio.to_thread(client.chaos(4711).members)
        assert (await asyncio.to_thread(client.job, job_id)).job_id == job_id  # its connection is still open
