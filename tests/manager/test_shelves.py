"""Histories on the manager's disk: pieces, repeats, bounds, and what a crash leaves."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from syndicate.manager.core.errors import BadRequest, CoreError, Exhausted, NotFound, Refused
from syndicate.manager.histories import PIECE_BYTES, Bounds, Piece, Shelf
from syndicate.manager.rpc import Shelves
from syndicate.v1 import chaos_pb2 as chaos

BOUNDS = Bounds(history_bytes=1000, job_bytes=1500, histories=3, job_histories=5)
SHORT = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def digest(data: bytes) -> str:
    """As the last piece has it."""
    return hashlib.sha256(data).hexdigest()


def piece(data: bytes = b"", offset: int = 0, **fields: object) -> Piece:
    """One of client-0's first generation."""
    values: dict[str, object] = {"task": "client-0", "generation": 1, "name": "", **fields}
    return Piece(offset=offset, data=data, **values)  # type: ignore[arg-type]  # as Piece has them


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """An empty one."""
    return Shelf(tmp_path / "7" / "1", BOUNDS)


def again(tmp_path: Path) -> Shelf:
    """The same after a restart."""
    return Shelf(tmp_path / "7" / "1", BOUNDS)


def all_of(shelf: Shelf, task: str = "client-0", name: str = "history") -> bytes:
    """Everything that is read of a history."""
    return shelf.read(task, name, 0, 10_000)


def test_a_wrong_digest_costs_no_more_than_its_piece(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was handed over before is not read again for it, however often it comes."""
    shelf.put(piece(b"one"))
    reads: list[int] = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda *given: reads.append(given[1]) or pread(*given))
    for _ in range(3):
        with pytest.raises(BadRequest, match="the digest of the 6 bytes"):
            shelf.put(piece(b"two", 3, sha256="0" * 64))
    monkeypatch.undo()

    assert reads == []
    assert shelf.put(piece(b"two", 3, sha256=digest(b"onetwo"))) == 6
    assert all_of(shelf) == b"onetwo"


async def test_only_a_last_word_wakes_who_waits(tmp_path: Path) -> None:
    """And that once: neither whole histories nor repeats do, which a client sends as often as it likes."""
    with ThreadPoolExecutor(1) as files:
        shelves = Shelves(tmp_path, files)
        woken = []
        for last in (
            piece(b"a", sha256=digest(b"a")),
            piece(b"b", name="more", sha256=digest(b"b"), final=True),
            piece(b"b", name="more", sha256=digest(b"b"), final=True),
        ):
            with shelves.changed.watch(7) as changed:
                changed.clear()
                await shelves.put(7, 1, last)
                woken.append(changed.is_set())

    assert woken == [False, True, False]


def test_pieces_follow_each_other_and_the_last_one_closes(shelf: Shelf) -> None:
    """Each answers how much there is; the digest stands with the whole."""
    sizes = [shelf.put(piece(b"one")), shelf.put(piece(b"two", 3))]
    open_yet = shelf.kept[0].sha256
    sizes.append(shelf.put(piece(b"", 6, sha256=digest(b"onetwo"), final=True)))
    (kept,) = shelf.kept
    assert (sizes, open_yet) == ([3, 6, 6], "")
    assert (kept.task, kept.name, kept.size, kept.sha256) == ("client-0", "history", 6, digest(b"onetwo"))
    assert (all_of(shelf), shelf.finals) == (b"onetwo", {"client-0": 1})


def test_a_repeat_changes_nothing(shelf: Shelf) -> None:
    """Also of the last piece, in part, and of the whole when it is closed."""
    shelf.put(piece(b"one"))
    shelf.put(piece(b"one"))
    shelf.put(piece(b"netwo", 1, sha256=digest(b"onetwo")))
    for repeat in (
        piece(b"one"),
        piece(b"netwo", 1, sha256=digest(b"onetwo")),
        piece(b"", 6, sha256=digest(b"onetwo"), final=True),
    ):
        assert shelf.put(repeat) == 6
    assert (all_of(shelf), shelf.finals) == (b"onetwo", {"client-0": 1})


@pytest.mark.parametrize(
    ("bad", "error", "reason"),
    [
        (piece(b"x", 4), BadRequest, "BAD_FIELD"),  # a gap
        (piece(b"x", 2**62), BadRequest, "BAD_FIELD"),
        (piece(b"x", -1), BadRequest, "BAD_FIELD"),
        (piece(b"x", -(2**63)), BadRequest, "BAD_FIELD"),
        (piece(b"two"), Refused, "HISTORY_CLOSED"),  # other bytes than those that are there
        (piece(b"", 3, sha256=digest(b"two")), BadRequest, "BAD_FIELD"),
        (piece(b"", 3, sha256="x"), BadRequest, "BAD_FIELD"),
        (piece(b"on", sha256=digest(b"on")), BadRequest, "BAD_FIELD"),  # ends before what is there
        (piece(b"", 3, final=True), BadRequest, "BAD_FIELD"),  # the history would stay open
        (piece(b"x" * (PIECE_BYTES + 1)), BadRequest, "BAD_FIELD"),
        (piece(b"x" * 998, 3), Exhausted, "HISTORY_TOO_LARGE"),
        *[
            (piece(b"x", name=name), BadRequest, "BAD_FIELD")
            for name in ("../x", "..", ".", "a/b", "\0", "A", "é", "x" * 64, ".final", "-x", " ")
        ],
    ],
)
def test_what_cannot_be_is_refused_and_leaves_no_trace(
    shelf: Shelf, tmp_path: Path, bad: Piece, error: type[CoreError], reason: str
) -> None:
    """What was there stays as it was, now and after a restart."""
    shelf.put(piece(b"one"))
    with pytest.raises(error) as caught:
        shelf.put(bad)
    assert caught.value.reason == reason
    for one in (shelf, again(tmp_path)):
        assert [(kept.name, kept.size, kept.sha256) for kept in one.kept] == [("history", 3, "")]
        assert (all_of(one), one.finals) == (b"one", {})
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        "history.data",
        "history.state",
    ]


def test_a_closed_history_takes_nothing_more(shelf: Shelf) -> None:
    """Neither more bytes, nor another digest."""
    shelf.put(piece(b"one", sha256=digest(b"one")))
    for bad in (piece(b"two", 3), piece(b"one", sha256=digest(b"two")), piece(b"on", sha256=digest(b"one"))):
        with pytest.raises(Refused) as caught:
            shelf.put(bad)
        assert caught.value.reason == "HISTORY_CLOSED"


def test_a_client_that_was_final_hands_over_again_when_it_was_revived(shelf: Shelf) -> None:
    """The same generation may not, the next one may, and says so for itself."""
    shelf.put(piece(b"one", sha256=digest(b"one"), final=True))
    with pytest.raises(Refused):
        shelf.put(piece(b"two", name="history-2"))
    shelf.put(piece(b"two", name="history-2", generation=2, sha256=digest(b"two"), final=True))
    shelf.put(piece(b"one", sha256=digest(b"one"), final=True))  # the first one's repeat, late
    assert shelf.finals == {"client-0": 2}


def test_bounds_are_of_a_history_a_task_and_an_attempt(shelf: Shelf) -> None:
    """Each is told with the most."""
    shelf.put(piece(b"x" * 1000))
    for name in ("b", "c"):
        shelf.put(piece(b"", name=name))
    refusals = []
    for bad in (piece(b"x", 1000), piece(b"", name="d"), piece(b"x" * 501, task="client-1")):
        with pytest.raises(Exhausted) as caught:
            shelf.put(bad)
        refusals.append((caught.value.reason, caught.value.metadata["most"]))
    assert refusals == [("HISTORY_TOO_LARGE", most) for most in ("1000", "3", "1500")]
    assert shelf.put(piece(b"x" * 500, task="client-1")) == 500
    shelf.put(piece(task="client-2"))
    with pytest.raises(Exhausted) as many:
        shelf.put(piece(task="client-3"))
    assert many.value.metadata["most"] == "5"


def test_what_a_kill_within_a_piece_left_is_cut_back(shelf: Shelf, tmp_path: Path) -> None:
    """Bytes that were never acknowledged are neither read, nor part of the whole."""
    shelf.put(piece(b"one"))
    with (tmp_path / "7" / "1" / "client-0" / "history.data").open("ab") as file:
        file.write(b"torn, and longer than what comes")
    found = again(tmp_path)
    assert (found.kept[0].size, all_of(found)) == (3, b"one")
    found.put(piece(b"two", 3, sha256=digest(b"onetwo")))
    assert (all_of(found), all_of(again(tmp_path))) == (b"onetwo", b"onetwo")


@pytest.mark.parametrize("state", [b"", b"nonsense", b"\0" * 86])
def test_what_a_crash_of_the_machine_took_is_told(shelf: Shelf, tmp_path: Path, state: bytes) -> None:
    """A state that is gone counts for nothing; bytes that are gone make a history that is not whole."""
    shelf.put(piece(b"one", sha256=digest(b"one")))
    shelf.put(piece(b"other", name="b", sha256=digest(b"other")))
    folder = tmp_path / "7" / "1" / "client-0"
    (folder / "history.state").write_bytes(state)
    os.truncate(folder / "b.data", 2)
    found = again(tmp_path)
    assert [(kept.name, kept.size, kept.sha256) for kept in found.kept] == [("b", 2, ""), ("history", 0, "")]
    assert found.put(piece(b"one", sha256=digest(b"one"))) == 3


def test_what_a_removal_that_was_broken_off_left_is_read(shelf: Shelf, tmp_path: Path) -> None:
    """A state without its bytes tells of a history with none: the others of the job can be read."""
    shelf.put(piece(b"one", sha256=digest(b"one")))
    shelf.put(piece(b"two", name="other", sha256=digest(b"two")))
    next(tmp_path.rglob("history.data")).unlink()

    found = Shelf(next(tmp_path.rglob("client-0")).parent, Bounds())

    assert [(kept.name, kept.size, bool(kept.sha256)) for kept in found.kept] == [
        ("history", 0, False),
        ("other", 3, True),
    ]


def test_a_disk_that_is_full_is_told_and_harms_nothing(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One clear refusal; with room again the same piece is taken."""
    shelf.put(piece(b"one"))
    with monkeypatch.context() as patch:
        real = os.pwrite

        def full(descriptor: int, data: bytes, offset: int) -> int:
            real(descriptor, data[:1], offset)
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(os, "pwrite", full)
        with pytest.raises(Exhausted) as caught:
            shelf.put(piece(b"two", 3))
    assert caught.value.reason == "HISTORY_TOO_LARGE" and "No space left" in caught.value.detail
    assert all_of(again(tmp_path)) == b"one"
    assert shelf.put(piece(b"two", 3, sha256=digest(b"onetwo"))) == 6


def test_reading_has_an_end_and_names(shelf: Shelf) -> None:
    """Past the end there is nothing; of what was never handed over it says so."""
    shelf.put(piece(b"one"))
    assert [shelf.read("client-0", "", at, 2) for at in (0, 2, 3, 2**62)] == [b"on", b"e", b"", b""]
    with pytest.raises(BadRequest):
        shelf.read("client-0", "", -1, 2)
    for task, name in (("client-1", ""), ("client-0", "../x"), ("../7", "history"), ("", "\0")):
        with pytest.raises(NotFound) as caught:
            shelf.read(task, name, 0, 2)
        assert caught.value.reason == "NO_SUCH_HISTORY"


@SHORT
@given(
    st.lists(
        st.tuples(
            st.text(alphabet="ab.-/\0é", max_size=3) | st.just(""),
            st.integers(-5, 12) | st.integers(-(2**63), 2**63 - 1),
            st.binary(max_size=6),
            st.booleans(),
            st.booleans(),
        ),
        max_size=12,
    )
)
def test_whatever_comes_nothing_acknowledged_is_lost(
    tmp_path_factory: pytest.TempPathFactory, calls: list[tuple[str, int, bytes, bool, bool]]
) -> None:
    """Strange names and offsets are refused by name; what was acknowledged is there after a restart."""
    folder = tmp_path_factory.mktemp("shelf")
    shelf = Shelf(folder / "7" / "1", BOUNDS)
    held: dict[str, bytes] = {}
    refusals: set[str] = set()
    for name, offset, data, closes, final in calls:
        key = name or "history"
        whole = held.get(key, b"")[: max(0, offset)] + data
        sha256 = digest(whole) if closes else ""
        try:
            size = shelf.put(piece(data, offset, name=name, sha256=sha256, final=final))
        except CoreError as error:
            refusals.add(error.reason)
            continue
        before = held.get(key, b"")
        held[key] = before[:offset] + data if offset + len(data) > len(before) else before
        assert size == len(held[key])
    assert refusals <= {"BAD_FIELD", "HISTORY_CLOSED", "HISTORY_TOO_LARGE"}
    for one in (shelf, Shelf(folder / "7" / "1", BOUNDS)):
        assert {kept.name: all_of(one, name=kept.name) for kept in one.kept} == held
    assert {path.parent.name for path in folder.rglob("*") if path.is_file()} <= {"client-0"}


async def test_calls_on_one_shelf_do_not_meet(tmp_path: Path) -> None:
    """Repeats that come at the same time are one; shelves that nobody uses are let go and found again."""
    with ThreadPoolExecutor(4) as files:
        shelves = Shelves(tmp_path, files, BOUNDS)
        sizes = await asyncio.gather(*(shelves.put(7, 1, piece(b"one")) for _ in range(20)))
        await asyncio.gather(*(shelves.kept(job_id, 1) for job_id in range(100, 500)))
        kept, _ = await shelves.kept(7, 1)
        await shelves.remove_job(7)
        gone, _ = await shelves.kept(7, 1)
    assert (set(sizes), [one.size for one in kept], gone) == ({3}, [3], ())


def test_the_longest_list_fits_into_a_relayed_answer() -> None:
    """Of as many histories as a job may have, with the longest names, and all others missing."""
    info = chaos.HistoryInfo(task="client-999", name="x" * 63, size=64 << 20, sha256="0" * 64)
    missing = [f"client-{number}" for number in range(1000)]
    answer = chaos.GatherHistoriesResponse(histories=[info] * Bounds().job_histories, missing=missing)
    assert answer.ByteSize() < 256 << 10
