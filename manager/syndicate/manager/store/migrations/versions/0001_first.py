"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _key(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, primary_key=True, autoincrement=False)


def upgrade() -> None:
    """Make meta, job, task, run, fault, story and node."""
    op.create_table(
        "meta", sa.Column("name", sa.Text, primary_key=True), sa.Column("value", sa.Text, nullable=False)
    )
    op.create_table(
        "job",
        _key("job_id"),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("state", sa.Integer, nullable=False),
        sa.Column("submitted_utc_ns", sa.BigInteger, nullable=False),
        sa.Column("doc", sa.Text, nullable=False),
    )
    op.create_index("job_live", "job", ["state"], sqlite_where=sa.text("state <= 5"))
    op.create_index("job_request", "job", ["request_id"], unique=True, sqlite_where=sa.text("state > 5"))
    op.create_table(
        "task",
        _key("job_id"),
        _key("attempt"),
        sa.Column("task", sa.Text, primary_key=True),
        sa.Column("state", sa.Integer, nullable=False),
        sa.Column("doc", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "run",
        _key("job_id"),
        _key("attempt"),
        sa.Column("task", sa.Text, primary_key=True),
        _key("generation"),
        sa.Column("doc", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "fault",
        _key("job_id"),
        _key("fault_id"),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("doc", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "story",
        _key("job_id"),
        _key("sequence"),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("doc", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "node",
        sa.Column("volunteer_id", sa.Text, primary_key=True),
        sa.Column("doc", sa.Text, nullable=False),
    )
