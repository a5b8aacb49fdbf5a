"""A whole manager inside the test's event loop, on ports of its own."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import uvloop
from syndicate.manager import control
from syndicate.manager.app import serve
from syndicate.manager.pki import folder
from syndicate.manager.settings import load
from syndicate.v1 import scheduler_pb2 as scheduler
from syndicate.v1 import scheduler_pb2_grpc as scheduler_grpc

from tests.manager.scripted import WAIT_S, ScriptedVolunteer, bearer, tarball, upload


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that the manager runs on: see its `__main__`."""
    return {"uvloop": uvloop.new_event_loop}


@dataclass
class Running:
    """A manager that serves, and a channel to it as a user has one."""

    state_dir: Path
    users: str
    volunteers: str
    token: str
    volunteer_token: str
    epoch: int
    channel: grpc.aio.Channel
    serving: asyncio.Task[None] | None = None

    @property
    def scheduler(self) -> scheduler_grpc.SchedulerStub:
        """The users' service."""
        return scheduler_grpc.SchedulerStub(self.channel)

    @property
    def credentials(self) -> dict[str, Any]:
        """What every call takes: the token, and a deadline."""
        return {"metadata": bearer(self.token), "timeout": WAIT_S}

    @property
    def volunteer_credentials(self) -> dict[str, Any]:
        """The same at the volunteers' door."""
        return {"metadata": bearer(self.volunteer_token), "timeout": WAIT_S}

    def volunteer(self, **script: Any) -> ScriptedVolunteer:
        """A scripted volunteer for this manager."""
        return ScriptedVolunteer(self.volunteer_token, self.volunteers, **script)

    async def submit(self, machines: int = 1, data: bytes | None = None, **fields: Any) -> int:
        """Upload a source and queue a job of it."""
        source = await upload(self.scheduler, data or tarball(), self.token)
        user = fields.pop("user", None)
        request_id = fields.pop("request_id", None) or str(uuid.uuid4())
        spec = scheduler.JobSpec(source_sha256=source.sha256, machines=machines, **fields)
        metadata = bearer(self.token) + ((("syndicate-user", user),) if user else ())
        answer = await self.scheduler.Submit(
            scheduler.SubmitRequest(request_id=request_id, spec=spec), metadata=metadata, timeout=WAIT_S
        )
        return answer.job_id

    async def job(self, job_id: int) -> scheduler.Job:
        """A job whole."""
        answer = await self.scheduler.GetJob(scheduler.GetJobRequest(job_id=job_id), **self.credentials)
        return answer.job

    async def reaches(self, job_id: int, *states: int) -> scheduler.Job:
        """Watch a job until it is in one of these states."""
        call = self.scheduler.WatchJob(scheduler.WatchJobRequest(job_id=job_id), **self.credentials)
        async for picture in call:
            if picture.job.state in states:
                call.cancel()
                return picture.job
        raise AssertionError(f"job {job_id} never reached {states}")


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk may take seconds to sync: what waits for others with the authority's folder does not give up."""
    monkeypatch.setattr(control, "_WITHIN_S", WAIT_S)
    monkeypatch.setattr(folder, "_LOCK_S", WAIT_S)


Start = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Starts a manager on the test's state directory; several times in a row for restarts."""

    @asynccontextmanager
    async def run(**settings: Any) -> AsyncIterator[Running]:
        state_dir = settings.pop("state_dir", tmp_path / "state")
        flags = {
            "state_dir": state_dir,
            "listen_users": "127.0.0.1:0",
            "listen_volunteers": "127.0.0.1:0",
            "stop_grace_s": 0.1,
            # A scripted volunteer says nothing by itself: a test that is slow must not lose it.
            "heartbeat_interval_s": 100.0,
            "orphan_after_s": 300.0,
            "lost_after_s": 340.0,
            # What is under test is above the transport, which has tests of its own (test_transport.py).
            "insecure": True,
            **settings,
        }
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(serve(load(flags, None), ready.set_result))
        try:
            await asyncio.wait([task, ready], timeout=WAIT_S, return_when=asyncio.FIRST_COMPLETED)
            if not ready.done():
                await task
            said = dict(word.split("=") for word in ready.result().split()[1:])
            token = (state_dir / "admin.token").read_text().strip()
            shared = state_dir / "volunteer.token"
            volunteers = shared.read_text().strip() if shared.exists() else ""
            async with _channel(said["users"], state_dir / "tls" / "ca.pem", flags["insecure"]) as channel:
                doors = said["users"], said["volunteers"]
                yield Running(state_dir, *doors, token, volunteers, int(said["epoch"]), channel, task)
        finally:
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    return run


def _channel(address: str, ca: Path, insecure: bool) -> grpc.aio.Channel:
    if insecure:
        return grpc.aio.insecure_channel(address)
    options = [("grpc.use_local_subchannel_pool", 1)]
    return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(ca.read_bytes()), options)


@pytest.fixture
async def manager(start: Start) -> AsyncIterator[Running]:
    """A manager on an empty state directory."""
    async with start() as running:
        yield running
