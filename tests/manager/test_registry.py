"""The stream of a volunteer: hello, heartbeats, commands, events, logs, sources, and how it ends."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable
from typing import Any

import grpc
import pytest
from syndicate.manager.blobs import BlobDirectory
from syndicate.manager.core.machine import Machine
from syndicate.manager.core.views import NodeView
from syndicate.manager.logs import LogStore
from syndicate.manager.rpc import pictures
from syndicate.v1 import common_pb2 as common
from syndicate.v1 import registry_pb2 as registry
from syndicate.v1 import registry_pb2_grpc as registry_grpc
from syndicate.v1 import scheduler_pb2 as scheduler

from tests.manager.conftest import Running, Start
from tests.manager.scripted import WAIT_S, ScriptedVolunteer, bearer, stamp, tarball, trailer, upload


async def refused(manager: Running, *messages: registry.AttachRequest) -> grpc.aio.AioRpcError:
    """Attach with these messages and return the error that ends the stream."""
    async with grpc.aio.insecure_channel(manager.volunteers) as channel:
        call = registry_grpc.RegistryStub(channel).Attach(**manager.volunteer_credentials)
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await _talk(call, messages)
        return ended.value


async def _talk(call: Any, messages: Iterable[registry.AttachRequest]) -> None:
    """Say this, and listen until the other side ends the stream: it stays open for what is durable later."""
    for message in messages:
        await call.write(message)
    while await call.read() is not grpc.aio.EOF:
        pass


async def ended(volunteer: ScriptedVolunteer) -> grpc.aio.AioRpcError:
    """Wait for the manager to end the stream with an error."""
    async with asyncio.timeout(WAIT_S):
        error = await volunteer.ended
    assert error is not None
    return error


async def test_a_volunteer_is_welcomed(start: Start) -> None:
    """Welcome names the cluster, the epoch, a prefix, and the intervals to keep."""
    intervals = {"heartbeat_interval_s": 5.0, "orphan_after_s": 30.0}
    async with start(**intervals) as manager, manager.volunteer().attached() as volunteer:
        welcome = volunteer.welcome

    assert welcome.cluster_id.startswith("c-")
    assert welcome.epoch == manager.epoch
    assert welcome.prefix.endswith("/26")
    assert (welcome.heartbeat_interval_s, welcome.orphan_after_s) == (5.0, 30.0)
    assert welcome.sent_at.monotonic_ns > 0


async def test_the_default_client_is_warmed(start: Start, tmp_path: object) -> None:
    """A volunteer is told at once which source jobs will want."""
    client = tmp_path / "client.tar"  # type: ignore[operator]  # a Path
    client.write_bytes(tarball())
    async with start(client=client) as manager, manager.volunteer().attached() as volunteer:
        cluster = await manager.scheduler.GetCluster(scheduler.GetClusterRequest(), **manager.credentials)

    assert [source.sha256 for source in volunteer.welcome.warm] == [cluster.default_client_sha256]
    assert cluster.default_clients == 1


async def test_heartbeats_are_acknowledged_with_stamps(manager: Running) -> None:
    """An ack names the heartbeat and tells when the manager had it and answered."""
    async with manager.volunteer().attached() as volunteer:
        before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        volunteer.beat()
        await volunteer.until(lambda: any(m.HasField("heartbeat_ack") for m in volunteer.told))
        after = time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    (ack,) = [m.heartbeat_ack for m in volunteer.told if m.HasField("heartbeat_ack")]
    assert ack.sequence == 1
    assert before <= ack.received_at.monotonic_ns <= ack.sent_at.monotonic_ns <= after


async def test_two_heartbeats_tell_the_clock(manager: Running) -> None:
    """The second heartbeat closes the first exchange, and the node's clock is known with a bound."""
    began_ns = time.monotonic_ns()
    async with manager.volunteer().attached() as volunteer:
        for number in (1, 2):
            volunteer.beat()
            await volunteer.until(
                lambda n=number: sum(m.HasField("heartbeat_ack") for m in volunteer.told) == n  # type: ignore[misc]
            )
        nodes = await manager.scheduler.ListNodes(scheduler.ListNodesRequest(), **manager.credentials)

    clock, took_ns = nodes.nodes[0].clock, time.monotonic_ns() - began_ns
    assert clock.boot_id == "boot-1"
    assert abs(clock.offset_ns) <= clock.error_ns < took_ns


async def test_a_silent_volunteer_loses_its_stream(start: Start) -> None:
    """Three heartbeats missed end the stream; the volunteer may attach again."""
    async with start(heartbeat_interval_s=0.05) as manager, manager.volunteer().attached() as volunteer:
        error = await ended(volunteer)

    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert trailer(error)["syndicate-reason"] == "HEARTBEAT_LATE"


async def test_the_first_message_must_be_hello(manager: Running) -> None:
    """A stream that begins with anything else is ended."""
    error = await refused(manager, registry.AttachRequest(heartbeat=registry.Heartbeat(sequence=1)))

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert trailer(error)["syndicate-reason"] == "NO_HELLO"


@pytest.mark.parametrize(
    "hello",
    [
        registry.Hello(volunteer_id="../x", boot_id="b", network=registry.NETWORK_KIND_FABRIC),
        registry.Hello(volunteer_id="a", boot_id="", network=registry.NETWORK_KIND_FABRIC),
        registry.Hello(volunteer_id="a", boot_id="b"),
        registry.Hello(
            volunteer_id="a",
            boot_id="b",
            network=registry.NETWORK_KIND_FABRIC,
            slots=[registry.Slot(slot=1), registry.Slot(slot=1)],
        ),
        registry.Hello(
            volunteer_id="a", boot_id="b", network=registry.NETWORK_KIND_FABRIC, unsafe=["no\x1b[31m name"]
        ),
        registry.Hello(volunteer_id="a", boot_id="b", network=registry.NETWORK_KIND_FABRIC, instance="x"),
    ],
)
async def test_a_malformed_hello_is_refused(manager: Running, hello: registry.Hello) -> None:
    """Names that are none, no boot id, no network and a slot named twice are bugs of the volunteer."""
    error = await refused(manager, registry.AttachRequest(hello=hello))

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_second_volunteer_of_the_same_name_is_refused(manager: Running) -> None:
    """While one lives, another machine cannot take its name."""
    async with manager.volunteer().attached():
        error = await refused(
            manager, registry.AttachRequest(hello=manager.volunteer(boot_id="boot-2").hello())
        )

    assert error.code() is grpc.StatusCode.ALREADY_EXISTS
    assert trailer(error)["syndicate-reason"] == "DUPLICATE_VOLUNTEER"


async def test_a_machine_that_is_to_be_booted_is_listed_as_such(manager: Running) -> None:
    """As its last heartbeat said."""
    async with manager.volunteer().attached() as volunteer:
        volunteer.say(heartbeat=registry.Heartbeat(sequence=1, sent_at=stamp(), worn=True))
        await volunteer.until(lambda: any(m.HasField("heartbeat_ack") for m in volunteer.told))
        nodes = await manager.scheduler.ListNodes(scheduler.ListNodesRequest(), **manager.credentials)

    assert [node.state for node in nodes.nodes] == [scheduler.NODE_STATE_WORN]


async def test_what_a_volunteer_lacks_is_listed(manager: Running) -> None:
    """In its node, as it said it."""
    async with manager.volunteer(unsafe=("seccomp", "cgroup-pids")).attached():
        nodes = await manager.scheduler.ListNodes(scheduler.ListNodesRequest(), **manager.credentials)

    assert [list(node.unsafe) for node in nodes.nodes] == [["seccomp", "cgroup-pids"]]


async def test_a_volunteer_that_has_seen_a_newer_manager_is_refused(start: Start) -> None:
    """A manager on an old copy of its state commands nobody; its next start takes a higher epoch."""
    async with start() as manager:
        async with manager.volunteer().attached() as volunteer:
            cluster_id = volunteer.cluster_id
        hello = manager.volunteer(volunteer_id="node-b", cluster_id=cluster_id).hello()
        hello.highest_epoch = manager.epoch + 7
        error = await refused(manager, registry.AttachRequest(hello=hello))
    async with start() as manager:
        again = manager.epoch

    assert trailer(error)["syndicate-reason"] == "STALE_MANAGER"
    assert "restart it" in (error.details() or "")
    assert again == hello.highest_epoch + 1


async def test_an_event_is_acknowledged(manager: Running) -> None:
    """An exit is acknowledged under its number once it is durable, also when it is repeated."""
    async with manager.volunteer().attached() as volunteer:
        await manager.submit()
        await volunteer.until(lambda: bool(volunteer.commands("start")))
        task = volunteer.task("master")
        volunteer.exit(task, status=2)
        await volunteer.until(lambda: any(m.HasField("event_ack") for m in volunteer.told))
        volunteer._events -= 1
        volunteer.exit(task, status=2)
        await volunteer.until(lambda: sum(m.HasField("event_ack") for m in volunteer.told) == 2)

    assert {m.event_ack.event_id for m in volunteer.told if m.HasField("event_ack")} == {1}


async def test_logs_are_stored_acknowledged_and_read(manager: Running) -> None:
    """Output comes to a follower while the job runs, and the stream ends with the job."""
    async with manager.volunteer().attached() as volunteer:
        job_id = await manager.submit(machines=2)
        await volunteer.until(lambda: len(volunteer.commands("start")) == 2)
        call = manager.scheduler.ReadLogs(
            scheduler.ReadLogsRequest(job_id=job_id, follow=True), **manager.credentials
        )
        pieces = aiter(call)
        await call.initial_metadata()  # before there is any output: the stream is taken
        volunteer.log(volunteer.task("master"), 0, b"one\n")
        first = await anext(pieces)
        volunteer.log(volunteer.task("slave-0"), 0, b"\xfftwo\n")
        second = await anext(pieces)
        for task in ("master", "slave-0"):
            volunteer.log(volunteer.task(task), 5, b"last\n")
            volunteer.exit(volunteer.task(task))
        rest = [(p.task, p.piece.data) async for p in pieces]

    acks = [m.log_ack for m in volunteer.told if m.HasField("log_ack")]
    assert (first.task, first.piece.data, first.generation) == ("master", b"one\n", 1)
    assert (second.task, second.piece.data) == ("slave-0", b"\xfftwo\n")
    assert first.at.monotonic_ns > 0
    assert sorted(rest) == [("master", b"last\n"), ("slave-0", b"last\n")]
    assert {(ack.task.task, ack.offset) for ack in acks} >= {("master", 4), ("slave-0", 5)}


async def test_no_output_is_missed_at_the_end(manager: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Output that waits for the disk when the job has ended already still comes before the stream ends."""
    gate = threading.Event()
    write = LogStore._write

    def gated(self: LogStore, *arguments: Any) -> Any:
        assert gate.wait(WAIT_S)
        return write(self, *arguments)

    monkeypatch.setattr(LogStore, "_write", gated)
    async with manager.volunteer().attached() as volunteer:
        job_id = await manager.submit()
        await volunteer.until(lambda: bool(volunteer.commands("start")))
        volunteer.log(volunteer.task("master"), 0, b"last words")
        volunteer.exit(volunteer.task("master"))
        await manager.reaches(job_id, common.JOB_STATE_SUCCEEDED)
        call = manager.scheduler.ReadLogs(scheduler.ReadLogsRequest(job_id=job_id), **manager.credentials)
        reading = asyncio.ensure_future(call.read())
        await manager.scheduler.GetCluster(scheduler.GetClusterRequest(), **manager.credentials)
        gate.set()
        first = await reading

    assert first.piece.data == b"last words"


async def test_logs_can_be_read_of_some_tasks_and_without_following(manager: Running) -> None:
    """Reading one task gives its output so far and ends, though the job runs."""
    async with manager.volunteer().attached() as volunteer:
        job_id = await manager.submit(machines=2)
        await volunteer.until(lambda: len(volunteer.commands("start")) == 2)
        for task in ("master", "slave-0"):
            volunteer.log(volunteer.task(task), 0, task.encode())
        await volunteer.until(lambda: sum(m.HasField("log_ack") for m in volunteer.told) == 2)
        request = scheduler.ReadLogsRequest(job_id=job_id, tasks=["slave-0"])
        data = [p.piece.data async for p in manager.scheduler.ReadLogs(request, **manager.credentials)]
        bad = scheduler.ReadLogsRequest(job_id=job_id, tasks=["slave-7"])
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await manager.scheduler.ReadLogs(bad, **manager.credentials).read()

    assert data == [b"slave-0"]
    assert unknown.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_logs_of_others_are_not_stored(manager: Running) -> None:
    """A volunteer cannot write into a job that it does not hold; it is told to forget the piece."""
    stranger = manager.volunteer(volunteer_id="node-b", slots=0)
    async with manager.volunteer().attached() as volunteer, stranger.attached():
        job_id = await manager.submit()
        await volunteer.until(lambda: bool(volunteer.commands("start")))
        stranger.log(volunteer.task("master"), 0, b"forged")
        await stranger.until(lambda: any(m.HasField("log_ack") for m in stranger.told))
        request = scheduler.ReadLogsRequest(job_id=job_id)
        data = [p async for p in manager.scheduler.ReadLogs(request, **manager.credentials)]

    assert data == []


async def test_a_source_is_fetched_whole(manager: Running) -> None:
    """A volunteer gets the bytes that a user uploaded, in chunks of at most 512 KiB."""
    data = tarball(Makefile="master:\n", big="x" * 1_500_000)
    source = await upload(manager.scheduler, data, manager.token)
    async with grpc.aio.insecure_channel(manager.volunteers) as channel:
        stub = registry_grpc.RegistryStub(channel)
        request = registry.FetchSourceRequest(sha256=source.sha256)
        chunks = [c.chunk async for c in stub.FetchSource(request, **manager.volunteer_credentials)]
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await stub.FetchSource(
                registry.FetchSourceRequest(sha256="0" * 64), **manager.volunteer_credentials
            ).read()

    assert b"".join(chunks) == data
    assert max(len(chunk) for chunk in chunks) <= 512 << 10
    assert trailer(unknown.value)["syndicate-reason"] == "NO_SUCH_BLOB"


async def test_fetches_take_turns(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many volunteers want a source at once, so many get it and the others wait."""
    monkeypatch.setattr("syndicate.manager.rpc.registry._MOST_FETCHES", 1)
    data = tarball(Makefile="master:\n")
    gate, reached, opened = threading.Event(), threading.Event(), BlobDirectory.open

    def held(self: BlobDirectory, digest: str) -> Any:
        reached.set()
        gate.wait(WAIT_S)
        return opened(self, digest)

    monkeypatch.setattr(BlobDirectory, "open", held)
    async with start() as manager, grpc.aio.insecure_channel(manager.volunteers) as channel:
        source = await upload(manager.scheduler, data, manager.token)
        fetch = registry_grpc.RegistryStub(channel).FetchSource
        request = registry.FetchSourceRequest(sha256=source.sha256)
        first = fetch(request, **manager.volunteer_credentials)
        assert await asyncio.to_thread(reached.wait, WAIT_S)
        with pytest.raises(grpc.aio.AioRpcError) as waited:
            await fetch(request, metadata=bearer(manager.volunteer_token), timeout=0.3).read()
        gate.set()
        chunks = [c.chunk async for c in first]
        again = [c.chunk async for c in fetch(request, **manager.volunteer_credentials)]

    assert again == chunks
    assert waited.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert b"".join(chunks) == data


async def test_a_volunteer_is_not_silent_while_it_is_not_read(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that stalls longer than three heartbeats costs no volunteer its stream."""
    gate, reached = asyncio.Event(), asyncio.Event()

    async def room(self: LogStore) -> None:
        reached.set()
        await gate.wait()

    monkeypatch.setattr(LogStore, "room", room)
    async with start(heartbeat_interval_s=0.5) as manager, asyncio.timeout(WAIT_S):
        while not reached.is_set():  # at once, unless the machine stood still before the heartbeat was read
            async with manager.volunteer().attached() as volunteer:
                volunteer.beat()
                waiting = asyncio.ensure_future(reached.wait())
                await asyncio.wait([waiting, volunteer.ended], return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                if reached.is_set():
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(asyncio.shield(volunteer.ended), 2.0)
                    gate.set()
                    error = await ended(volunteer)

    assert trailer(error)["syndicate-reason"] == "HEARTBEAT_LATE"


async def test_an_address_that_is_none_ends_the_stream(manager: Running) -> None:
    """What a volunteer says that a slot's address is must be one."""
    async with manager.volunteer(answers=False).attached() as volunteer:
        await manager.submit()
        await volunteer.until(lambda: bool(volunteer.commands("reserve")))
        volunteer.answer(
            volunteer.commands("reserve")[0], registry.ANSWER_CODE_READY, address="10.0.0.1; drop"
        )
        error = await ended(volunteer)

    assert trailer(error)["syndicate-reason"] == "BAD_FIELD"


async def test_following_a_log_draws_no_picture_of_the_job(
    manager: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader of output wants to know whether the job goes on, not its ledger."""
    drawn = []
    picture = Machine.job
    monkeypatch.setattr(Machine, "job", lambda self, job_id: drawn.append(job_id) or picture(self, job_id))
    async with manager.volunteer().attached() as volunteer:
        job_id = await manager.submit()
        await volunteer.until(lambda: bool(volunteer.commands("start")))
        call = manager.scheduler.ReadLogs(
            scheduler.ReadLogsRequest(job_id=job_id, follow=True), **manager.credentials
        )
        for number in range(3):
            volunteer.log(volunteer.task("master"), number, b"x")
            await call.read()
        volunteer.exit(volunteer.task("master"))
        while await call.read() is not grpc.aio.EOF:
            pass

    assert drawn == []


async def test_a_reader_of_logs_keeps_a_pace(manager: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Output that trickles is sent together: the manager does not look at every piece for every reader."""
    monkeypatch.setattr("syndicate.manager.rpc.pace.INTERVAL_S", 0.15)
    async with manager.volunteer().attached() as volunteer:
        job_id = await manager.submit()
        await volunteer.until(lambda: bool(volunteer.commands("start")))
        call = manager.scheduler.ReadLogs(
            scheduler.ReadLogsRequest(job_id=job_id, follow=True), **manager.credentials
        )
        began = time.monotonic()
        for offset, data in enumerate(b"%d" % number for number in range(9)):
            volunteer.log(volunteer.task("master"), offset, data)
            assert (await call.read()).piece.data == data
        took_s = time.monotonic() - began

    assert took_s > 0.5  # of 1.2: a piece may fall into the round of the one before, where a thread was slow


async def test_a_volunteer_that_does_not_read_is_let_go(manager: Running) -> None:
    """A queue that nobody empties ends the stream rather than grow."""
    from syndicate.manager.clock import Clock
    from syndicate.manager.core.model import Config
    from syndicate.manager.rpc.session import Session

    session = Session("s", Config("c", 1, "b"), Clock())
    for _ in range(4097):
        session.push(registry.AttachResponse())

    error = session.ended.result()
    assert error is not None and error.reason == "STREAM_STUCK"


async def test_a_volunteer_that_leaves_is_shown_away(manager: Running) -> None:
    """When its stream ends the node is AWAY, and READY again when it comes back."""
    async with manager.volunteer().attached():
        pass
    async with asyncio.timeout(WAIT_S):
        while True:
            nodes = await manager.scheduler.ListNodes(scheduler.ListNodesRequest(), **manager.credentials)
            if nodes.nodes[0].state == scheduler.NODE_STATE_AWAY:
                break
    async with manager.volunteer().attached():
        nodes = await manager.scheduler.ListNodes(scheduler.ListNodesRequest(), **manager.credentials)

    assert nodes.nodes[0].state == scheduler.NODE_STATE_READY


@pytest.mark.parametrize("monotonic_ns", [-(2**63) + 1, -1, 2**62 + 1, 2**63 - 1])
async def test_stamps_that_no_clock_shows_are_refused(manager: Running, monotonic_ns: int) -> None:
    """What is calculated of them would not fit into an answer."""
    volunteer = manager.volunteer()
    beat = registry.Heartbeat(sequence=1, sent_at=common.Stamp(boot_id="boot-1", monotonic_ns=monotonic_ns))
    error = await refused(
        manager, registry.AttachRequest(hello=volunteer.hello()), registry.AttachRequest(heartbeat=beat)
    )

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert trailer(error)["syndicate-reason"] == "BAD_FIELD"


async def test_a_node_that_cannot_be_shown_spoils_no_page(
    manager: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there by name and state, and the others whole."""
    show = pictures.node_out

    def fails_for_one(view: NodeView) -> scheduler.Node:
        if view.record.volunteer_id == "bad":
            raise ValueError("Value out of range")
        return show(view)

    monkeypatch.setattr(pictures, "node_out", fails_for_one)
    async with manager.volunteer(volunteer_id="bad").attached(), manager.volunteer().attached():
        answer = await manager.scheduler.ListNodes(scheduler.ListNodesRequest(), **manager.credentials)

    assert [node.volunteer_id for node in answer.nodes] == ["bad", "node-a"]
    assert [len(node.slots) for node in answer.nodes] == [0, 4]
