"""The histories that a job's clients handed over, as `report` and `fetch` take them from the manager."""

from __future__ import annotations

from pathlib import Path

from syndicate.cli.render.neutralise import neutralise_text
from syndicate.cli.terminal import Terminal
from syndicate.client_api import NotPublished, SchedulerClient, SchedulerError
from syndicate.client_api.history import HistoryError, Recorded


def fetch_histories(client: SchedulerClient, job_id: int, folder: Path, terminal: Terminal) -> list[Recorded]:
    """Lays them down in the folder, which is made where there are any; gives those that can be read.

    A report without them is one all the same: why one is left out is said, and no error. Raises OSError, and
    SchedulerError for what would keep all else from coming, too.
    """
    try:
        found = client.histories(job_id, folder)
    except NotPublished:
        terminal.note(f"without the clients' histories: job {job_id} is not published")
        return []
    except SchedulerError as error:
        if error.code != "UNIMPLEMENTED":
            raise
        return []  # a manager of an earlier version, which keeps none
    read = []
    for history in found:
        if not history.whole:
            terminal.note(f"the history {history.name} of {history.task} was not handed over whole")
        try:
            read.append(history.read())
        except HistoryError as error:
            terminal.note(f"without a history: {neutralise_text(str(error))}")
    return read
