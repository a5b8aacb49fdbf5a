"""What is removed of jobs that ended long ago."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from syndicate.manager.core.model import FaultKind, JobState, Role, TaskState
from syndicate.manager.core.records import AuditRecord, FaultRecord, RunRecord, StoryRecord, TaskRecord
from syndicate.manager.disks import DiskBounds, DiskStore
from syndicate.manager.histories import Piece
from syndicate.manager.logs import LogStore
from syndicate.manager.retention import Keep, Parts, keep_newest
from syndicate.manager.rpc import Shelves
from syndicate.manager.store import SqliteStore, removal

from tests.manager.stored import AT, WAIT_S, job, opened

PARTS = ("logs", "disks", "histories")


async def rows_of(store: SqliteStore) -> list[int]:
    """How many rows each table has: job, task, run, fault, story."""

    def count() -> list[int]:
        return [
            store._raw.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("job", "task", "run", "fault", "story")
        ]

    return await asyncio.to_thread(count)


async def test_the_oldest_ended_jobs_are_removed_with_their_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many of the newest stay as the operator says, and every job that lives."""
    monkeypatch.setattr(removal, "_ROWS_AT_A_TIME", 3)
    with ThreadPoolExecutor(1) as files:
        parts = Parts(
            LogStore(tmp_path / "logs"),
            DiskStore(tmp_path / "disks", DiskBounds()),
            Shelves(tmp_path / "histories", files),
        )
        await _removes_the_oldest(tmp_path, parts, monkeypatch)


async def _removes_the_oldest(tmp_path: Path, parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path) as (store, durable):
        states = {n: JobState.RUNNING if n == 1 else JobState.FAILED for n in range(1, 7)}
        for n, state in states.items():
            for part in PARTS:
                (tmp_path / part / str(n) / "1").mkdir(parents=True)
            await durable.until(
                store.submit(
                    [
                        job(n, state),
                        TaskRecord(n, 1, "master", Role.MASTER, "node-a", "b", 0, TaskState.RELEASED),
                        RunRecord(n, 1, "master", 1, AT),
                        *(FaultRecord(n, f, 1, "", FaultKind.KILL, "master", "", AT) for f in range(10)),
                        *(StoryRecord(n, s, 1, AT, "", "job.ended", "") for s in range(7)),
                    ]
                )
            )
        done, remove = asyncio.Event(), store.remove_job

        async def told(job_id: int) -> None:
            await remove(job_id)
            if not await store.old_jobs(2, 1):
                done.set()

        monkeypatch.setattr(store, "remove_job", told)
        sweeping = asyncio.create_task(keep_newest(store, parts, Keep(2, 4, 2**40)))
        await asyncio.wait_for(done.wait(), WAIT_S)
        left = await store.list_jobs(None, 10, "", [])
        rows = await rows_of(store)
        sweeping.cancel()
        await asyncio.wait([sweeping])

    assert [record.job_id for record in left] == [6, 5, 1]
    assert rows == [3, 3, 3, 30, 21]
    for part in PARTS:
        folders = sorted(path.name for path in (tmp_path / part).iterdir() if path.name.isdecimal())
        assert folders == ["1", "5", "6"], part


async def test_histories_of_the_oldest_ended_jobs_make_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bytes that the operator keeps; a job that lives keeps its own, and rows stay."""
    with ThreadPoolExecutor(1) as files:
        shelves = Shelves(tmp_path / "histories", files)
        parts = Parts(LogStore(tmp_path / "logs"), DiskStore(tmp_path / "disks", DiskBounds()), shelves)
        async with opened(tmp_path) as (store, durable):
            for n in range(1, 6):
                await durable.until(store.submit([job(n, JobState.RUNNING if n == 1 else JobState.FAILED)]))
                await shelves.put(n, 1, Piece("client-0", 1, "", 0, b"x" * 100))
            swept, trim = asyncio.Event(), store.trim_audit

            async def told(keep: int) -> int:
                swept.set()  # which comes after it
                return await trim(keep)

            monkeypatch.setattr(store, "trim_audit", told)
            sweeping = asyncio.create_task(keep_newest(store, parts, Keep(100, 4, 300)))
            await asyncio.wait_for(swept.wait(), WAIT_S)
            left = await store.list_jobs(None, 10, "", [])
            kept = await shelves.kept(2, 1)
            sweeping.cancel()
            await asyncio.wait([sweeping])
            held = await shelves.jobs()

    assert (held, kept) == ({1: 100, 4: 100, 5: 100}, ())
    assert len(left) == 5


async def test_a_removal_beside_commits_disturbs_none(tmp_path: Path) -> None:
    """Both write the same file; everything that was submitted is durable all the same."""
    async with opened(tmp_path) as (store, durable):
        await durable.until(store.submit([job(n, JobState.FAILED) for n in range(1, 301)]))
        for n in range(301, 401):
            ticket = store.submit([job(n)])
            await store.remove_job(n - 300)
        await durable.until(ticket)
        left = await store.list_jobs(None, 1000, "", [])

    assert [record.job_id for record in left] == list(range(400, 100, -1))


async def test_the_oldest_lines_of_the_audit_log_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as the operator says stay, and lines are counted on."""
    monkeypatch.setattr(removal, "_ROWS_AT_A_TIME", 3)
    lines = [AuditRecord(n, AT, "alice", "t", "::1", "Submit", "", True) for n in range(1, 21)]
    async with opened(tmp_path) as (store, durable):
        await durable.until(store.submit(lines))
        removed = [await store.trim_audit(5), await store.trim_audit(5)]
        left = await store.list_audit(None, 100, "", 0, False)

    assert removed == [15, 0]
    assert [line.line for line in left] == [20, 19, 18, 17, 16]


async def test_the_audit_line_of_the_newest_job_stays(tmp_path: Path) -> None:
    """A start takes jobs behind it for ones whose lines a crash took, and writes them down once more."""
    said = [AuditRecord(n, AT, "alice", "t", "::1", "Submit", f"job {n}", True, "", n) for n in range(1, 4)]
    said += [AuditRecord(n, AT, "bob", "t", "::1", "WhoAmI", "", False, "BAD_TOKEN") for n in range(4, 21)]
    async with opened(tmp_path) as (store, durable):
        await durable.until(store.submit(said))
        removed = [await store.trim_audit(5), await store.trim_audit(5)]
        left = await store.list_audit(None, 100, "", 0, False)

    assert removed == [14, 0]
    assert [line.line for line in left] == [20, 19, 18, 17, 16, 3]
