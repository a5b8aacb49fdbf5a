"""What a Raft member stores survives a crash at any byte, and nothing half-written comes back."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest
from raftkv.disk import Disk
from raftkv.values import Entry, Meta, noop

META = Meta(incarnation="i", roster={"a": "i"}, formed=True, voter=True, term=3, vote="a")


def _entries(count: int, term: int = 1) -> list[Entry]:
    return [Entry(term, noop(f"n{number}")) for number in range(count)]


def _written(folder: Path, entries: list[Entry]) -> Disk:
    disk = Disk(folder)
    disk.load()
    disk.save_meta(META)
    disk.write(1, entries)
    return disk


def _reloaded(folder: Path) -> tuple[Meta | None, list[Entry]]:
    disk = Disk(folder)
    try:
        return disk.load()
    finally:
        disk.close()


def test_a_new_disk_is_empty(tmp_path: Path) -> None:
    """A disk that was never used says so."""
    assert _reloaded(tmp_path / "data") == (None, [])


def test_term_vote_and_log_are_kept(tmp_path: Path) -> None:
    """What was written is there after a restart, the vote too."""
    _written(tmp_path, _entries(3)).close()

    assert _reloaded(tmp_path) == (META, _entries(3))


def test_a_tail_torn_at_any_byte_ends_the_log_before_it(tmp_path: Path) -> None:
    """However much of the last record reached the disk, the records before it are whole."""
    _written(tmp_path, _entries(3)).close()
    whole = (tmp_path / "log").read_bytes()
    two = tmp_path / "two"
    _written(two, _entries(2)).close()
    size = (two / "log").stat().st_size

    for torn in range(size, len(whole)):
        (tmp_path / "log").write_bytes(whole[:torn])

        assert _reloaded(tmp_path)[1] == _entries(2)
        assert (tmp_path / "log").stat().st_size == size


@pytest.mark.parametrize("garbage", [b"\0" * 64, b"\xff" * 64, random.Random(1).randbytes(64)])
def test_garbage_behind_the_log_is_cut_off(tmp_path: Path, garbage: bytes) -> None:
    """Blocks that were allocated and never written do not come back as entries."""
    _written(tmp_path, _entries(2)).close()
    with open(tmp_path / "log", "ab") as log:
        log.write(garbage)

    assert _reloaded(tmp_path)[1] == _entries(2)


def test_writing_goes_on_after_a_torn_tail(tmp_path: Path) -> None:
    """The next entry takes the place of the torn one."""
    _written(tmp_path, _entries(2)).close()
    with open(tmp_path / "log", "r+b") as log:
        log.truncate(log.seek(0, os.SEEK_END) - 1)
    disk = Disk(tmp_path)
    disk.load()
    disk.write(2, [Entry(2, noop("x"))])
    disk.close()

    assert _reloaded(tmp_path)[1] == [*_entries(1), Entry(2, noop("x"))]


def test_what_a_conflict_replaced_does_not_come_back(tmp_path: Path) -> None:
    """Records left over behind a shorter new tail do not fit its checksums."""
    disk = _written(tmp_path, _entries(4, term=1))
    stale = (tmp_path / "log").read_bytes()
    disk.write(2, _entries(1, term=2))
    disk.close()
    fresh = (tmp_path / "log").read_bytes()
    (tmp_path / "log").write_bytes(fresh + stale[len(fresh) :])

    assert _reloaded(tmp_path)[1] == [*_entries(1, term=1), *_entries(1, term=2)]


def test_a_gap_is_refused(tmp_path: Path) -> None:
    """An entry that does not follow the last one is a broken invariant."""
    disk = _written(tmp_path, _entries(2))

    with pytest.raises(AssertionError, match="gap"):
        disk.write(4, _entries(1))
    disk.close()


def test_a_log_without_its_meta_is_nobodys(tmp_path: Path) -> None:
    """A disk is known by its meta; without it, it is a new one."""
    _written(tmp_path, _entries(2)).close()
    (tmp_path / "meta.json").unlink()

    assert _reloaded(tmp_path) == (None, [])


def test_a_meta_that_was_not_put_in_place_is_not_read(tmp_path: Path) -> None:
    """A crash before the rename leaves the meta as it was."""
    _written(tmp_path, _entries(1)).close()
    shutil.copy(tmp_path / "meta.json", tmp_path / "meta.new")
    (tmp_path / "meta.new").write_bytes(b'{"incarn')

    assert _reloaded(tmp_path)[0] == META
