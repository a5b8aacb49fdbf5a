"""The store: groups, order, what a restart finds, and a commit that fails."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from syndicate.manager.core.model import (
    FaultKind,
    JobState,
    Outcome,
    Quota,
    Resources,
    Result,
    Role,
    TaskState,
    TokenScope,
    UserRole,
)
from syndicate.manager.core.records import (
    AuditRecord,
    FaultRecord,
    JobRecord,
    NodeRecord,
    PlannedPart,
    PlanRecord,
    Record,
    RunRecord,
    StoryRecord,
    TaskRecord,
    TeamRecord,
    TokenRecord,
    UserRecord,
)
from syndicate.manager.store import CommitFailed, SqliteStore, schema

from tests.manager.stored import AT, WAIT_S, Durable, job, opened, restored, saved


async def test_what_was_saved_is_restored(tmp_path: Path) -> None:
    """One record of each kind comes back equal."""
    records: list[Record] = [
        NodeRecord("node-a", "b", ((0, ""),), "10.77.0.0/24", "fabric", "", (), "1", Resources(), False, AT),
        job(1, JobState.RUNNING),
        TaskRecord(1, 1, "master", Role.MASTER, "node-a", "b", 0, TaskState.RUNNING, "10.77.0.2", 1),
        RunRecord(1, 1, "master", 1, AT),
        FaultRecord(1, 1, 1, "request", FaultKind.KILL, "master", "client-0", AT),
        PlanRecord(1, 1, 5, "client-0", FaultKind.KILL, (PlannedPart("master", 6),)),
        StoryRecord(1, 1, 1, AT, "master", "task.started", "pid 1"),
    ]
    await saved(tmp_path, *records)

    assert sorted(await restored(tmp_path), key=str) == sorted(records, key=str)


async def test_the_database_is_its_owners_alone(tmp_path: Path) -> None:
    """Whatever the folder's mode and the umask, and where an older version made it otherwise."""
    (tmp_path / "manager.db").touch(mode=0o644)
    store = SqliteStore.open(tmp_path)
    try:
        modes = _modes(tmp_path)
    finally:
        await store.close()
    assert len(modes) == 3 and set(modes.values()) == {0o600}


def _modes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in folder.glob("manager.db*")}


async def test_the_last_save_of_a_key_wins(tmp_path: Path) -> None:
    """Within a group and across groups a key's newest row stands."""
    async with opened(tmp_path) as (store, durable):
        store.submit([job(1), replace(job(1), state=JobState.RESERVING)])
        await durable.until(store.submit([replace(job(1), state=JobState.PREPARING)]))
        await durable.until(store.submit([replace(job(1), state=JobState.RUNNING)]))
        await durable.until(store.submit([job(2), replace(job(2), state=JobState.RUNNING)]))

    assert [r.state for r in await restored(tmp_path) if isinstance(r, JobRecord)] == [JobState.RUNNING] * 2


async def test_a_group_larger_than_a_statement_is_one_transaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of a group that is no power of two, in several statements, are each saved once."""
    monkeypatch.setattr(schema, "MOST_ROWS", 32)
    async with opened(tmp_path) as (store, durable):
        await durable.until(store.submit([job(number) for number in range(1, 104)]))

    assert durable.tickets == [1]
    assert [r.job_id for r in await restored(tmp_path) if isinstance(r, JobRecord)] == [*range(1, 104)]


class Weighed:
    """A connection that notes how long the values of each statement are."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.lengths: list[int] = []

    def execute(self, statement: str, values: Sequence[object] = ()) -> None:
        """As the connection's."""
        self.lengths.append(sum(len(value) for value in values if isinstance(value, str)))
        self.connection.execute(statement, values)


async def test_no_statement_is_given_more_than_some_megabytes(tmp_path: Path) -> None:
    """SQLite keeps what a prepared one was given last, and each of a thousand clients may say 64 kB."""
    member = TaskRecord(1, 1, "master", Role.MASTER, "node-a", "b", 0, TaskState.RUNNING, "10.77.0.2", 1)
    result = Result(Outcome.PASS, text="x" * (64 << 10))
    said = [replace(member, task=f"client-{number}", result=result) for number in range(300)]
    long = replace(member, task="client-300", result=replace(result, text="x" * (1 << 19)))
    silent = [replace(member, task=f"slave-{number}") for number in range(128)]
    saved: list[Record] = [job(1, JobState.RUNNING), *said, *silent, long]
    async with opened(tmp_path) as (store, durable):
        weighed = Weighed(store._raw)
        store._raw = cast(sqlite3.Connection, weighed)
        await durable.until(store.submit(saved))
        await durable.until(store.submit([*silent, long]))

    assert max(weighed.lengths) < 3 << 20
    assert sorted(await restored(tmp_path), key=str) == sorted(saved, key=str)


async def test_what_gathers_during_a_commit_is_one_group(tmp_path: Path) -> None:
    """While the disk is busy submissions gather, and are told durable with one call."""
    async with opened(tmp_path) as (store, durable):
        began, go = threading.Event(), threading.Event()
        commit = store._commit

        def slow(group: list[Record]) -> None:
            began.set()
            assert go.wait(WAIT_S)
            commit(group)

        store._group_writer._commit = slow  # type: ignore[union-attr]  # started above
        store.submit([job(1)])
        await asyncio.to_thread(began.wait, WAIT_S)
        last = [store.submit([job(number)]) for number in range(2, 101)][-1]
        go.set()
        await durable.until(last)

    assert durable.tickets == [1, 100]


async def test_a_full_store_says_so(tmp_path: Path) -> None:
    """`full` holds while as many records wait as the bound says, and no longer."""
    async with opened(tmp_path, max_waiting=3) as (store, durable):
        ticket = store.submit([job(1), job(2), job(3)])
        full = store.full
        await durable.until(ticket)

        assert (full, store.full) == (True, False)


async def test_restart_keeps_live_jobs_and_the_newest_ended(tmp_path: Path) -> None:
    """Old ended jobs stay in the store, of newer ones the tasks come too; all live ones come back whole."""
    tasks = [
        TaskRecord(number, 1, "master", Role.MASTER, "node-a", "b", 0, TaskState.RELEASED)
        for number in range(1, 7)
    ]
    story = [StoryRecord(number, 1, 1, AT, "", "job.ended", "") for number in range(1, 7)]
    live = [job(1, JobState.RUNNING), job(4)]
    said = Result(Outcome.FAIL, text="long")
    ended = [replace(job(number, JobState.FAILED), result=said) for number in (2, 3, 5, 6)]
    await saved(tmp_path, *live, *ended, *story, *tasks)

    store = SqliteStore.open(tmp_path)
    found = list(store.restore(keep_ended=2))
    await store.close()

    assert {r.job_id for r in found if isinstance(r, JobRecord)} == {1, 4, 5, 6}
    assert {r.job_id for r in found if isinstance(r, TaskRecord)} == {1, 4, 5, 6}
    assert {r.job_id for r in found if isinstance(r, StoryRecord)} == {1, 4}
    assert {r.result for r in found if isinstance(r, JobRecord)} == {None}


async def test_lists_filter_and_page(tmp_path: Path) -> None:
    """Jobs come newest first, below an id, of an owner, in states."""
    async with opened(tmp_path) as (store, durable):
        jobs = [
            job(n, JobState.RUNNING if n % 2 else JobState.FAILED, "ab"[n % 3 == 0]) for n in range(1, 11)
        ]
        await durable.until(store.submit(jobs))

        newest = await store.list_jobs(None, 3, "", [])
        below = await store.list_jobs(8, 2, "", [])
        live = await store.list_jobs(None, 100, "", [JobState.RUNNING])
        mixed = await store.list_jobs(None, 100, "b", [JobState.RUNNING, JobState.FAILED])

    assert [r.job_id for r in newest] == [10, 9, 8]
    assert [r.job_id for r in below] == [7, 6]
    assert [r.job_id for r in live] == [9, 7, 5, 3, 1]
    assert [r.job_id for r in mixed] == [9, 6, 3]


async def test_a_list_costs_what_it_shows(tmp_path: Path) -> None:
    """By owner or by state, few jobs among many are found without a look at the others."""
    async with opened(tmp_path) as (store, durable):
        jobs = [job(n, JobState.SUCCEEDED if n % 2 else JobState.QUEUED) for n in range(1, 4001)]
        jobs += [job(4001, JobState.LOST, "bob"), job(4002, JobState.RUNNING, "bob")]
        await durable.until(store.submit(jobs))
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        store._reader.connection.driver_connection.set_progress_handler(count, 1)  # type: ignore[union-attr]  # sqlite3's
        of_bob = await store.list_jobs(None, 101, "bob", [])
        lost = await store.list_jobs(None, 101, "", [JobState.LOST])
        ended_of_bob = await store.list_jobs(4002, 101, "bob", [JobState.LOST, JobState.FAILED])

    assert [[r.job_id for r in found] for found in (of_bob, lost, ended_of_bob)] == [
        [4002, 4001],
        [4001],
        [4001],
    ]
    assert steps < 3000


async def test_the_newest_requests_of_ended_jobs_come_back(tmp_path: Path) -> None:
    """Request, job and owner, oldest first; those of live jobs are in their rows."""
    await saved(tmp_path, *(job(n, JobState.FAILED) for n in (1, 3, 4)), job(2), job(5, JobState.LOST, "bob"))

    store = SqliteStore.open(tmp_path)
    found = store.requests(3)
    await store.close()

    assert found == [("request-3", 3, "alice"), ("request-4", 4, "alice"), ("request-5", 5, "bob")]


async def test_two_jobs_of_one_request_do_not_stop_the_manager(tmp_path: Path) -> None:
    """A request id that was forgotten may have made a second job: both are kept."""
    twins = [replace(job(n, JobState.FAILED), request_id="again") for n in (1, 2)]
    await saved(tmp_path, *twins)

    assert [r.job_id for r in await restored(tmp_path) if isinstance(r, JobRecord)] == [1, 2]


async def test_a_failed_commit_is_told_and_nothing_more_is_durable(tmp_path: Path) -> None:
    """When the database refuses a row the store reports it once, and acknowledges nothing after."""
    await SqliteStore.open(tmp_path).close()
    with sqlite3.connect(tmp_path / "manager.db") as database:
        refuse = "BEFORE INSERT ON job WHEN new.job_id = 2 BEGIN SELECT RAISE(ABORT, 'no'); END"
        database.execute(f"CREATE TRIGGER refuse {refuse}")
    database.close()
    async with opened(tmp_path) as (store, durable):
        await durable.until(store.submit([job(1, JobState.FAILED)]))
        store.submit([job(2)])
        store.submit([job(3)])
        async with asyncio.timeout(WAIT_S):
            failure = await durable.failure

    assert isinstance(failure, CommitFailed)
    assert durable.tickets == [1]
    assert [r.job_id for r in await restored(tmp_path) if isinstance(r, JobRecord)] == [1]


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    """A writer that is killed without warning leaves every job that it had acknowledged."""
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert writer.stdout is not None
    acknowledged = 0
    while acknowledged < 200:
        acknowledged = int(writer.stdout.readline())
    writer.send_signal(signal.SIGKILL)
    acknowledged = max([acknowledged, *(int(line) for line in writer.stdout.read().split("\n")[:-1])])
    writer.wait(WAIT_S)
    writer.stdout.close()

    found = {r.job_id for r in asyncio.run(restored(tmp_path)) if isinstance(r, JobRecord)}

    assert found >= set(range(1, acknowledged + 1))


_WRITER = """
import asyncio, sys
from pathlib import Path
from tests.manager.stored import job
from syndicate.manager.store import SqliteStore

async def main():
    store = SqliteStore.open(Path(sys.argv[1]))
    store.start(lambda ticket: print(ticket, flush=True), print)
    number = 0
    while True:
        number += 1
        store.submit([job(number)])
        await asyncio.sleep(0 if number % 7 else 0.001)

asyncio.run(main())
"""


async def test_nothing_is_lost_at_a_close(tmp_path: Path) -> None:
    """Closing makes durable what was submitted before."""
    store, durable = SqliteStore.open(tmp_path), Durable()
    store.start(durable.up_to, durable.failure.set_result)
    for number in range(1, 501):
        store.submit([job(number)])
    await store.close()

    assert len(await restored(tmp_path)) == 500


async def test_users_and_tokens_are_found_again(tmp_path: Path) -> None:
    """Users, teams, tokens and the newest line of the audit log; not a token that is to be forgotten."""
    user = UserRecord("alice", UserRole.STUDENT, "red", False, Quota(1, 2, 3, 4), AT)
    team = TeamRecord("red", Quota())
    token = TokenRecord("t1", "alice", "laptop", TokenScope.ALL, "0" * 64, AT)
    lines = [AuditRecord(n, AT, "alice", "t1", "::1", "Submit", f"job {n}", True, "", n) for n in (1, 2)]
    await saved(tmp_path, user, team, token, replace(token, token_id="t2", forgotten=True), *lines)

    assert set(await restored(tmp_path)) == {user, team, token, lines[-1]}


async def test_the_audit_log_is_read_by_whom_what_and_denied(tmp_path: Path) -> None:
    """Newest first, below a line, so many."""
    lines = [
        AuditRecord(n, AT, "ab"[n % 2], "t", "::1", "Submit", "", n % 3 > 0, "" if n % 3 else "X", n // 4)
        for n in range(1, 13)
    ]
    await saved(tmp_path, *lines)
    async with opened(tmp_path) as (store, _):

        async def found(*wish: Any) -> list[int]:
            return [line.line for line in await store.list_audit(*wish)]

        assert await found(None, 100, "", 0, False) == list(range(12, 0, -1))
        assert await found(9, 3, "", 0, False) == [8, 7, 6]
        assert await found(None, 100, "a", 0, True) == [12, 6]
        assert await found(None, 100, "", 2, False) == [11, 10, 9, 8]
