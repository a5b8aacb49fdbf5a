"""The tables, and the statements of the hot path.

Every table is its key, the columns that are queried, and one JSON document. `migrations/` makes them; a test
holds the two together.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, Table, Text, text

from ..core.model import JobState

# The newest migration. Known here so that a start on a current database need not load alembic.
HEAD: Final = "0004"

# The largest state of a job that has not ended.
LAST_LIVE: Final = int(JobState.STOPPING)

metadata = MetaData()

meta = Table("meta", metadata, Column("name", Text, primary_key=True), Column("value", Text, nullable=False))

job = Table(
    "job",
    metadata,
    Column("job_id", Integer, primary_key=True, autoincrement=False),
    Column("request_id", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("state", Integer, nullable=False),
    Column("submitted_utc_ns", BigInteger, nullable=False),
    Column("team", Text, nullable=False, server_default=text("''")),
    Column("published", Integer, nullable=False, server_default=text("0")),
    Column("doc", Text, nullable=False),
    # All are partial, so that a submission writes one page and not three. Each ends with the job's id, as
    # every index of SQLite does: the newest jobs of a state, or of an owner in a state, are read off its end.
    Index("job_live", "state", "owner", sqlite_where=text(f"state <= {LAST_LIVE}")),
    Index("job_ended", "state", sqlite_where=text(f"state > {LAST_LIVE}")),
    Index("job_ended_owner", "owner", "state", sqlite_where=text(f"state > {LAST_LIVE}")),
    # What students see beside their own.
    Index("job_team", "team", sqlite_where=text("team != ''")),
    Index("job_published", "published", sqlite_where=text("published = 1")),
)

task = Table(
    "task",
    metadata,
    Column("job_id", Integer, primary_key=True, autoincrement=False),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("task", Text, primary_key=True),
    Column("state", Integer, nullable=False),
    Column("doc", Text, nullable=False),
    sqlite_with_rowid=False,
)

run = Table(
    "run",
    metadata,
    Column("job_id", Integer, primary_key=True, autoincrement=False),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("task", Text, primary_key=True),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("doc", Text, nullable=False),
    sqlite_with_rowid=False,
)

fault = Table(
    "fault",
    metadata,
    Column("job_id", Integer, primary_key=True, autoincrement=False),
    Column("fault_id", Integer, primary_key=True, autoincrement=False),
    Column("attempt", Integer, nullable=False),
    Column("doc", Text, nullable=False),
    sqlite_with_rowid=False,
)

# What replays are to do: one row for each call.
plan = Table(
    "plan",
    metadata,
    Column("job_id", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("doc", Text, nullable=False),
    sqlite_with_rowid=False,
)

story = Table(
    "story",
    metadata,
    Column("job_id", Integer, primary_key=True, autoincrement=False),
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("attempt", Integer, nullable=False),
    Column("doc", Text, nullable=False),
    sqlite_with_rowid=False,
)

node = Table(
    "node",
    metadata,
    Column("volunteer_id", Text, primary_key=True),
    Column("doc", Text, nullable=False),
)

user = Table(
    "user",
    metadata,
    Column("name", Text, primary_key=True),
    Column("doc", Text, nullable=False),
)

team = Table(
    "team",
    metadata,
    Column("name", Text, primary_key=True),
    Column("doc", Text, nullable=False),
)

token = Table(
    "token",
    metadata,
    Column("token_id", Text, primary_key=True),
    Column("doc", Text, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("line", Integer, primary_key=True, autoincrement=False),
    Column("who", Text, nullable=False),
    Column("job_id", Integer, nullable=False),
    Column("allowed", Integer, nullable=False),
    Column("doc", Text, nullable=False),
    # Partial or not, each ends with the line: the newest ones of a user, of a job, or denied are read off it.
    Index("audit_who", "who"),
    Index("audit_job", "job_id", sqlite_where=text("job_id != 0")),
    Index("audit_denied", "allowed", sqlite_where=text("allowed = 0")),
)


def _upsert(table: Table) -> str:
    """One statement that saves any number of rows, given as one JSON array of arrays.

    Python gives up its interpreter lock at each step of a statement and, beside a busy event loop, waits up
    to a switch interval to have it again. One `executemany` of 64 rows took 115 ms so; one statement takes
    one wait.
    """
    # `WHERE true` keeps SQLite's parser from reading ON CONFLICT as a join constraint.
    return _saving(table, f"SELECT {_columns(table, 'value')} FROM json_each(?) WHERE true")  # noqa: S608 - names from the tables above


def _upsert_one(table: Table) -> str:
    """The same for one row, given as its array alone: in half the time, which somebody waits for."""
    return _saving(table, f"VALUES ({_columns(table, '?1')})")


def _columns(table: Table, row: str) -> str:
    return ", ".join(f"json_extract({row}, '$[{i}]')" for i in range(len(table.columns)))


def _saving(table: Table, source: str) -> str:
    names = [c.name for c in table.columns]
    keys = [c.name for c in table.primary_key]
    updates = ", ".join(f"{n} = excluded.{n}" for n in names if n not in keys)
    return (
        f"INSERT INTO {table.name} ({', '.join(names)}) {source} "
        f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {updates}"
    )


_SAVED: Final = (meta, job, task, run, fault, plan, story, node, user, team, token, audit)
UPSERT: Final = {t.name: _upsert(t) for t in _SAVED}
UPSERT_ONE: Final = {t.name: _upsert_one(t) for t in _SAVED}
