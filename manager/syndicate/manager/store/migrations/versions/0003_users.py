"""Users, teams, tokens, the audit log; whose jobs are seen by whom."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make user, team, token and audit; give jobs a team, and let them be published."""
    op.add_column("job", sa.Column("team", sa.Text, nullable=False, server_default=sa.text("''")))
    op.add_column("job", sa.Column("published", sa.Integer, nullable=False, server_default=sa.text("0")))
    op.create_index("job_team", "job", ["team"], sqlite_where=sa.text("team != ''"))
    op.create_index("job_published", "job", ["published"], sqlite_where=sa.text("published = 1"))
    for table, key in (("user", "name"), ("team", "name"), ("token", "token_id")):
        op.create_table(
            table, sa.Column(key, sa.Text, primary_key=True), sa.Column("doc", sa.Text, nullable=False)
        )
    op.create_table(
        "audit",
        sa.Column("line", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("job_id", sa.Integer, nullable=False),
        sa.Column("allowed", sa.Integer, nullable=False),
        sa.Column("doc", sa.Text, nullable=False),
    )
    op.create_index("audit_who", "audit", ["who"])
    op.create_index("audit_job", "audit", ["job_id"], sqlite_where=sa.text("job_id != 0"))
    op.create_index("audit_denied", "audit", ["allowed"], sqlite_where=sa.text("allowed = 0"))
