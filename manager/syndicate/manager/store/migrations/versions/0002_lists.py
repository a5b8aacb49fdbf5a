"""Indexes for lists of ended jobs; none any more for their requests, which the manager remembers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Replace the indexes of job."""
    op.drop_index("job_request", "job")
    op.drop_index("job_live", "job")
    op.create_index("job_live", "job", ["state", "owner"], sqlite_where=sa.text("state <= 5"))
    op.create_index("job_ended", "job", ["state"], sqlite_where=sa.text("state > 5"))
    op.create_index("job_ended_owner", "job", ["owner", "state"], sqlite_where=sa.text("state > 5"))
