"""Users of a running manager, each with a token of its own."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from syndicate.v1 import common_pb2 as common
from syndicate.v1 import scheduler_pb2 as pb
from syndicate.v1 import scheduler_pb2_grpc

from tests.manager.conftest import Running
from tests.manager.scripted import WAIT_S, ScriptedVolunteer, bearer, tarball, upload

STUDENT, STAFF, ADMIN = pb.USER_ROLE_STUDENT, pb.USER_ROLE_STAFF, pb.USER_ROLE_ADMIN


@dataclass(frozen=True)
class Person:
    """A user with a token."""

    name: str
    token: str
    token_id: str
    stub: scheduler_pb2_grpc.SchedulerStub

    @property
    def says(self) -> dict[str, Any]:
        """What each call of theirs takes."""
        return {"metadata": bearer(self.token), "timeout": WAIT_S}

    async def jobs(self, **wish: Any) -> list[int]:
        """The ids of the jobs that they are shown."""
        answer = await self.stub.ListJobs(pb.ListJobsRequest(**wish), **self.says)
        return [job.job_id for job in answer.jobs]

    async def submit(self, sha256: str, machines: int = 1, **spec: Any) -> int:
        """Queue a job of a source that is known."""
        wish = pb.JobSpec(source_sha256=sha256, machines=machines, **spec)
        answer = await self.stub.Submit(pb.SubmitRequest(request_id=new_id(), spec=wish), **self.says)
        return answer.job_id

    async def log(self, job_id: int, *tasks: str) -> bytes:
        """What they are shown of a job's output."""
        call = self.stub.ReadLogs(pb.ReadLogsRequest(job_id=job_id, tasks=tasks), **self.says)
        return b"".join([entry.piece.data async for entry in call])


def new_id() -> str:
    """A request id."""
    return str(uuid.uuid4())


async def put(manager: Running, *users: pb.User) -> None:
    """Have the admin add or change users."""
    await manager.scheduler.PutUsers(
        pb.PutUsersRequest(request_id=new_id(), users=users), **manager.credentials
    )


async def join(
    manager: Running,
    name: str,
    role: pb.UserRole.ValueType = STUDENT,
    team: str = "",
    scope: pb.TokenScope.ValueType = pb.TOKEN_SCOPE_ALL,
    expires_in_s: float = 0.0,
    quota: pb.Quota | None = None,
) -> Person:
    """A user, made so by the admin, with a new token."""
    await put(manager, pb.User(name=name, role=role, team=team, quota=quota))
    made = await manager.scheduler.CreateToken(
        pb.CreateTokenRequest(request_id=new_id(), user=name, scope=scope, expires_in_s=expires_in_s),
        **manager.credentials,
    )
    return Person(name, made.secret, made.token.token_id, manager.scheduler)


def admin(manager: Running) -> Person:
    """The first admin."""
    return Person("admin", manager.token, "admin", manager.scheduler)


@asynccontextmanager
async def running_job(
    manager: Running, owner: Person, clients: int = 0
) -> AsyncIterator[tuple[int, ScriptedVolunteer]]:
    """A job of the owner's that runs: one machine and some clients."""
    async with manager.volunteer().attached() as volunteer:
        source = await upload(manager.scheduler, tarball(), manager.token)
        client = await upload(manager.scheduler, tarball(Makefile="client:\n"), manager.token)
        spec = {"client_sha256": client.sha256, "clients": clients} if clients else {"no_client": True}
        job_id = await owner.submit(source.sha256, **spec)
        await manager.reaches(job_id, common.JOB_STATE_RUNNING)
        yield job_id, volunteer


async def audit(manager: Running, **wish: Any) -> list[pb.AuditLine]:
    """The audit log, newest first."""
    answer = await manager.scheduler.ListAudit(pb.ListAuditRequest(**wish), **manager.credentials)
    return list(answer.lines)


async def until(look: Any) -> Any:
    """Calls it until it gives something; what is waited for comes by itself, within the tests' deadline."""
    deadline = asyncio.get_running_loop().time() + WAIT_S
    found = await look()
    while not found and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.02)
        found = await look()
    assert found, "what was waited for did not come"
    return found


def code_and_reason(error: grpc.aio.AioRpcError) -> tuple[grpc.StatusCode, str]:
    """How a call was refused."""
    return error.code(), str(dict(error.trailing_metadata() or ()).get("syndicate-reason", ""))


async def publish(manager: Running, job_id: int, published: bool = True) -> None:
    """Have the admin publish a job, or take that back."""
    request = pb.PublishJobRequest(request_id=new_id(), job_id=job_id, published=published)
    await manager.scheduler.PublishJob(request, **manager.credentials)


async def who(person: Person) -> pb.WhoAmIResponse:
    """WhoAmI."""
    return await person.stub.WhoAmI(pb.WhoAmIRequest(), **person.says)


async def revoke(manager: Running, person: Person) -> None:
    """Have the admin revoke a user's token."""
    request = pb.RevokeTokenRequest(request_id=new_id(), token_id=person.token_id)
    await manager.scheduler.RevokeToken(request, **manager.credentials)


async def to_the_end(stream: Any) -> None:
    """Reads what comes until the stream ends."""
    while await stream.read() is not grpc.aio.EOF:
        pass
