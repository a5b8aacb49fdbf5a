"""What a store finds as it is opened: older databases and newer ones, its epoch, and another manager."""

from __future__ import annotations

import json
import os
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from syndicate.manager.core.model import (
    JobState,
    Resources,
)
from syndicate.manager.core.records import (
    EpochRecord,
    NodeRecord,
)
from syndicate.manager.store import SqliteStore, StateDirBusy, StoreTooNew, rows, schema
from syndicate.manager.store.migrate import alembic_config

from tests.manager.stored import AT, job, restored, saved


async def test_a_database_of_the_first_version_is_migrated(tmp_path: Path) -> None:
    """Its jobs are there, and it has the indexes of today."""
    from alembic import command

    engine = sa.create_engine(f"sqlite:///{tmp_path / 'manager.db'}")
    with engine.begin() as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        _, (*head, _team, _published, doc) = rows.to_row(job(1, JobState.FAILED))
        columns = "job_id, request_id, owner, state, submitted_utc_ns, doc"
        statement = f"INSERT INTO job ({columns}) VALUES (?, ?, ?, ?, ?, ?)"
        connection.exec_driver_sql(statement, (*head, json.dumps(doc)))
        old = _indexes(connection)
    engine.dispose()

    found = await restored(tmp_path)

    engine = sa.create_engine(f"sqlite:///{tmp_path / 'manager.db'}")
    with engine.connect() as connection:
        new = _indexes(connection)
    engine.dispose()
    assert found == [job(1, JobState.FAILED)]
    assert any("job_request" in sql for sql in old) and not any("job_request" in sql for sql in new)
    assert any("job_ended_owner" in sql for sql in new)


async def test_the_cluster_id_lasts_and_the_epoch_grows(tmp_path: Path) -> None:
    """Every start has a larger epoch of the same cluster."""
    seen = []
    for _ in range(3):
        store = SqliteStore.open(tmp_path)
        seen.append((store.cluster_id, store.epoch))
        await store.close()

    assert [epoch for _, epoch in seen] == [1, 2, 3]
    assert len({cluster_id for cluster_id, _ in seen}) == 1
    assert len(seen[0][0]) == 14 and seen[0][0].startswith("c-")


async def test_an_epoch_that_somebody_saw_raises_the_next(tmp_path: Path) -> None:
    """A state directory from a backup catches up with the volunteers."""
    await saved(tmp_path, EpochRecord(41))

    store = SqliteStore.open(tmp_path)
    await store.close()

    assert store.epoch == 42


async def test_who_was_forgotten_is_gone_with_the_next_start(tmp_path: Path) -> None:
    """The row of a volunteer that was forgotten is removed; the others stay."""
    kept = NodeRecord("node-a", "b", ((0, ""),), "", "fabric", "", (), "1", Resources(), False, AT)
    await saved(tmp_path, kept, replace(kept, volunteer_id="node-b", forgotten=True))

    assert await restored(tmp_path) == [kept]


async def test_two_managers_cannot_share_a_state_directory(tmp_path: Path) -> None:
    """The second is told who has it, and the first one's end frees it."""
    first = SqliteStore.open(tmp_path)
    with pytest.raises(StateDirBusy, match=f"pid {os.getpid()}"):
        SqliteStore.open(tmp_path)
    await first.close()

    await SqliteStore.open(tmp_path).close()


async def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    """A revision that this software does not know stops the start, and leaves the database alone."""
    await SqliteStore.open(tmp_path).close()
    with sqlite3.connect(tmp_path / "manager.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()

    with pytest.raises(StoreTooNew, match="9999"):
        SqliteStore.open(tmp_path)
    with pytest.raises(StoreTooNew):  # the lock was let go of
        SqliteStore.open(tmp_path)


async def test_migrations_make_the_tables_that_the_code_knows(tmp_path: Path) -> None:
    """The newest migration is the one in the code, and from nothing it leads to the tables of the schema."""
    from alembic.autogenerate import compare_metadata

    await SqliteStore.open(tmp_path).close()
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'manager.db'}")
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), schema.metadata)
        made = _indexes(connection)
    engine.dispose()
    fresh = sa.create_engine("sqlite://")
    with fresh.connect() as connection:
        schema.metadata.create_all(connection)
        wanted = _indexes(connection)
    fresh.dispose()

    assert differences == []
    assert made == wanted
    assert ScriptDirectory.from_config(alembic_config()).get_heads() == [schema.HEAD]


def _indexes(connection: sa.Connection) -> set[str]:
    query = "SELECT sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    return {" ".join(sql.split()) for (sql,) in connection.exec_driver_sql(query)}
