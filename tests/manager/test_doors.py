"""Who may call what: tokens, listeners, health, reflection, and how errors travel."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from syndicate.manager.core import errors as core_errors
from syndicate.manager.core.machine import Machine
from syndicate.manager.core.model import Config, Quota, Stamp, TokenScope, UserRole
from syndicate.manager.core.records import TokenRecord, UserRecord
from syndicate.manager.core.users import digest_of
from syndicate.manager.engine import Engine
from syndicate.manager.rpc.doors import UsersDoor, VolunteersDoor
from syndicate.manager.rpc.errors import STATUS_OF, abort
from syndicate.manager.rpc.guard import Guard
from syndicate.v1 import chaos_pb2, registry_pb2, scheduler_pb2

from tests.manager.conftest import Running
from tests.manager.scripted import WAIT_S, bearer, reason, trailer

SCHEDULER = scheduler_pb2.DESCRIPTOR.services_by_name["Scheduler"]
REGISTRY = registry_pb2.DESCRIPTOR.services_by_name["Registry"]
CHAOS = chaos_pb2.DESCRIPTOR.services_by_name["ChaosControl"]
USERS = [SCHEDULER, CHAOS]
VOLUNTEERS = [REGISTRY, CHAOS]
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]
REFLECTION = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]


def methods(*services: Any) -> list[str]:
    """Full names of all methods of services, from their descriptors."""
    return [f"/{service.full_name}/{method.name}" for service in services for method in service.methods]


def doors(manager: Running) -> list[tuple[str, list[Any], str]]:
    """Each listener with its services, and the token that opens it."""
    return [
        (manager.users, USERS, manager.token),
        (manager.volunteers, VOLUNTEERS, manager.volunteer_token),
    ]


async def knock(
    address: str, method: str, metadata: tuple[tuple[str, str], ...] = (), message: bytes = b""
) -> grpc.aio.AioRpcError:
    """Call a method with one message, and return how it ended."""
    async with grpc.aio.insecure_channel(address) as channel:
        return await knock_on(channel, method, metadata, message)


async def knock_on(
    channel: grpc.aio.Channel, method: str, metadata: tuple[tuple[str, str], ...], message: bytes
) -> grpc.aio.AioRpcError:
    """The same over a channel that is there."""
    call = channel.unary_stream(method)(message, metadata=metadata, timeout=WAIT_S)
    try:
        while await call.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as error:
        return error
    return grpc.aio.AioRpcError(await call.code(), grpc.aio.Metadata(), await call.trailing_metadata())


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        bearer("wrong"),
        bearer(""),
        (("authorization", "Basic abc"),),
        (("authorization", "bearer"),),
        (("token", "x"),),
    ],
)
async def test_no_method_opens_without_the_token(
    manager: Running, metadata: tuple[tuple[str, str], ...]
) -> None:
    """Every method of every service on both listeners refuses a missing or wrong token."""
    for address, services in ((manager.users, USERS), (manager.volunteers, VOLUNTEERS)):
        for method in methods(*services, REFLECTION):
            error = await knock(address, method, metadata)
            assert error.code() is grpc.StatusCode.UNAUTHENTICATED, method
            assert trailer(error)["syndicate-reason"] == "BAD_TOKEN", method


async def test_every_method_opens_with_the_token(manager: Running) -> None:
    """No method that the protos have is missing or shut."""
    shut = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNKNOWN}
    for address, services, token in doors(manager):
        for method in methods(*services, REFLECTION):
            error = await knock(address, method, bearer(token))
            assert error.code() not in shut, method


async def test_each_listener_refuses_the_others_methods(manager: Running) -> None:
    """Scheduler is not served to volunteers, Registry not to users."""
    for address, service, token in (
        (manager.users, REGISTRY, manager.token),
        (manager.volunteers, SCHEDULER, manager.volunteer_token),
    ):
        for method in methods(service):
            error = await knock(address, method, bearer(token))
            assert error.code() is grpc.StatusCode.UNIMPLEMENTED, method


async def test_health_is_told_to_anybody(manager: Running) -> None:
    """Both listeners answer for themselves and for their services, without a token."""
    for address, services in ((manager.users, USERS), (manager.volunteers, VOLUNTEERS)):
        async with grpc.aio.insecure_channel(address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            for name in ("", *(service.full_name for service in services)):
                answer = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=WAIT_S)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING, name


async def test_reflection_lists_the_services(manager: Running) -> None:
    """A tool with the token can ask either listener what it has."""
    for address, services, token in doors(manager):
        async with grpc.aio.insecure_channel(address) as channel:
            call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
                iter([reflection_pb2.ServerReflectionRequest(list_services="")]),
                metadata=bearer(token),
                timeout=WAIT_S,
            )
            listed = {
                service.name async for answer in call for service in answer.list_services_response.service
            }
        assert listed >= {service.full_name for service in services}


async def test_an_error_carries_its_reason_twice(manager: Running) -> None:
    """The reason is in google.rpc.Status for those who have the protos, and in plain metadata for others."""
    request = scheduler_pb2.GetJobRequest(job_id=404)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await manager.scheduler.GetJob(request, **manager.credentials)

    status = rpc_status.from_call(refused.value)
    info = error_details_pb2.ErrorInfo()
    assert status is not None and status.details[0].Unpack(info)
    assert (info.reason, info.domain) == ("NO_SUCH_JOB", "syndicate")
    assert reason(refused) == "NO_SUCH_JOB"
    assert refused.value.details() == status.message == "there is no job 404"


@pytest.mark.parametrize("letter", ["x", "ä"])
async def test_an_error_that_says_much_arrives_as_itself(letter: str) -> None:
    """Texts of volunteers and long hints are cut: gRPC would end the call as another error."""
    error = core_errors.Refused("TOO_LARGE", letter * 20_000, hint=letter * 20_000, slots="8", more="y" * 900)

    async def refuse(_request: bytes, context: Any) -> bytes:
        await abort(context, error)

    handler = grpc.unary_unary_rpc_method_handler(refuse)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("x.X", {"Refuse": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        told = await knock(f"127.0.0.1:{port}", "/x.X/Refuse")
    finally:
        await server.stop(0)

    status = rpc_status.from_call(told)
    assert told.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert trailer(told)["syndicate-reason"] == "TOO_LARGE"
    assert trailer(told)["syndicate-meta-slots"] == "8"
    assert status is not None
    assert status.message == told.details()
    assert str(told.details()).endswith(f"{letter} …")


def test_every_domain_error_has_a_status() -> None:
    """The table knows every class of the core's error tree, each by the code its docstring promises."""
    promised = {
        line.split()[1]: line.split()[-1]
        for line in (core_errors.__doc__ or "").splitlines()
        if line.startswith(("├──", "└──"))
    }

    assert {kind.__name__: code.name for kind, code in STATUS_OF.items()} == promised
    assert set(STATUS_OF) == set(core_errors.CoreError.__subclasses__())


async def test_an_unexpected_failure_tells_nothing_of_itself() -> None:
    """A bug becomes INTERNAL with a number that is in the log, and none of its text."""

    async def broken(_request: bytes, _context: object) -> bytes:
        raise RuntimeError("the secret is in /etc/shadow")

    guard = Guard(VolunteersDoor("t"), lambda: None)
    guard.add_registered_method_handlers("x.X", {"Broken": grpc.unary_unary_rpc_method_handler(broken)})
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((guard,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as told:
                await channel.unary_unary("/x.X/Broken")(b"", metadata=bearer("t"), timeout=WAIT_S)
    finally:
        await server.stop(0)

    assert told.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(told.value.details())


async def test_a_manager_that_stops_takes_nothing_more() -> None:
    """Every call is answered UNAVAILABLE, so that callers try again."""
    guard = Guard(VolunteersDoor("t"), lambda: core_errors.Away("MANAGER_AWAY", "stopping"))
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((guard,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        error = await knock(f"127.0.0.1:{port}", methods(*USERS)[0], bearer("t"))
    finally:
        await server.stop(0)

    assert error.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_request_that_cannot_be_decoded_is_the_callers_error(manager: Running) -> None:
    """Each method answers so, and says nothing of the manager's insides."""
    for address, services, token in doors(manager):
        for method in methods(*services):
            error = await knock(address, method, bearer(token), b"\xff" * 40)
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, method
            assert trailer(error)["syndicate-reason"] in ("BAD_FIELD", "NO_HELLO"), method
            assert "deserializ" not in (error.details() or ""), method


async def test_a_call_that_ends_without_its_request_is_answered(manager: Running) -> None:
    """Each method of one request says so at once, whether it takes a credential or not; gRPC would not."""
    for address, services, token in doors(manager):
        told = [
            (f"/{service.full_name}/{method.name}", token)
            for service in (*services, HEALTH)
            for method in service.methods
            if not method.client_streaming
        ]
        async with grpc.aio.insecure_channel(address) as channel:
            for method, credential in (*told, (f"/{HEALTH.full_name}/Check", "")):
                begin: Any = channel.stream_stream(method)
                call = begin(metadata=bearer(credential) if credential else None, timeout=WAIT_S)
                await call.done_writing()
                assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT, method
                assert dict(await call.trailing_metadata())["syndicate-reason"] == "BAD_FIELD", method
                assert await call.details() == "the call ended before its request came", method


async def test_of_a_method_of_one_request_the_first_counts(manager: Running) -> None:
    """Whoever sends two is answered the first, and never because of the other."""
    asked = [health_pb2.HealthCheckRequest(service=name).SerializeToString() for name in ("", "none")]
    async with grpc.aio.insecure_channel(manager.users) as channel:
        for name in ("Check", "Watch"):
            begin: Any = channel.stream_stream(f"/{HEALTH.full_name}/{name}")
            call = begin(iter([*asked, b"\xff" * 40]), metadata=bearer(manager.token), timeout=WAIT_S)
            answer = health_pb2.HealthCheckResponse.FromString(await call.read())
            assert answer.status == health_pb2.HealthCheckResponse.SERVING, name
            call.cancel()


def test_nothing_is_kept_of_a_token_that_is_forgotten() -> None:
    """Else whoever makes, uses and ends tokens on and on would fill the manager's memory."""
    config, now = Config(cluster_id="c-1", epoch=1, boot_id="boot"), Stamp("boot", 1, 1)
    alice = UserRecord("alice", UserRole.STUDENT, "", False, Quota(), now)
    token = TokenRecord("t1", "alice", "", TokenScope.ALL, digest_of("secret"), now, 0)
    engine = SimpleNamespace(machine=Machine.restore(config, [alice, token], now))
    door = UsersDoor(cast(Engine, engine))
    door.known("syn_t1_secret")
    assert door.take_used() == {"t1"} and len(door._callers) == 1

    engine.machine = Machine.restore(config, [alice], now)
    door.take_used()

    assert not door._callers
