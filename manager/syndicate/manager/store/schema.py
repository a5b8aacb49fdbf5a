"""The tables, and the statements of the hot path.

Every table is its key, the columns that are queried, and one JSON document. `migrations/` makes them; a test
holds the two together.
"""

from __future__ import annotations

import functools
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


MOST_ROWS: Final = 256
"""Of one statement."""


@functools.cache
def upsert(table: str, rows: int) -> str:
    """The statement that saves so many rows, given as the values of all of them one after the other.

    Python gives up its interpreter lock at each step of a statement and, beside a busy event loop, waits up
    to a switch interval to have it again. One `executemany` of 64 rows took 115 ms so; one statement takes
    one wait. As values and not as one JSON array for `json_each`: that took 6.4 µs a row of twenty, this 1.9.
    """
    found = metadata.tables[table]
    names = [c.name for c in found.columns]
    keys = [c.name for c in found.primary_key]
    updates = ", ".join(f"{n} = excluded.{n}" for n in names if n not in keys)
    row = f"({', '.join('?' * len(names))})"
    return (
        f"INSERT INTO {table} ({', '.join(names)}) VALUES {', '.join([row] * rows)} "  # noqa: S608 - names from the tables above
        f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {updates}"
    )
