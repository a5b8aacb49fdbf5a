"""The keeper's socket: what is under way on one connection, and what passes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from keeper.harness import SECONDS
from syndicate.volunteer import frames
from syndicate.volunteer.keeper.log import Log
from syndicate.volunteer.keeper.server import Server
from syndicate.volunteer.local import (
    WHOLE,
    Done,
    Kill,
    Renew,
    Reply,
    ReplyFrame,
    Request,
    RequestFrame,
    SetNetwork,
    Stamp,
    Sync,
    TaskId,
)

_SLOTS = 100
_TASK = TaskId("c1", 1, 1, "master")
_DONE = Done(Stamp("boot", 1, 1), 1)


async def test_lease_is_renewed_beside_all_that_a_volunteer_asks(folder: Path) -> None:
    """With several slow requests for every slot under way a Renew is still taken and answered."""
    over, renewed = asyncio.Event(), asyncio.Event()
    kills = []

    async def answer(request: Request) -> Reply:
        if isinstance(request, Kill):
            kills.append(request)
            await over.wait()
        if isinstance(request, Renew):
            renewed.set()
        return _DONE

    async with asyncio.TaskGroup() as tasks:
        server = Server(folder / "socket", 0, 0, _SLOTS, answer, lambda _: None, Log())
        await server.open(tasks)
        _, writer = await asyncio.open_unix_connection(str(folder / "socket"))
        writer.write(frames.encode(RequestFrame(1, Sync())))
        asked = [Kill(number % _SLOTS, _TASK, 1) for number in range(4 * _SLOTS)]
        for number, request in enumerate([*asked, Renew("c1", 1)]):
            writer.write(frames.encode(RequestFrame(2 + number, request)))
        try:
            async with asyncio.timeout(SECONDS):
                await renewed.wait()
            assert len(kills) == 4 * _SLOTS
        finally:
            over.set()
            writer.close()
            await server.close()


class Slots:
    """Answers all that it is asked, in a task only what it is told to, and keeps the order."""

    def __init__(self, waits: bool = False) -> None:
        self.waits = waits
        self.asked: list[object] = []

    async def answer(self, request: Request) -> Reply:
        if not isinstance(request, Sync):
            self.asked.append(request)
        return _DONE

    def at_once(self, requests: Sequence[SetNetwork]) -> list[Reply] | None:
        self.asked.append(list(requests))
        return None if self.waits else [_DONE] * len(requests)


@asynccontextmanager
async def _connected(slots: Slots, folder: Path) -> AsyncIterator[Peer]:
    async with asyncio.TaskGroup() as tasks:
        server = Server(folder / "socket", 0, 0, 2, slots.answer, slots.at_once, Log())
        await server.open(tasks)
        reader, writer = await asyncio.open_unix_connection(str(folder / "socket"))
        peer = Peer(reader, writer)
        try:
            async with asyncio.timeout(SECONDS):
                await peer.ask(Sync())
                yield peer
        finally:
            writer.close()
            await server.close()


class Peer:
    """The other end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, *requests: Request) -> set[int]:
        """Send these in one write, and have an answer to each; their numbers."""
        asked = [frames.encode(RequestFrame(number, each)) for number, each in enumerate(requests)]
        self._writer.write(b"".join(asked))
        numbers = set()
        for _ in requests:
            length = int.from_bytes(await self._reader.readexactly(frames.PREFIX_BYTES), "big")
            frame = frames.decode(await self._reader.readexactly(length))
            assert isinstance(frame, ReplyFrame)
            numbers.add(frame.number)
        return numbers


_FIRST, _SECOND = (SetNetwork(slot, _TASK, WHOLE) for slot in range(2))
_KILL = Kill(0, _TASK, 1)


async def test_changes_of_one_read_are_asked_for_at_once(folder: Path) -> None:
    """All of them together, without a task."""
    slots = Slots()

    async with _connected(slots, folder) as peer:
        assert await peer.ask(_FIRST, _SECOND) == {0, 1}

    assert slots.asked == [[_FIRST, _SECOND]]


@pytest.mark.parametrize("waits", [False, True])
async def test_changes_beyond_what_may_be_under_way_are_made_after_it(folder: Path, waits: bool) -> None:
    """However many come in one write, each is asked for once, and answered."""
    slots = Slots(waits)
    asked = [SetNetwork(number % 2, _TASK, WHOLE) for number in range(500)]

    async with _connected(slots, folder) as peer:
        assert await peer.ask(*asked) == set(range(len(asked)))

    if waits:
        made = [each for each in slots.asked if isinstance(each, SetNetwork)]
    else:
        made = [change for each in slots.asked if isinstance(each, list) for change in each]
    assert made == asked


async def test_changes_pass_nothing_that_was_asked_before_them(folder: Path) -> None:
    """Those before a kill are made before it, and those behind it after it, in tasks as the kill itself."""
    slots = Slots()

    async with _connected(slots, folder) as peer:
        assert await peer.ask(_FIRST, _KILL, _SECOND, _FIRST) == {0, 1, 2, 3}

    assert slots.asked == [_FIRST, _KILL, _SECOND, _FIRST]


async def test_one_read_holds_the_loop_up_for_one_change_at_most(folder: Path) -> None:
    """Whatever else stands between changes: a thousand of them in a row are not made in one turn."""
    slots = Slots()
    renew = Renew("c1", 1)

    async with _connected(slots, folder) as peer:
        assert await peer.ask(renew, _FIRST, renew, _SECOND, renew, _FIRST) == set(range(6))

    at_once = [each for each in slots.asked if isinstance(each, list)]
    in_tasks = [each for each in slots.asked if isinstance(each, SetNetwork)]
    assert len(at_once) <= 1
    made = [*in_tasks, *(change for changes in at_once for change in changes)]
    assert sorted(made, key=lambda change: change.slot) == [_FIRST, _FIRST, _SECOND]


async def test_changes_that_have_to_wait_are_made_in_tasks(folder: Path) -> None:
    """In their order; nothing was done for them before."""
    slots = Slots(waits=True)

    async with _connected(slots, folder) as peer:
        assert await peer.ask(_FIRST, _SECOND) == {0, 1}

    assert slots.asked == [[_FIRST, _SECOND], _FIRST, _SECOND]


async def test_error_of_this_code_in_a_change_ends_the_server(folder: Path) -> None:
    """Loudly, as one in a task does."""

    class Broken(Slots):
        def at_once(self, requests: Sequence[SetNetwork]) -> list[Reply] | None:
            raise AttributeError("a broken invariant")

    with pytest.raises(ExceptionGroup) as ended:
        async with _connected(Broken(), folder) as peer:
            await peer.ask(_FIRST)

    assert ended.group_contains(AttributeError, match="a broken invariant")
