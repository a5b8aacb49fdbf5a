"""Takes rows out of the database that are no longer kept, on a connection beside the writer's."""

from __future__ import annotations

import sqlite3
from typing import Final

# Bounds how long the writer waits for one transaction here: some milliseconds.
_ROWS_AT_A_TIME: Final = 5000
# The job's own row goes last: what a crash leaves is found again by it.
_PARTS: Final = {
    "story": "job_id, sequence",
    "fault": "job_id, fault_id",
    "plan": "job_id, number",
    "run": "job_id, attempt, task, generation",
    "task": "job_id, attempt, task",
    "job": "job_id",
}


def trim_audit(connection: sqlite3.Connection, keep: int) -> int:
    """All lines but the newest, a few at a time; says how many. Blocks.

    That of the newest job stays whatever its age: by it a start knows which jobs have their lines.
    """
    (last,) = connection.execute("SELECT coalesce(max(line), 0) FROM audit").fetchone()
    removed = 0
    while True:
        gone = connection.execute(
            "DELETE FROM audit WHERE line IN (SELECT line FROM audit WHERE line <= ? AND line NOT IN (SELECT "
            "line FROM audit WHERE job_id != 0 AND allowed = 1 ORDER BY job_id DESC LIMIT 1) "
            "ORDER BY line LIMIT ?)",
            (last - keep, _ROWS_AT_A_TIME),
        ).rowcount
        removed += gone
        if gone < _ROWS_AT_A_TIME:
            return removed


def remove_job(connection: sqlite3.Connection, job_id: int) -> None:
    """Every row of the job, a few at a time. Blocks."""
    for table, key in _PARTS.items():
        statement = (
            f"DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} WHERE job_id = ? LIMIT ?)"  # noqa: S608 - names from the table above
        )
        while connection.execute(statement, (job_id, _ROWS_AT_A_TIME)).rowcount == _ROWS_AT_A_TIME:
            pass
