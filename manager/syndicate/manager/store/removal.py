"""Takes the rows of a job out of the database, on a connection of its own beside the writer's."""

from __future__ import annotations

import sqlite3
from typing import Final

# Bounds how long the writer waits for one transaction here: some milliseconds.
_ROWS_AT_A_TIME: Final = 5000
# The job's own row goes last: what a crash leaves is found again by it.
_PARTS: Final = {
    "story": "job_id, sequence",
    "fault": "job_id, fault_id",
    "run": "job_id, attempt, task, generation",
    "task": "job_id, attempt, task",
    "job": "job_id",
}


def remove_job(connection: sqlite3.Connection, job_id: int) -> None:
    """Every row of the job, a few at a time. Blocks."""
    for table, key in _PARTS.items():
        statement = (
            f"DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} WHERE job_id = ? LIMIT ?)"  # noqa: S608 - names from the table above
        )
        while connection.execute(statement, (job_id, _ROWS_AT_A_TIME)).rowcount == _ROWS_AT_A_TIME:
            pass
