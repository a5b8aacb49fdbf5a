"""Logs: pieces stored once, in order, bounded, and merged by time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from syndicate.manager.logs import LogKey, LogReader, LogStore, Stored
from syndicate.manager.logs.files import LogFile, read_dropped
from syndicate.v1 import common_pb2 as common
from syndicate.v1 import scheduler_pb2 as scheduler

MASTER = LogKey(1, 1, "master", 1)
SLAVE = LogKey(1, 1, "slave-0", 1)


class Told:
    """What the store told the loop."""

    def __init__(self) -> None:
        self.stored: list[Stored] = []
        self.trouble: list[Exception] = []

    def take(self, stored: Sequence[Stored]) -> None:
        """The store's callback."""
        self.stored += stored


@asynccontextmanager
async def opened(path: Path, cap_bytes: int = 1 << 20) -> AsyncIterator[tuple[LogStore, Told]]:
    """A log store that writes."""
    store, told = LogStore(path, cap_bytes), Told()
    store.start(told.take, lambda _path, error: told.trouble.append(error))
    try:
        yield store, told
    finally:
        await store.close()


def entry(key: LogKey, offset: int, data: bytes, at: int = 0) -> scheduler.ReadLogsResponse:
    """A piece as the Registry hands it over; `at` is the manager's time."""
    return scheduler.ReadLogsResponse(
        task=key.task,
        generation=key.generation,
        piece=common.LogPiece(offset=offset, stream=common.LOG_STREAM_STDOUT, data=data),
        at=common.Stamp(boot_id="m", monotonic_ns=at, utc_ns=at),
    )


def append(store: LogStore, key: LogKey, offset: int, data: bytes, at: int = 0) -> None:
    """Append a piece from session `s`."""
    store.append("s", key, entry(key, offset, data, at))


async def read(store: LogStore, *keys: LogKey) -> list[scheduler.ReadLogsResponse]:
    """Everything that is stored."""
    await store.flushed()
    reader = store.reader(1, 1, [key.task for key in keys])
    try:
        return reader.next_batch(1 << 30)
    finally:
        reader.close()


async def test_pieces_come_back_raw_and_in_order(tmp_path: Path) -> None:
    """Bytes of any kind are stored as they came, and the end is told."""
    async with opened(tmp_path) as (store, told):
        append(store, MASTER, 0, b"\x00\xff\x1b[31m")
        append(store, MASTER, 7, b"more\n")
        pieces = await read(store, MASTER)

    assert b"".join(p.piece.data for p in pieces) == b"\x00\xff\x1b[31mmore\n"
    assert told.stored[-1] == Stored("s", MASTER, 12)


async def test_repeats_are_stored_once(tmp_path: Path) -> None:
    """A piece that was stored is dropped, one that overlaps is cut, and the end is told each time."""
    async with opened(tmp_path) as (store, told):
        append(store, MASTER, 0, b"abcdef")
        await store.flushed()
        append(store, MASTER, 0, b"abc")
        append(store, MASTER, 3, b"defghi")
        pieces = await read(store, MASTER)

    assert b"".join(p.piece.data for p in pieces) == b"abcdefghi"
    assert [p.piece.offset for p in pieces] == [0, 6]
    assert told.stored[-1].offset == 9


async def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    """The next start knows from the file what is stored, and repairs a record that was cut short."""
    async with opened(tmp_path) as (store, _):
        append(store, MASTER, 0, b"first")
        append(store, LogKey(1, 1, "master", 2), 0, b"second generation")
    with (tmp_path / "1/1/master.log").open("ab") as file:
        file.write(b"\0\0\0\x50half a record")

    async with opened(tmp_path) as (store, _):
        append(store, MASTER, 0, b"first")
        append(store, LogKey(1, 1, "master", 2), 0, b"second generation")
        append(store, LogKey(1, 1, "master", 2), 17, b", and on")
        pieces = await read(store, MASTER)

    assert [(p.generation, p.piece.data) for p in pieces] == [
        (1, b"first"),
        (2, b"second generation"),
        (2, b", and on"),
    ]


async def test_a_damaged_file_gives_what_is_whole(tmp_path: Path) -> None:
    """Noise in a file ends it there: what stands before is read, and what comes is stored in its place."""
    async with opened(tmp_path) as (store, _):
        append(store, MASTER, 0, b"whole")
    with (tmp_path / "1/1/master.log").open("ab") as file:
        file.write(b"\0\0\0\x04\xff\xff\xff\xff" + b"noise" * 10)

    async with opened(tmp_path) as (store, told):
        append(store, MASTER, 5, b" again")
        pieces = await read(store, MASTER)

    assert [p.piece.data for p in pieces] == [b"whole", b" again"]
    assert told.trouble == []


async def test_a_gap_is_told_as_dropped(tmp_path: Path) -> None:
    """Bytes that never came are counted before the piece that follows them."""
    async with opened(tmp_path) as (store, _):
        append(store, MASTER, 0, b"head")
        append(store, MASTER, 104, b"tail")
        pieces = await read(store, MASTER)

    assert [p.piece.dropped_before for p in pieces] == [0, 100]


async def test_a_file_is_capped_and_the_rest_counted(tmp_path: Path) -> None:
    """Beyond the cap only the count is kept, which survives a restart; nothing need be sent again."""
    async with opened(tmp_path, cap_bytes=1000) as (store, told):
        append(store, MASTER, 0, b"x" * 600)
        append(store, MASTER, 600, b"y" * 600)
        append(store, MASTER, 1200, b"z" * 600)
        await store.flushed()
        assert told.stored[-1].offset == 1800
    async with opened(tmp_path, cap_bytes=1000) as (store, _):
        append(store, MASTER, 1200, b"z" * 600)
        append(store, MASTER, 1800, b"z" * 10)
        pieces = await read(store, MASTER)
        dropped = store.reader(1, 1, ["master"]).dropped()

    assert sum(len(p.piece.data) for p in pieces) == 600
    assert [(d.piece.dropped_before, d.piece.offset) for d in dropped] == [(1210, 1810)]
    assert (tmp_path / "1/1/master.log").stat().st_size <= 1000


async def test_tasks_are_merged_by_time(tmp_path: Path) -> None:
    """Pieces of several tasks come in the order of the manager's clock, each task's in its own."""
    async with opened(tmp_path) as (store, _):
        for at, text in ((10, b"m1"), (30, b"m2"), (20, b"m3")):
            append(store, MASTER, {10: 0, 30: 2, 20: 4}[at], text, at)
        append(store, SLAVE, 0, b"s1", 5)
        append(store, SLAVE, 2, b"s2", 25)
        pieces = await read(store, MASTER, SLAVE)

    assert [p.piece.data for p in pieces] == [b"s1", b"m1", b"s2", b"m2", b"m3"]


async def test_a_reader_follows_a_file_that_grows(tmp_path: Path) -> None:
    """Reading on gives what was appended since, also to a file that was not there at first."""
    async with opened(tmp_path) as (store, _):
        reader = store.reader(1, 1, ["master"])
        before = reader.next_batch()
        append(store, MASTER, 0, b"one")
        await store.flushed()
        first = reader.next_batch()
        append(store, MASTER, 3, b"two")
        await store.flushed()
        second = reader.next_batch()
        reader.close()

    assert before == []
    assert [p.piece.data for p in (*first, *second)] == [b"one", b"two"]


async def test_a_batch_is_bounded(tmp_path: Path) -> None:
    """A reader gives a long log in pieces."""
    async with opened(tmp_path) as (store, _):
        for number in range(10):
            append(store, MASTER, number * 1000, b"x" * 1000)
        await store.flushed()
        reader = store.reader(1, 1, ["master"])
        sizes = []
        while batch := reader.next_batch(max_bytes=2500):
            sizes.append(len(batch))
        reader.close()

    assert sizes == [3, 3, 3, 1]


async def test_a_disk_in_trouble_costs_output_only(tmp_path: Path) -> None:
    """Pieces that cannot be written are told as trouble, acknowledged, and counted as a gap later."""
    async with opened(tmp_path) as (store, told):
        append(store, MASTER, 0, b"one")
        await store.flushed()
        blocker = tmp_path / "1/1/master.log"
        kept = blocker.read_bytes()
        blocker.unlink()
        blocker.mkdir()
        append(store, MASTER, 3, b"two")
        await store.flushed()
        blocker.rmdir()
        blocker.write_bytes(kept)
        append(store, MASTER, 6, b"three")
        pieces = await read(store, MASTER)

    assert len(told.trouble) == 1
    assert told.stored[-2:] == [Stored("s", MASTER, 6), Stored("s", MASTER, 11)]
    assert [(p.piece.data, p.piece.dropped_before) for p in pieces] == [(b"one", 0), (b"three", 3)]


async def test_what_a_failed_write_was_to_tell_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it is tried again nothing counts as dropped twice, and nothing that was stored as dropped."""
    file = LogFile(tmp_path / "1" / "1" / "master.log", cap_bytes=100)
    (tmp_path / "1" / "1").mkdir(parents=True)

    def no_space(self: LogFile) -> None:
        raise OSError(28, "no space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(LogFile, "_save_dropped", no_space)
        with pytest.raises(OSError, match="no space"):
            file.append([entry(MASTER, 0, b"a" * 20), entry(MASTER, 20, b"b" * 500)])
    file.append([entry(MASTER, 0, b"a" * 20), entry(MASTER, 20, b"b" * 500)])

    dropped = read_dropped(tmp_path / "1" / "1" / "master.log")
    assert dropped is not None and dropped.piece.dropped_before == 500
    reader = LogReader([tmp_path / "1" / "1" / "master.log"])
    assert [(e.piece.data, e.piece.dropped_before) for e in reader.next_batch()] == [(b"a" * 20, 0)]
    reader.close()


async def test_room_comes_when_the_disk_has_written(tmp_path: Path) -> None:
    """A store with too much waiting is full, and `room` ends once it is not."""
    store = LogStore(tmp_path, max_waiting_bytes=100)
    append(store, MASTER, 0, b"x" * 100)
    full = store.full
    told = Told()
    store.start(told.take, lambda _path, error: told.trouble.append(error))
    async with asyncio.timeout(60):
        await store.room()
    await store.close()

    assert (full, store.full) == (True, False)


@pytest.mark.parametrize("task", ["../x", "", "a/b", "Master", "m" * 64])
def test_names_that_no_task_has_lead_nowhere(tmp_path: Path, task: str) -> None:
    """A task's name cannot leave the directory."""
    store = LogStore(tmp_path)
    with pytest.raises(ValueError, match="no name of a task"):
        store.append("s", LogKey(1, 1, task, 1), entry(LogKey(1, 1, task, 1), 0, b"x"))
    with pytest.raises(ValueError, match="no name of a task"):
        store.reader(1, 1, [task])
