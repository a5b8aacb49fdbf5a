"""The log pump, between a keeper that is a dictionary and a link that is a list."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from syndicate.volunteer import local, logs
from syndicate.volunteer.core.model import TaskRef, ref_of
from syndicate.volunteer.logs import LogPump
from volunteer.fakes import eventually

STAMP = local.Stamp("boot", 1, 1)
MASTER = local.TaskId("c1", 7, 1, "master")
SLAVE = local.TaskId("c1", 7, 1, "slave-0")


class Keeper:
    """Output by task and generation."""

    def __init__(self) -> None:
        self.output: dict[tuple[local.TaskId, int], bytes] = {}
        self.ended: set[tuple[local.TaskId, int]] = set()
        self.reads: list[local.ReadLog] = []
        self.away = False

    async def read(self, request: local.ReadLog) -> local.Reply | None:
        """Answers ReadLog."""
        self.reads.append(request)
        if self.away:
            assert len(self.reads) < 1000, "it is asked over and over"
            return None  # at once, as where there is no connection
        await asyncio.sleep(0)
        key = (request.task, request.generation)
        if key not in self.output:
            return local.Refused(local.ErrorCode.WRONG_STATE, "no such generation")
        data = self.output[key][request.offset : request.offset + request.limit]
        after = request.offset + len(data)
        pieces = (local.LogPiece(request.offset, local.LogStream.STDOUT, STAMP, data),) if data else ()
        return local.LogRead(pieces, after, key in self.ended and after == len(self.output[key]))


class Link:
    """Takes pieces; acknowledges when told, or at once."""

    def __init__(self, pump: LogPump, ack: bool = True) -> None:
        self.pump = pump
        self.ack = ack
        self.up = True
        self.pieces: list[tuple[TaskRef, local.LogPiece]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def send(self, ref: TaskRef, piece: local.LogPiece) -> bool:
        """One piece."""
        await self.gate.wait()
        if not self.up:
            return False
        self.pieces.append((ref, piece))
        if self.ack:
            self.pump.acked(ref, piece.offset + len(piece.data))
        return True

    def text(self, task: local.TaskId = MASTER) -> bytes:
        """All that came of a task."""
        return b"".join(piece.data for ref, piece in self.pieces if ref.id == task)


class World:
    """Pump, keeper, and who was told that all is drained."""

    def __init__(self) -> None:
        self.keeper = Keeper()
        self.drained: list[local.TaskId] = []
        self.pump = LogPump(self.keeper.read, lambda slot, task: self.drained.append(task))

    def write(self, data: bytes, task: local.TaskId = MASTER, generation: int = 1) -> None:
        """A task writes, and the keeper says so."""
        key = (task, generation)
        self.keeper.output[key] = self.keeper.output.get(key, b"") + data
        self.pump.grew(local.LogGrew(0, task, generation, len(self.keeper.output[key])))

    @asynccontextmanager
    async def link(self, ack: bool = True) -> AsyncIterator[Link]:
        """A stream to the manager, for as long as the block lasts."""
        link = Link(self.pump, ack)
        serving = asyncio.create_task(self.pump.serve("c1", link.send))
        try:
            yield link
        finally:
            link.up = False
            link.gate.set()
            self.pump.link_down("c1")
            async with asyncio.timeout(60):
                await serving


async def settle() -> None:
    """Lets everything that can happen without an outside event happen."""
    for _ in range(200):
        await asyncio.sleep(0)


async def test_output_is_sent_as_it_grows() -> None:
    """Piece after piece, none twice."""
    world = World()
    async with world.link() as link:
        world.write(b"hello ")
        await eventually(lambda: link.text() == b"hello ")
        world.write(b"world")
        await eventually(lambda: link.text() == b"hello world")


async def test_what_was_not_acked_is_sent_again_after_a_reconnect() -> None:
    """From the last ack on."""
    world = World()
    async with world.link(ack=False) as first:
        world.write(b"hello world")
        await eventually(lambda: first.pieces)
        world.pump.acked(ref_of(MASTER, 1), 6)
    async with world.link() as second:
        await eventually(lambda: second.text() == b"world")


async def test_an_ack_beyond_what_was_sent_skips() -> None:
    """The manager has it from before the volunteer's restart."""
    world = World()
    world.write(b"hello world")
    world.pump.acked(ref_of(MASTER, 1), 6)
    async with world.link() as link:
        await eventually(lambda: link.text() == b"world")


async def test_at_most_a_window_is_on_its_way() -> None:
    """A manager that stores slowly is not buried; the rest waits in the keeper."""
    world = World()
    async with world.link(ack=False) as link:
        world.write(bytes(5 << 20))
        await settle()
        before = len(link.text())
        world.pump.acked(ref_of(MASTER, 1), 1 << 20)
        await settle()

    assert before == logs.WINDOW_BYTES
    assert len(link.text()) == logs.WINDOW_BYTES + (1 << 20)


async def test_at_most_a_window_of_pieces_is_on_its_way() -> None:
    """A task that writes single bytes does not bury the manager in pieces either, and nothing is lost."""
    world = World()
    async with world.link(ack=False) as link:
        for number in range(2 * logs.WINDOW_PIECES):
            world.write(b"x")
            await eventually(lambda n=number: len(link.pieces) == min(n + 1, logs.WINDOW_PIECES))
        await settle()
        before = len(link.pieces)
        world.pump.acked(ref_of(MASTER, 1), logs.WINDOW_PIECES)
        await eventually(lambda: len(link.text()) == 2 * logs.WINDOW_PIECES)

    assert before == logs.WINDOW_PIECES


async def test_tasks_take_turns() -> None:
    """One that writes much does not hold up another."""
    world = World()
    async with world.link() as link:
        link.gate.clear()
        world.write(bytes(2 << 20))
        world.write(b"a line\n", SLAVE)
        link.gate.set()
        await eventually(lambda: link.text(SLAVE))

    assert [ref.id for ref, _ in link.pieces].index(SLAVE) == 1


async def test_drained_is_told_when_all_is_stored() -> None:
    """Read to its end, sent and acked."""
    world = World()
    async with world.link(ack=False) as link:
        world.write(b"last words")
        world.pump.drain(0, MASTER, (1,))
        await settle()
        early = list(world.drained)
        world.keeper.ended.add((MASTER, 1))
        world.write(b"!")
        await eventually(lambda: link.text() == b"last words!")
        unacked = list(world.drained)
        world.pump.acked(ref_of(MASTER, 1), 11)

    assert early == unacked == []
    assert world.drained == [MASTER]


async def test_a_drain_reads_what_was_never_told() -> None:
    """The last LogGrew may not have come yet."""
    world = World()
    world.keeper.output[MASTER, 1] = b"untold"
    world.keeper.ended.add((MASTER, 1))
    async with world.link() as link:
        world.pump.drain(0, MASTER, (1,))
        await eventually(lambda: world.drained)

    assert link.text() == b"untold"


async def test_a_drain_covers_every_generation() -> None:
    """Each has offsets of its own."""
    world = World()
    for generation in (1, 2):
        world.keeper.output[MASTER, generation] = b"x" * generation
        world.keeper.ended.add((MASTER, generation))
    async with world.link() as link:
        world.pump.drain(0, MASTER, (1, 2))
        await eventually(lambda: world.drained)

    assert [ref.generation for ref, _ in link.pieces] == [1, 2]


async def test_a_drain_of_what_is_not_there_is_done() -> None:
    """Nothing was written, or the keeper has it no more."""
    world = World()
    async with world.link():
        world.pump.drain(0, MASTER, ())
        world.pump.drain(1, SLAVE, (1,))
        await eventually(lambda: len(world.drained) == 2)


async def test_a_drain_waits_over_a_lost_stream() -> None:
    """Its deadline is the core's."""
    world = World()
    world.write(b"hello")
    world.keeper.ended.add((MASTER, 1))
    world.pump.drain(0, MASTER, (1,))
    before = list(world.drained)
    async with world.link():
        await eventually(lambda: world.drained)

    assert before == []


def account(log_bytes: int) -> local.Synced:
    """What the keeper says of the master's one generation when it is back."""
    one = local.GenerationInfo(1, STAMP, None, log_bytes)
    info = local.SlotInfo(0, local.SlotState.RUNNING, MASTER, local.Role.MASTER, "", generations=(one,))
    return local.Synced("i", "boot", "fabric", "", (), {}, (info,))


async def test_reading_goes_on_when_the_keeper_is_back() -> None:
    """Its account says how much there is."""
    world = World()
    world.keeper.away = True
    async with world.link() as link:
        world.write(b"hello")
        await settle()
        reads = len(world.keeper.reads)
        world.keeper.away = False
        world.pump.synced(account(5))
        await eventually(lambda: link.text() == b"hello")

    assert reads == 1


async def test_a_drain_waits_for_a_keeper_that_is_away() -> None:
    """It is not asked over and over, in which nothing else would run; what it has is sent when it is back."""
    world = World()
    async with world.link() as link:
        world.write(b"before ")
        await eventually(lambda: link.text() == b"before ")
        world.keeper.away = True
        world.pump.drain(0, MASTER, (1,))
        await settle()
        asked = len(world.keeper.reads)
        await settle()
        assert len(world.keeper.reads) == asked
        world.keeper.away = False
        world.keeper.output[MASTER, 1] += b"after"
        world.keeper.ended.add((MASTER, 1))
        world.pump.synced(account(len(b"before after")))
        await eventually(lambda: world.drained == [MASTER])

    assert link.text() == b"before after"


async def test_what_the_keeper_lost_is_forgotten() -> None:
    """Nobody waits for it."""
    world = World()
    async with world.link(ack=False) as link:
        world.write(b"hello")
        await eventually(lambda: link.pieces)
        world.pump.drain(0, MASTER, (1,))
        world.pump.synced(local.Synced("i", "boot", "fabric", "", (), {}, ()))

    assert world.drained == [MASTER]


async def test_a_silent_task_is_not_read_over_and_over() -> None:
    """Without output there is nothing to ask for."""
    world = World()
    async with world.link():
        world.write(b"hello")
        await settle()
        reads = len(world.keeper.reads)
        await settle()

    assert reads == len(world.keeper.reads) == 1
