"""Crowds at the users' door: silent connections, streams without end; others are served meanwhile."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, NamedTuple

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs
from syndicate.manager import app
from syndicate.manager.rpc import guard
from syndicate.manager.rpc.limits import OpenCalls
from syndicate.v1 import scheduler_pb2 as pb

from tests.manager.certified import LOCAL
from tests.manager.conftest import Running, Start
from tests.manager.people import Person, admin, code_and_reason, join, running_job, until, who
from tests.manager.scripted import WAIT_S, bearer, reason


async def silent(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that says nothing."""
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def until_closed(reader: asyncio.StreamReader) -> None:
    """Reads until the other side has closed."""
    async with asyncio.timeout(WAIT_S):
        with suppress(ConnectionResetError):  # what was written after that is answered so
            while await reader.read(4096):
                pass


async def test_a_connection_that_does_not_get_on_is_closed(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silent ones and those that begin and stop; two hundred of them keep nobody out."""
    begun = [b"", b"PRI * HTTP/2.0\r\n", b"GET / HTTP/1.1\r\n"]
    # As long as it takes a machine that stood still to say the first words of a good connection.
    quick = [(name, 6000 if "handshake" in name else value) for name, value in app.USERS_OPTIONS]
    monkeypatch.setattr(app, "USERS_OPTIONS", tuple(quick))
    async with start() as manager:
        alice = await join(manager, "alice")
        crowd = [await silent(manager.users) for _ in range(201)]
        for number, (_, writer) in enumerate(crowd):
            writer.write(begun[number % len(begun)])
        async with grpc.aio.insecure_channel(manager.users) as channel:
            await asyncio.wait_for(channel.channel_ready(), WAIT_S)
            stub = type(manager.scheduler)(channel)
            assert await Person("alice", alice.token, alice.token_id, stub).jobs() == []
        await asyncio.gather(*(until_closed(reader) for reader, _ in crowd))
        for _, writer in crowd:
            writer.close()


async def test_a_method_that_is_no_text_closes_no_door(manager: Running) -> None:
    """One call of a stranger's; some releases of gRPC end the whole listener by it."""
    # POST, http, `a`, the path; then the two that gRPC asks for.
    headers = b"\x83\x86\x01\x01a\x04\x04/x/\xff\x0f\x10\x10application/grpc\x00\x02te\x08trailers"
    reader, writer = await silent(manager.users)
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
    writer.write(bytes((0, 0, len(headers), 1, 5, 0, 0, 0, 1)) + headers)
    async with asyncio.timeout(WAIT_S):  # until the call is answered, or the connection is closed
        while (head := await reader.read(9)) and head[3] not in (1, 3):
            await reader.readexactly(int.from_bytes(head[:3], "big"))
    writer.close()
    async with grpc.aio.insecure_channel(manager.users, options=LOCAL) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        told = await check(health_pb2.HealthCheckRequest(), timeout=WAIT_S)

    assert told.status == health_pb2.HealthCheckResponse.SERVING


async def test_idle_streams_keep_nobody_out(manager: Running) -> None:
    """One student with as many as there may be, over several connections, and five times as many tries."""
    alice, bob = await join(manager, "alice"), await join(manager, "bob")
    async with running_job(manager, alice) as (job_id, _):
        request = pb.ReadLogsRequest(job_id=job_id, follow=True)
        channels = [grpc.aio.insecure_channel(manager.users) for _ in range(4)]
        stubs = [type(manager.scheduler)(channel) for channel in channels]
        calls = [stubs[n % 4].ReadLogs(request, metadata=bearer(alice.token)) for n in range(320)]
        for call in calls:
            await call.initial_metadata()

        async def refused() -> bool:
            """What a refused call begins with may come before its end."""
            return sum(call.done() for call in calls) >= 320 - 64

        await until(refused)
        assert await bob.jobs() == []
        assert await admin(manager).jobs() == [job_id]
        ended = [call for call in calls if call.done()]
        codes = [await call.code() for call in ended]
        for call in calls:
            call.cancel()
        for channel in channels:
            await channel.close()

    assert codes == [grpc.StatusCode.RESOURCE_EXHAUSTED] * (320 - 64)


def held_open(channel: grpc.aio.Channel, method: str, calls: int, token: str = "") -> list[Any]:
    """Calls that never say what they ask for."""
    open_: Any = channel.stream_stream(method)
    return [open_(metadata=bearer(token) if token else None) for _ in range(calls)]


async def test_calls_that_never_get_on_are_bounded(start: Start) -> None:
    """Of one user: others are served meanwhile, and it is, too, once it has ended some."""
    async with start(user_calls_per_s=10_000.0, user_calls_burst=15, user_streams=5) as manager:
        alice, bob = await join(manager, "alice"), await join(manager, "bob")
        async with grpc.aio.insecure_channel(manager.users) as channel:
            who_am_i = "/syndicate.v1.Scheduler/WhoAmI"
            held = held_open(channel, who_am_i, 20, alice.token)

            async def refused() -> str:
                try:
                    await who(alice)
                except grpc.aio.AioRpcError as error:
                    return code_and_reason(error)[1]
                return ""

            assert await until(refused) == "TOO_MANY_CALLS"
            assert (await who(bob)).user.name == "bob"
            held.pop().cancel()

            async def served() -> bool:
                return not await refused()

            assert await until(served)
            for call in held:
                call.cancel()


async def test_calls_without_a_credential_that_never_get_on_are_bounded(
    manager: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They take none of what users have, and leave room again as they end."""
    monkeypatch.setattr(guard, "_MOST_OF_STRANGERS", 1024)
    check = "/grpc.health.v1.Health/Check"
    async with (
        grpc.aio.insecure_channel(manager.users) as one,
        grpc.aio.insecure_channel(manager.users, options=LOCAL) as other,
    ):
        held = held_open(one, check, 600) + held_open(other, check, 424)
        stub = health_pb2_grpc.HealthStub(other)

        async def refused() -> str:
            try:
                await stub.Check(health_pb2.HealthCheckRequest(), timeout=WAIT_S)
            except grpc.aio.AioRpcError as error:
                return code_and_reason(error)[1]
            return ""

        assert await until(refused) == "TOO_MANY_CALLS"
        assert await admin(manager).jobs() == []
        for call in held:
            call.cancel()

        async def served() -> bool:
            return not await refused()

        assert await until(served)


async def half_closed(channel: grpc.aio.Channel, method: str, token: str = "") -> str:
    """A call that ends without having said what it asks for: the reason with which it is answered."""
    (call,) = held_open(channel, method, 1, token)
    await call.done_writing()
    async with asyncio.timeout(WAIT_S):
        return str(dict(await call.trailing_metadata()).get("syndicate-reason"))


async def test_calls_that_end_without_their_request_take_no_room(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is answered and then counted no more, a user's and a stranger's."""
    monkeypatch.setattr(guard, "_MOST_OF_STRANGERS", 1024)
    async with start(user_calls_per_s=10_000.0, user_calls_burst=300, user_streams=100) as manager:
        alice = await join(manager, "alice")
        async with grpc.aio.insecure_channel(manager.users) as channel:
            for method, token, calls in (
                ("/grpc.health.v1.Health/Check", "", 5_000),
                ("/syndicate.v1.Scheduler/WhoAmI", alice.token, 1_000),
                ("/syndicate.v1.Scheduler/WatchJob", alice.token, 1_000),
            ):
                told = set()
                for _ in range(calls // 50):
                    told |= {*await asyncio.gather(*(half_closed(channel, method, token) for _ in range(50)))}
                assert told == {"BAD_FIELD"}, method
        assert (await who(alice)).user.name == "alice"


async def test_a_call_without_a_credential_and_request_is_ended(
    manager: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever holds as many open as there may be shuts others out for so long, and users never."""
    monkeypatch.setattr(guard, "_MOST_OF_STRANGERS", 64)
    monkeypatch.setattr(guard, "_STRANGERS_REQUEST_WITHIN_S", 0.5)
    async with grpc.aio.insecure_channel(manager.users) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        users = held_open(channel, "/syndicate.v1.Scheduler/WhoAmI", 1, manager.token)
        held = held_open(channel, "/grpc.health.v1.Health/Check", 64)
        async with asyncio.timeout(WAIT_S):
            ended = [(await call.code(), dict(await call.trailing_metadata())) for call in held]

        async def served() -> bool:
            with suppress(grpc.aio.AioRpcError):
                await stub.Check(health_pb2.HealthCheckRequest(), timeout=WAIT_S)
                return True
            return False

        assert await until(served)
        assert not users[0].done()
        await users[0].write(b"")
        answer = pb.WhoAmIResponse.FromString(await users[0].read())

    assert {code for code, _ in ended} == {grpc.StatusCode.DEADLINE_EXCEEDED}
    assert {said["syndicate-reason"] for _, said in ended} == {"REQUEST_LATE"}
    assert answer.user.name == "admin"


@pytest.mark.parametrize("how", ["cancelled", "connection", "server"])
async def test_a_call_that_goes_away_without_its_request_is_no_trouble(
    how: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is over, and neither answered nor logged; memory of an answer that nobody takes gRPC would keep."""
    counted, answered = [], []

    class Counted(OpenCalls):
        """One that is seen here."""

        def begin(self, most: int, whose: str) -> None:
            """As it is, and counted here."""
            super().begin(most, whose)
            counted.append(self)

    async def serve(request: object, context: object) -> None:
        """Is not come to."""

    monkeypatch.setattr(guard, "OpenCalls", Counted)
    monkeypatch.setattr(guard, "_CANCELLED_WITHIN_S", WAIT_S)  # a machine that stands still is no trouble
    monkeypatch.setattr(guard, "abort", lambda context, error: answered.append(error))
    door: Any = None  # nobody comes to it
    guarded = guard.Guard(door, lambda: None)
    kinds = {"One": grpc.unary_unary_rpc_method_handler, "Many": grpc.unary_stream_rpc_method_handler}
    for name, make in kinds.items():
        guarded.add_open(f"/a.B/{name}", make(serve))
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((guarded,))
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
    await server.start()
    with capture_logs() as lines:
        held = [call for name in kinds for call in held_open(channel, f"/a.B/{name}", 200)]

        async def all_begun() -> bool:
            return len(counted) == 400

        async def all_over() -> bool:
            return not any(calls.count for calls in counted)

        await until(all_begun)
        if how == "cancelled":
            for call in held:
                call.cancel()
        elif how == "connection":
            await channel.close()
        else:
            await server.stop(0)
        await until(all_over)
        await channel.close()
        await server.stop(0)

    assert (lines, answered) == ([], [])
    said = [one for one in caplog.records if one.name.startswith("grpc") and one.levelname != "DEBUG"]
    assert said == []


async def test_methods_without_a_credential_take_no_room_of_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever holds all calls for health open shuts no machine out that joins."""

    class Asked(NamedTuple):
        method: str
        invocation_metadata: tuple[()] = ()

    async def serve(request: object, context: object) -> None:
        """Is not come to."""

    monkeypatch.setattr(guard, "_MOST_OF_STRANGERS", 1)
    door: Any = None  # nobody comes to it
    guarded = guard.Guard(door, lambda: None)
    for method, encode in (("/a.B/One", str), ("/a.B/Two", repr)):
        handler = grpc.unary_unary_rpc_method_handler(serve, response_serializer=encode)
        guarded.add_open(method, handler)
    first, again, other = (guarded.service(Asked(f"/a.B/{name}")) for name in ("One", "One", "Two"))

    assert first is not None and first.response_serializer is str
    assert again is not None and again.response_serializer is None
    assert other is not None and other.response_serializer is repr


async def test_health_is_watched_with_a_token_alone(manager: Running) -> None:
    """To ask once is everybody's; a stream is only for those who are known."""
    async with grpc.aio.insecure_channel(manager.users) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest()
        await stub.Check(request, timeout=WAIT_S)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Watch(request, timeout=WAIT_S).read()
        told = await stub.Watch(request, **manager.credentials).read()

    assert reason(refused) == "BAD_TOKEN"
    assert told.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_message_of_a_gigabyte_is_refused_before_it_is_read(manager: Running) -> None:
    """RESOURCE_EXHAUSTED from its announced length, and the manager serves on."""
    names = ["x" * 1000] * 2000
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await manager.scheduler.ReadLogs(
            pb.ReadLogsRequest(job_id=1, tasks=names), **manager.credentials
        ).read()

    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await admin(manager).jobs() == []
