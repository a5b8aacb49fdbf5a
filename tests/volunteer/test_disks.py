"""Handing disks over: from a keeper's pieces to a manager's call, over a real channel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from syndicate.v1 import registry_pb2 as pb
from syndicate.v1 import registry_pb2_grpc
from syndicate.volunteer import disks, local
from syndicate.volunteer.core.model import TaskRef
from syndicate.volunteer.disks import DiskEdges, DiskSender
from syndicate.volunteer.relay import Upstream

from tests.volunteer.fakes import DEADLINE

REF = TaskRef("c1", 7, 1, "master", 2)


class Manager(registry_pb2_grpc.RegistryServicer):
    """Takes what comes; `refuse` is what it ends the next calls with, at their header."""

    def __init__(self) -> None:
        self.disks: list[bytes] = []
        self.missing: list[str] = []
        self.sessions: list[str] = []
        self.broken = 0
        self.refuse: list[tuple[grpc.StatusCode, str]] = []
        self.reads = asyncio.Event()
        self.reads.set()

    async def PutDisk(self, request_iterator: Any, context: Any) -> pb.PutDiskResponse:
        """One disk, or why there is none."""
        self.sessions.append(dict(context.invocation_metadata())["syndicate-session"])
        header = (await context.read()).header
        assert header.task.task == "master"
        if header.missing:
            self.missing.append(header.missing)
            return pb.PutDiskResponse()
        if self.refuse:
            await context.abort(*self.refuse.pop(0))
        await context.send_initial_metadata((("syndicate-disk", "send"),))
        await self.reads.wait()
        data = b""
        while (message := await context.read()) is not grpc.aio.EOF:
            if not message.chunk:
                self.disks.append(data)
                return pb.PutDiskResponse()
            data += message.chunk
        self.broken += 1
        return pb.PutDiskResponse()


class Keeper:
    """Has a disk of these pieces; then, where one is given, another answer."""

    def __init__(self, *pieces: bytes, then: local.Reply | None = None, gone: bool = False) -> None:
        self.pieces = pieces
        self.then = then
        self.gone = gone
        self.asked: list[local.ReadDisk] = []

    async def read(self, request: local.ReadDisk) -> local.Reply | None:
        self.asked.append(request)
        at = 0
        for number, piece in enumerate(self.pieces):
            if at == request.offset:
                last = number + 1 == len(self.pieces) and self.then is None and not self.gone
                return local.DiskRead(piece, last)
            at += len(piece)
        return None if self.gone else self.then


@asynccontextmanager
async def served(manager: Manager) -> AsyncIterator[Upstream]:
    """The way to a manager that serves."""
    server = grpc.aio.server()
    registry_pb2_grpc.add_RegistryServicer_to_server(manager, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Upstream(channel, (), "stream-1")
    finally:
        await server.stop(0)


async def send(manager: Manager, keeper: Keeper, missing: str = "") -> None:
    """Hand the keeper's disk over."""
    async with served(manager) as upstream, asyncio.timeout(DEADLINE):
        await DiskSender(DiskEdges(keeper.read, lambda _: upstream)).send(3, REF, missing)


async def test_a_disk_goes_over_piece_by_piece() -> None:
    """Each piece is asked for where the last one ended; the stream's name stands beside."""
    manager, keeper = Manager(), Keeper(b"a" * 1000, b"b" * 500)

    await send(manager, keeper)

    assert manager.disks == [b"a" * 1000 + b"b" * 500]
    assert [(one.slot, one.task, one.offset) for one in keeper.asked] == [(3, REF.id, 0), (3, REF.id, 1000)]
    assert (manager.missing, manager.sessions) == ([], ["stream-1"])


async def test_what_is_known_to_be_missing_is_told_alone() -> None:
    """The keeper is not asked."""
    manager, keeper = Manager(), Keeper(b"a")

    await send(manager, keeper, "the task was never started")

    assert (manager.missing, manager.disks, keeper.asked) == (["the task was never started"], [], [])


@pytest.mark.parametrize(
    ("keeper", "why"),
    [
        (Keeper(b"a", then=local.DiskRead(b"", True, "packing it took longer than 20 s")), "packing it took"),
        (Keeper(then=local.Refused(local.ErrorCode.WRONG_TASK, "slot 3 is empty")), "slot 3 is empty"),
        (Keeper(b"a", gone=True), "the keeper went away"),
        (Keeper(then=local.LogRead((), 0, True)), "the keeper answered LogRead"),
    ],
)
async def test_what_the_keeper_cannot_give_is_told(keeper: Keeper, why: str) -> None:
    """Also in the midst of it: what came before counts for nothing."""
    manager = Manager()

    await send(manager, keeper)

    assert len(manager.missing) == 1
    assert why in manager.missing[0]
    assert manager.disks == []


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "packed it is as told"),
        (grpc.StatusCode.FAILED_PRECONDITION, "the manager took none: as told"),
        (grpc.StatusCode.INTERNAL, "the manager took none: as told"),
    ],
)
async def test_what_the_manager_refuses_is_told(code: grpc.StatusCode, told: str) -> None:
    """In its own words, so that a reader finds them there."""
    manager = Manager()
    manager.refuse = [(code, "as told")]

    await send(manager, Keeper(b"a" * 1000, b"b"))

    assert (manager.missing, manager.disks) == ([told], [])


async def test_a_manager_that_was_away_gets_it_from_the_beginning() -> None:
    """Once; a second failure is told."""
    manager, keeper = Manager(), Keeper(b"a" * 1000)
    manager.refuse = [(grpc.StatusCode.UNAVAILABLE, "stopping")]
    twice = Manager()
    twice.refuse = [(grpc.StatusCode.UNAVAILABLE, "stopping")] * 2

    await send(manager, keeper)
    await send(twice, Keeper(b"a"))

    assert manager.disks == [b"a" * 1000]
    assert twice.missing == ["the manager took none: stopping"]


async def test_a_manager_that_is_not_reached_is_waited_for() -> None:
    """As soon as it is there the disk goes."""
    manager, keeper, way = Manager(), Keeper(b"a"), list[Upstream]()
    sender = DiskSender(DiskEdges(keeper.read, lambda _: way[0] if way else None))
    async with served(manager) as upstream, asyncio.timeout(DEADLINE):
        sending = asyncio.create_task(sender.send(0, REF, ""))
        await asyncio.sleep(0)
        way.append(upstream)
        sender.came_up()
        await sending

    assert manager.disks == [b"a"]


async def test_a_channel_that_is_closed_meanwhile_gives_way_to_the_next() -> None:
    """As when the certificate was replaced: it ends the call, not who hands the disk over."""
    manager, keeper = Manager(), Keeper(b"a" * 1000)
    manager.reads.clear()
    async with served(manager) as first, served(manager) as second, asyncio.timeout(DEADLINE):
        ways = [first, second]
        asked = asyncio.Event()

        async def read(request: local.ReadDisk) -> local.Reply | None:
            asked.set()
            return await keeper.read(request)

        edges = DiskEdges(read, lambda _: ways.pop(0))
        sending = asyncio.create_task(DiskSender(edges).send(3, REF, ""))
        await asked.wait()
        await first.channel.close()
        manager.reads.set()

        await sending

    assert manager.disks == [b"a" * 1000]


async def test_a_manager_that_never_comes_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The slot is not kept for it: both waits have an end."""
    monkeypatch.setattr(disks, "_HAND_OVER_S", 0.05)
    monkeypatch.setattr(disks, "_TELL_S", 0.05)
    sender = DiskSender(DiskEdges(Keeper(b"a").read, lambda _: None))

    async with asyncio.timeout(DEADLINE):
        await sender.send(0, REF, "")


async def test_a_manager_that_reads_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more is asked of the keeper than the way takes, and it ends in time."""
    monkeypatch.setattr(disks, "_HAND_OVER_S", 0.3)
    manager = Manager()
    manager.reads.clear()
    keeper = Keeper(*[b"x" * (256 << 10)] * 400)

    await send(manager, keeper)

    assert manager.missing == ["handing it over took longer than 0.3 s"]
    assert manager.disks == []
    assert len(keeper.asked) < 100
