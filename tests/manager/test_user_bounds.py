"""What a user of a running manager may do at once, and what ends with a token."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from syndicate.v1 import scheduler_pb2 as pb

from tests.manager.conftest import Running, Start
from tests.manager.people import (
    ADMIN,
    STAFF,
    STUDENT,
    Person,
    admin,
    code_and_reason,
    join,
    new_id,
    put,
    revoke,
    running_job,
    until,
    who,
)
from tests.manager.scripted import WAIT_S, bearer, tarball, trailer, upload

ERROR = grpc.aio.AioRpcError
# What a call is told whose caller is not who it was.
TOLD = {
    "revoked": (grpc.StatusCode.UNAUTHENTICATED, "BAD_TOKEN"),
    "disabled": (grpc.StatusCode.UNAUTHENTICATED, "USER_DISABLED"),
    "expired": (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED"),
    "moved": (grpc.StatusCode.UNAVAILABLE, "MANAGER_AWAY"),
    "lowered": (grpc.StatusCode.UNAVAILABLE, "MANAGER_AWAY"),
}


@pytest.mark.parametrize("how", ["revoked", "disabled", "expired", "moved"])
async def test_a_stream_ends_with_what_opened_it(manager: Running, how: str) -> None:
    """Within seconds, though nothing happens in it; who only changed teams opens another."""
    alice = await join(manager, "alice")
    async with running_job(manager, alice) as (job_id, _):
        if how == "expired":  # only now: all before it may take long
            alice = await join(manager, "alice", expires_in_s=1.5)
        request = pb.ReadLogsRequest(job_id=job_id, follow=True)
        stream = alice.stub.ReadLogs(request, metadata=bearer(alice.token), timeout=WAIT_S)
        await stream.initial_metadata()
        if how == "revoked":
            await revoke(manager, alice)
        elif how != "expired":
            team = "red" if how == "moved" else ""
            await put(manager, pb.User(name="alice", role=STUDENT, team=team, disabled=how == "disabled"))
        with pytest.raises(ERROR) as ended:
            await stream.read()

    assert code_and_reason(ended.value) == TOLD[how]


@pytest.mark.parametrize("how", ["revoked", "disabled", "lowered"])
async def test_what_comes_late_of_a_call_finds_who_the_caller_is_by_then(manager: Running, how: str) -> None:
    """Headers tell who calls; with the request held back until after that, nothing is gained."""
    eve = await join(manager, "eve", ADMIN)
    method: dict[str, Any] = {
        "request_serializer": pb.CreateTokenRequest.SerializeToString,
        "response_deserializer": pb.CreateTokenResponse.FromString,
    }
    async with grpc.aio.insecure_channel(manager.users) as channel:
        begin: Any = channel.stream_stream("/syndicate.v1.Scheduler/CreateToken", **method)
        held = begin(metadata=bearer(eve.token), timeout=WAIT_S)
        # Over the same connection, so that the headers before it were read.
        stub = type(manager.scheduler)(channel)
        assert (await who(Person("eve", eve.token, eve.token_id, stub))).user.name == "eve"
        if how == "revoked":
            await revoke(manager, eve)
        else:
            role = STUDENT if how == "lowered" else ADMIN
            await put(manager, pb.User(name="eve", role=role, disabled=how == "disabled"))
        await held.write(pb.CreateTokenRequest(request_id=new_id(), user="admin"))
        with pytest.raises(ERROR) as refused:
            await held.read()

    assert code_and_reason(refused.value) == TOLD[how]
    tokens = (await manager.scheduler.ListTokens(pb.ListTokensRequest(), **manager.credentials)).tokens
    assert [token.token_id for token in tokens] == ["admin"]


async def test_a_stream_of_reflection_ends_with_its_token_too(manager: Running) -> None:
    """It is gRPC's own servicer, a generator; the manager goes on for all others."""
    alice, bob = await join(manager, "alice"), await join(manager, "bob")
    async with grpc.aio.insecure_channel(manager.users) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        stream = stub.ServerReflectionInfo(metadata=bearer(alice.token), timeout=WAIT_S)
        await stream.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        assert (await stream.read()).list_services_response.service
        await revoke(manager, alice)
        with pytest.raises(ERROR) as ended:
            await stream.read()
    assert code_and_reason(ended.value) == (grpc.StatusCode.UNAUTHENTICATED, "BAD_TOKEN")
    assert (await who(bob)).user.name == "bob"


async def test_calls_a_second_are_bounded(start: Start) -> None:
    """Who calls too often is told when to come again; others are not hindered, and staff may more often."""
    async with start(user_calls_per_s=0.01, user_calls_burst=5) as manager:
        alice, bob = await join(manager, "alice"), await join(manager, "bob")
        tutor = await join(manager, "tutor", STAFF)
        for _ in range(5):
            await who(alice)
        with pytest.raises(ERROR) as refused:
            await who(alice)
        await who(bob)
        for _ in range(20):
            await who(tutor)
        for _ in range(100):
            await who(admin(manager))

    assert code_and_reason(refused.value) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS")
    assert 0 < float(trailer(refused.value)["syndicate-meta-retry_after_s"]) <= 100


async def test_changes_a_day_are_bounded(start: Start) -> None:
    """Nobody pushes what others did out of the audit log; who only looks is not hindered."""
    async with start(user_changes_per_day=5) as manager:
        alice, bob = await join(manager, "alice"), await join(manager, "bob")
        tutor = await join(manager, "tutor", STAFF)
        for person, most in ((alice, 5), (tutor, 50)):
            for _ in range(most):
                await make_token(manager, person)
            with pytest.raises(ERROR) as refused:
                await make_token(manager, person)
            assert code_and_reason(refused.value) == (
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "TOO_MANY_CALLS",
            )
        await make_token(manager, bob)
        for _ in range(10):
            await who(alice)
    assert 0 < float(trailer(refused.value)["syndicate-meta-retry_after_s"]) <= 86_400 / 5


async def make_token(manager: Running, person: Person) -> None:
    """Makes a token by the person's own, and ends it for room."""
    made = await person.stub.CreateToken(pb.CreateTokenRequest(request_id=new_id(), note="n"), **person.says)
    wish = pb.RevokeTokenRequest(request_id=new_id(), token_id=made.token.token_id)
    await manager.scheduler.RevokeToken(wish, metadata=bearer(manager.token), timeout=WAIT_S)


async def test_streams_are_bounded(start: Start) -> None:
    """So many at a time, of all connections; one that ends makes room, and nobody else waits for it."""
    async with start(user_streams=3) as manager:
        alice, bob = await join(manager, "alice"), await join(manager, "bob")
        async with running_job(manager, alice) as (job_id, _):
            request = pb.WatchJobRequest(job_id=job_id)
            open_ = [alice.stub.WatchJob(request, **alice.says) for _ in range(3)]
            for stream in open_:
                await stream.read()
            with pytest.raises(ERROR) as refused:
                await alice.stub.WatchJob(request, **alice.says).read()
            await bob.jobs()
            open_.pop().cancel()

            async def room() -> bool:
                try:
                    await alice.stub.WatchJob(request, **alice.says).read()
                except ERROR as error:
                    return error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED
                return True

            assert await until(room)

    assert code_and_reason(refused.value) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS")


async def test_a_quota_is_told_with_its_size(manager: Running) -> None:
    """RESOURCE_EXHAUSTED, the word, the most, and when to come again where waiting helps."""
    alice = await join(manager, "alice", quota=pb.Quota(submissions_per_day=1, machines=2))
    async with manager.volunteer(slots=4).attached():
        sha256 = (await upload(manager.scheduler, tarball(), manager.token)).sha256
        with pytest.raises(ERROR) as large:
            await alice.submit(sha256, machines=3, no_client=True)
        await alice.submit(sha256)
        with pytest.raises(ERROR) as many:
            await alice.submit(sha256)

    assert code_and_reason(large.value) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_MACHINES")
    assert trailer(large.value)["syndicate-meta-most"] == "2"
    assert code_and_reason(many.value) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_SUBMISSIONS")
    assert float(trailer(many.value)["syndicate-meta-retry_after_s"]) > 80_000
