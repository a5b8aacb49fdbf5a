"""Brings a database to this version's tables, and refuses one of a newer version."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from . import schema
from .errors import StoreTooNew

if TYPE_CHECKING:
    from alembic.config import Config


def alembic_config() -> Config:
    """How alembic finds the migrations inside the package."""
    # Needed only when there is something to migrate; it costs 10 MB and 0.1 s.
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def migrate(connection: sa.Connection) -> None:
    """Run the missing migrations in the connection's transaction.

    Raises StoreTooNew where the database has a revision that this version does not know.
    """
    found = _revision(connection)
    if found == schema.HEAD:
        return

    from alembic import command
    from alembic.script import ScriptDirectory

    config = alembic_config()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise StoreTooNew(
            f"the database is of a newer version (revision {found}, this software knows {schema.HEAD}): "
            "run that version, or give another --state-dir"
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
