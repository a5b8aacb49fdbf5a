"""The bounded store of a generation's output."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from syndicate.volunteer.keeper.logs import LogStore
from syndicate.volunteer.local import LogPiece, LogStream, Stamp

_PIECES = st.lists(st.tuples(st.sampled_from(LogStream), st.binary(min_size=1, max_size=300)), max_size=40)


def _stamp(number: int) -> Stamp:
    return Stamp("b0", number, number)


def _filled(folder: Path, pieces: list[tuple[LogStream, bytes]], head: int, tail: int) -> LogStore:
    store = LogStore(folder, 1, "b0", head, tail)
    for number, (stream, data) in enumerate(pieces):
        store.append(stream, _stamp(number), data)
    return store


def _read_all(store: LogStore, limit: int) -> tuple[list[LogPiece], int, bool]:
    found: list[LogPiece] = []
    offset = 0
    while True:
        read = store.read(offset, limit)
        found += read.pieces
        offset = read.next_offset
        if read.end or not read.pieces:
            return found, offset, read.end


@pytest.fixture
def store_folder(tmp_path: Path) -> Path:
    """A folder for stores that are closed before the next is made."""
    return tmp_path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_PIECES, st.integers(30, 3000), st.integers(0, 3000), st.integers(1, 500))
def test_ended_store_accounts_for_every_byte(
    store_folder: Path, pieces: list[tuple[LogStream, bytes]], head: int, tail: int, limit: int
) -> None:
    """Whatever the bounds, each byte is either served where it belongs or counted as dropped."""
    everything = b"".join(data for _, data in pieces)
    store = _filled(store_folder, pieces, head, tail)
    excerpt = store.finish()

    found, offset, end = _read_all(store, limit)
    store.close()

    at = 0
    for piece in found:
        at += piece.dropped_before
        assert piece.offset == at
        assert everything[at : at + len(piece.data)] == piece.data
        at += len(piece.data)
    assert end
    assert offset == len(everything) == excerpt.total
    assert (excerpt.head, excerpt.tail) == (everything[:4096], everything[-4096:])
    assert list(store_folder.iterdir()) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_PIECES, st.integers(30, 3000))
def test_living_store_serves_its_head_without_gaps(
    store_folder: Path, pieces: list[tuple[LogStream, bytes]], head: int
) -> None:
    """While a generation lives only the head is served, whole, and never its end."""
    everything = b"".join(data for _, data in pieces)
    store = _filled(store_folder, pieces, head, 1000)

    found, offset, end = _read_all(store, 100)
    store.close()

    served = b"".join(piece.data for piece in found)
    assert everything.startswith(served)
    assert offset == len(served)
    assert not end
    assert not any(piece.dropped_before for piece in found)


def test_streams_and_stamps_are_kept(tmp_path: Path) -> None:
    """Each piece comes back with the stream and the instant it was read from and at."""
    store = _filled(tmp_path, [(LogStream.STDOUT, b"a"), (LogStream.STDERR, b"b")], 1000, 0)

    pieces = store.read(0, 100).pieces

    assert pieces == (
        LogPiece(0, LogStream.STDOUT, _stamp(0), b"a"),
        LogPiece(1, LogStream.STDERR, _stamp(1), b"b"),
    )
    store.close()


def test_single_bytes_do_not_outgrow_the_bounds(tmp_path: Path) -> None:
    """A task that writes byte by byte gets no more disk or memory than another."""
    store = _filled(tmp_path, [(LogStream.STDOUT, b"x")] * 50_000, 20_000, 20_000)

    store.finish()

    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 40_000
    store.close()


def test_full_state_disk_counts_as_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the head's file takes no more, what comes is kept as the tail and the reader goes on."""
    store = _filled(tmp_path, [(LogStream.STDOUT, b"kept")], 1000, 1000)
    monkeypatch.setattr("syndicate.volunteer.keeper.logs.os.pwritev", _no_space)
    store.append(LogStream.STDOUT, _stamp(1), b"lost")
    store.finish()

    read = store.read(0, 100)

    assert [piece.data for piece in read.pieces] == [b"kept"]
    assert (read.next_offset, read.end) == (8, True)
    monkeypatch.undo()
    store.close()


def _no_space(*_: object) -> int:
    raise OSError(28, "No space left on device")


def test_closed_store_reads_as_ended(tmp_path: Path) -> None:
    """A read that comes after the release finds the end, not a file of another task."""
    store = _filled(tmp_path, [(LogStream.STDOUT, b"x")], 1000, 0)
    store.close()

    assert store.read(0, 10).end


def test_what_one_stream_wrote_together_is_told_as_one_piece(tmp_path: Path) -> None:
    """Neighbours of one stream within a few milliseconds are one piece; others keep their own stamps."""
    store = LogStore(tmp_path, 1, "b0", 10_000, 0)
    for milliseconds, stream, data in (
        (0, LogStream.STDOUT, b"a"),
        (1, LogStream.STDOUT, b"b"),
        (2, LogStream.STDERR, b"c"),
        (3, LogStream.STDOUT, b"d"),
        (4, LogStream.STDOUT, b"e"),
        (9, LogStream.STDOUT, b"f"),
    ):
        store.append(stream, _stamp(milliseconds * 1_000_000), data)

    pieces = store.read(0, 100).pieces

    assert pieces == (
        LogPiece(0, LogStream.STDOUT, _stamp(0), b"ab"),
        LogPiece(2, LogStream.STDERR, _stamp(2_000_000), b"c"),
        LogPiece(3, LogStream.STDOUT, _stamp(3_000_000), b"de"),
        LogPiece(5, LogStream.STDOUT, _stamp(9_000_000), b"f"),
    )
    store.close()
