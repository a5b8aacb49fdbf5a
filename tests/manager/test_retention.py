"""What is removed of jobs that ended long ago."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from syndicate.manager.core.model import FaultKind, JobState, Role, TaskState
from syndicate.manager.core.records import AuditRecord, FaultRecord, RunRecord, StoryRecord, TaskRecord
from syndicate.manager.logs import LogStore
from syndicate.manager.retention import keep_newest
from syndicate.manager.store import SqliteStore, removal

from tests.manager.test_store import AT, WAIT_S, job, opened


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
    logs = LogStore(tmp_path / "logs")
    async with opened(tmp_path) as (store, durable):
        states = {n: JobState.RUNNING if n == 1 else JobState.FAILED for n in range(1, 7)}
        for n, state in states.items():
            (tmp_path / "logs" / str(n) / "1").mkdir(parents=True)
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
        sweeping = asyncio.create_task(keep_newest(store, logs, keep_jobs=2, keep_audit=4))
        await asyncio.wait_for(done.wait(), WAIT_S)
        left = await store.list_jobs(None, 10, "", [])
        rows = await rows_of(store)
        sweeping.cancel()
        await asyncio.wait([sweeping])

    assert [record.job_id for record in left] == [6, 5, 1]
    assert rows == [3, 3, 3, 30, 21]
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["1", "5", "6"]


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
