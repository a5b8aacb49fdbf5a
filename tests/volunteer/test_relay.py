"""ChaosControl from a client's socket to the manager and back, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from syndicate.v1 import chaos_pb2, chaos_pb2_grpc
from syndicate.volunteer import local, relay
from syndicate.volunteer.core.model import TaskRef
from syndicate.volunteer.relay import Relay, RelayEdges, Relays, Upstream
from volunteer.fakes import DEADLINE, FakeManager, eventually

TASK = local.TaskId("c1", 7, 1, "client-0")


@dataclass
class World:
    """A manager, a relay, and a stub on its socket."""

    manager: FakeManager
    relay: Relay
    stub: Any
    path: Path
    state: dict[str, Any] = field(default_factory=dict)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """The socket of client-0, generation 1."""
    manager = FakeManager()
    await manager.open()
    channel = grpc.aio.insecure_channel(manager.target)
    state: dict[str, Any] = {"caller": TaskRef("c1", 7, 1, "client-0", 1)}
    state["upstream"] = Upstream(channel, (("authorization", "Bearer the-token"),), "stream-1")
    edges = RelayEdges(lambda cluster: state["upstream"], lambda slot: state["caller"])
    path = tmp_path / "chaos.sock"
    made = Relay(0, TASK, path, edges)
    await made.open()
    async with grpc.aio.insecure_channel(f"unix:{path}") as client:
        yield World(manager, made, chaos_pb2_grpc.ChaosControlStub(client), path, state)
    await made.close()
    await channel.close()
    await manager.close()


async def refused(call: Any) -> grpc.aio.AioRpcError:
    """The error of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def ping(stub: Any) -> None:
    """One call that must succeed."""
    await stub.Ping(chaos_pb2.PingRequest(), timeout=DEADLINE)


def trailing(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    """The error's trailing metadata."""
    return dict(error.trailing_metadata() or ())


async def test_a_call_reaches_the_manager_and_its_answer_comes_back(world: World) -> None:
    """Bytes in, bytes out."""
    answer = await world.stub.Kill(chaos_pb2.KillRequest(ip="10.77.0.3"), timeout=DEADLINE)

    assert answer.processes == len("10.77.0.3")


async def test_the_volunteer_attests_who_calls(world: World) -> None:
    """Its own credential, the name of its stream, and the run of the task at the time of the call."""
    world.state["caller"] = TaskRef("c1", 7, 1, "client-0", 3)

    await world.stub.Ping(chaos_pb2.PingRequest(), timeout=DEADLINE)

    (seen,) = world.manager.chaos.callers
    assert seen["syndicate-session"] == "stream-1"
    assert seen["syndicate-task"] == "c1/7/1/client-0/3"
    assert seen["authorization"] == "Bearer the-token"


async def test_what_the_task_says_of_itself_is_not_passed_on(world: World) -> None:
    """A client cannot pretend to be another, nor bring a credential."""
    forged = (
        ("syndicate-task", "c1/8/1/client-0/1"),
        ("syndicate-session", "stream-2"),
        ("syndicate-volunteer", "node-b"),
        ("authorization", "Bearer stolen"),
        ("x-anything", "1"),
    )

    await world.stub.Ping(chaos_pb2.PingRequest(), timeout=DEADLINE, metadata=forged)

    (seen,) = world.manager.chaos.callers
    assert seen["syndicate-task"] == "c1/7/1/client-0/1"
    assert seen["syndicate-session"] == "stream-1"
    assert seen["authorization"] == "Bearer the-token"
    assert "x-anything" not in seen


async def test_status_text_and_trailing_metadata_come_back_as_they_are(world: World) -> None:
    """Binary details included."""
    metadata = (("syndicate-reason", "NO_SUCH_MEMBER"), ("grpc-status-details-bin", b"\x08\x05\xff"))
    world.manager.chaos.abort = (grpc.StatusCode.NOT_FOUND, "10.0.0.9 is no member — ¿?", metadata)

    error = await refused(world.stub.Kill(chaos_pb2.KillRequest(ip="10.0.0.9"), timeout=DEADLINE))

    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "10.0.0.9 is no member — ¿?")
    assert trailing(error)["syndicate-reason"] == "NO_SUCH_MEMBER"
    assert trailing(error)["grpc-status-details-bin"] == b"\x08\x05\xff"


async def test_an_answers_trailing_metadata_comes_back_too(world: World) -> None:
    """Not only an error's."""
    call = world.stub.Ping(chaos_pb2.PingRequest(), timeout=DEADLINE)
    await call

    assert ("syndicate-note", "fine") in [tuple(pair) for pair in await call.trailing_metadata()]


async def test_the_callers_deadline_is_passed_on(world: World) -> None:
    """The manager knows how long somebody waits."""
    await world.stub.Ping(chaos_pb2.PingRequest(), timeout=20.0)

    (remaining,) = world.manager.chaos.remaining
    assert remaining is not None
    assert 10.0 < remaining < 22.0  # gRPC rounds deadlines up on the wire


async def test_a_manager_that_is_not_attached_is_unavailable(world: World) -> None:
    """With the reason that clients know."""
    world.state["upstream"] = None

    error = await refused(world.stub.Ping(chaos_pb2.PingRequest(), timeout=DEADLINE))

    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert trailing(error)["syndicate-reason"] == "MANAGER_AWAY"


async def test_a_manager_that_vanishes_is_unavailable(world: World) -> None:
    """gRPC's own failure gets the same reason; the manager's own does not."""
    await world.manager.close()

    error = await refused(world.stub.Ping(chaos_pb2.PingRequest(), timeout=DEADLINE))

    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert trailing(error)["syndicate-reason"] == "MANAGER_AWAY"


async def test_a_call_whose_channel_is_closed_under_it_is_unavailable(world: World) -> None:
    """As where the volunteer ends, or has a new certificate: a client tries again, under the same id."""
    world.manager.chaos.gate = asyncio.Event()
    waiting = asyncio.ensure_future(refused(world.stub.Ping(chaos_pb2.PingRequest(), timeout=DEADLINE)))
    await eventually(lambda: world.manager.chaos.callers)

    await world.state["upstream"].channel.close()
    error = await waiting

    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert trailing(error)["syndicate-reason"] == "MANAGER_AWAY"


async def test_the_managers_own_unavailable_keeps_its_reason(world: World) -> None:
    """VOLUNTEER_AWAY is not the manager's absence."""
    metadata = (("syndicate-reason", "VOLUNTEER_AWAY"),)
    world.manager.chaos.abort = (grpc.StatusCode.UNAVAILABLE, "node-b is away", metadata)

    error = await refused(world.stub.Ping(chaos_pb2.PingRequest(), timeout=DEADLINE))

    assert trailing(error)["syndicate-reason"] == "VOLUNTEER_AWAY"


async def test_a_socket_outlived_by_its_task_is_refused(world: World) -> None:
    """The slot holds another task now: nothing is attested for this one."""
    world.state["caller"] = TaskRef("c1", 8, 1, "client-0", 1)

    error = await refused(world.stub.Ping(chaos_pb2.PingRequest(), timeout=DEADLINE))

    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    assert world.manager.chaos.callers == []


async def test_a_caller_that_gives_up_cancels_its_call(world: World) -> None:
    """Nothing waits on for somebody who is gone."""
    world.manager.chaos.gate = asyncio.Event()
    call = world.stub.Ping(chaos_pb2.PingRequest(), timeout=DEADLINE)
    waiting = asyncio.ensure_future(call)
    await eventually(lambda: world.manager.chaos.callers)

    waiting.cancel()

    async with asyncio.timeout(DEADLINE):
        await world.manager.chaos.cancelled.wait()


async def test_too_many_calls_at_a_time_are_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is told, and what is under way goes on."""
    monkeypatch.setattr(relay, "MAX_CALLS", 2)
    gate = world.manager.chaos.gate = asyncio.Event()
    waiting = [
        asyncio.ensure_future(world.stub.Ping(chaos_pb2.PingRequest(), timeout=DEADLINE)) for _ in range(2)
    ]
    await eventually(lambda: len(world.manager.chaos.callers) == 2)

    error = await refused(world.stub.Ping(chaos_pb2.PingRequest(), timeout=DEADLINE))
    gate.set()
    answers = await asyncio.gather(*waiting)

    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert trailing(error)["syndicate-reason"] == "TOO_MANY_CALLS"
    assert len(answers) == 2


async def test_connections_of_one_client_are_bounded(world: World) -> None:
    """A task that connects without end takes no more descriptors than its bound; others are still served."""
    links = [await asyncio.open_unix_connection(world.path) for _ in range(4 * relay.MAX_CONNECTIONS)]

    async def is_served(reader: asyncio.StreamReader) -> bool:
        try:  # a connection that is taken is greeted with HTTP/2's settings, another is closed
            return bool(await asyncio.wait_for(reader.read(1), DEADLINE))
        except ConnectionError:
            return False

    served = await asyncio.gather(*(is_served(reader) for reader, _ in links))
    for _, writer in links:
        writer.close()

    assert 0 < sum(served) <= relay.MAX_CONNECTIONS


async def test_a_message_that_is_too_large_is_refused(world: World) -> None:
    """256 KiB; it never reaches the manager."""
    large = chaos_pb2.KillRequest(ip="x" * (relay.MAX_MESSAGE_BYTES + 1))

    error = await refused(world.stub.Kill(large, timeout=DEADLINE))

    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert world.manager.chaos.callers == []


async def test_calls_of_one_connection_wait_on_the_clients_side(world: World) -> None:
    """So many are under way here as the bound says; the others come when there is room, and none fails."""
    gate = world.manager.chaos.gate = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(2 * relay.MAX_STREAMS):
            tasks.create_task(ping(world.stub))
        await eventually(lambda: len(world.manager.chaos.callers) >= relay.MAX_STREAMS)
        last = asyncio.ensure_future(world.stub.Ping(chaos_pb2.PingRequest(), timeout=0.2))
        error = await refused(last)
        before = len(world.manager.chaos.callers)
        gate.set()

    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert before == relay.MAX_STREAMS


async def test_clients_share_a_bound_on_what_is_under_way(world: World, tmp_path: Path) -> None:
    """Whose request does not fit is refused, whichever socket it comes by, and room comes back."""
    gate = world.manager.chaos.gate = asyncio.Event()
    budget = relay.Budget(1000)
    edges = RelayEdges(lambda _: world.state["upstream"], lambda _: world.state["caller"])
    sockets = [Relay(slot, TASK, tmp_path / f"{slot}.sock", edges, budget) for slot in (1, 2)]
    for one in sockets:
        await one.open()
    large = chaos_pb2.KillRequest(ip="x" * 900)
    async with (
        grpc.aio.insecure_channel(f"unix:{tmp_path}/1.sock") as first,
        grpc.aio.insecure_channel(f"unix:{tmp_path}/2.sock") as second,
    ):
        stubs = [chaos_pb2_grpc.ChaosControlStub(channel) for channel in (first, second)]
        waiting = asyncio.ensure_future(stubs[0].Kill(large, timeout=DEADLINE))
        await eventually(lambda: world.manager.chaos.callers)
        error = await refused(stubs[1].Kill(large, timeout=DEADLINE))
        gate.set()
        await waiting
        again = await stubs[1].Kill(large, timeout=DEADLINE)
    for one in sockets:
        await one.close()

    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert trailing(error)["syndicate-reason"] == "TOO_MANY_CALLS"
    assert again.processes == 900


async def test_other_services_are_not_relayed(world: World) -> None:
    """Only the methods of ChaosControl."""
    async with grpc.aio.insecure_channel(f"unix:{world.path}") as channel:
        call = channel.unary_unary("/syndicate.v1.Scheduler/ListJobs")
        error = await refused(call(b"", timeout=DEADLINE))

    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_every_user_may_connect(world: World) -> None:
    """The task runs as another user; the folder is what keeps others away."""
    assert world.path.stat().st_mode & 0o777 == 0o666


async def test_a_stale_socket_is_replaced_and_a_closed_one_removed(world: World, tmp_path: Path) -> None:
    """A volunteer that was killed left its socket behind."""
    (tmp_path / "slots" / "0").mkdir(parents=True)
    (tmp_path / "slots" / "0" / "chaos.sock").touch()
    edges = RelayEdges(lambda cluster: None, lambda slot: None)
    relays = Relays(tmp_path, edges)

    first, again = await relays.open(0, TASK), await relays.open(0, TASK)
    await relays.close(0)

    assert (first, again) == ("", "")
    assert not relays.path(0).exists()


async def test_a_folder_that_is_missing_is_told() -> None:
    """In one line, as an answer and not as an exception."""
    relays = Relays(Path("/nonexistent"), RelayEdges(lambda cluster: None, lambda slot: None))

    assert "socket cannot be made" in await relays.open(0, TASK)
