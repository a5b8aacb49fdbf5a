"""The disks of tasks, as `fetch --disk` lays them down: as the archives that they come as, never unpacked.

What is on a disk its task has written, and not all tasks are friends: links that lead elsewhere, names that
some terminal takes for orders, holes of a terabyte, a million files. As one file of a name of our own, none
of it does anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from syndicate.cli import exit_codes
from syndicate.cli.failure import CliError
from syndicate.cli.render.neutralise import neutralise_text
from syndicate.cli.render.timeline import in_order
from syndicate.cli.report.documents import pretty
from syndicate.cli.terminal import Terminal
from syndicate.client_api import SchedulerClient, job_has_ended
from syndicate.v1.scheduler_pb2 import Job, ReadDisksResponse


def require_disks(job: Job, tasks: Sequence[str]) -> None:
    """Raises CliError for a job that kept no disks, or has not ended, and for a task that it has not."""
    if not job.spec.keep_disks:
        raise CliError(
            f"job {job.job_id} kept no disks: they go with the slots when a job ends",
            "Submit it again with them:  syndicatectl submit --keep-disks PATH",
            code=exit_codes.REFUSED,
        )
    if not job_has_ended(job.state):
        raise CliError(
            f"job {job.job_id} has not ended: its disks are kept when it does",
            f"Wait for it:  syndicatectl wait {job.job_id}",
            code=exit_codes.TRY_AGAIN,
        )
    known = [task.ref.task for task in in_order(job.tasks)]
    unknown = next((task for task in tasks if task not in known), None)
    if unknown is not None:
        raise CliError(
            f"job {job.job_id} has no task `{unknown}`",
            f"Its tasks: {', '.join(known)}.",
            code=exit_codes.NOT_FOUND,
        )


def write_disks(
    client: SchedulerClient, job: Job, tasks: Sequence[str], folder: Path, terminal: Terminal
) -> None:
    """A file for each disk, and `missing.json` with why there is none of the others. Raises OSError."""
    missing: dict[str, str] = {}
    with _Files(folder, job) as files:
        for answer in client.disks(job.job_id, tasks=tasks):
            if answer.missing:
                missing[files.checked(answer.task)] = answer.missing
            else:
                files.take(answer)
    for task, why in missing.items():
        terminal.note(f"without the disk of {task}: {neutralise_text(why)}")
    if missing:
        (folder / "missing.json").write_bytes(pretty(missing))


class _Files:
    """The archives, as they come; none is held in memory."""

    def __init__(self, folder: Path, job: Job) -> None:
        self._folder = folder
        self._tasks = {task.ref.task for task in job.tasks}
        self._open: dict[str, BinaryIO] = {}
        self._due: dict[str, int] = {}

    def __enter__(self) -> _Files:
        self._folder.mkdir()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for file in self._open.values():
            file.close()
        short = next((task for task, bytes_due in self._due.items() if bytes_due), None)
        if short is not None and kind is None:
            raise CliError(f"the disk of {short} came in part", "Try again", code=exit_codes.INTERNAL)

    def checked(self, task: str) -> str:
        """The task, which is one of the job's: it becomes a file's name."""
        if task not in self._tasks:
            raise CliError(f"the manager tells of a task {task!r} that it has not", code=exit_codes.INTERNAL)
        return task

    def take(self, answer: ReadDisksResponse) -> None:
        """One piece."""
        file = self._open.get(answer.task)
        if file is None:
            file = open(self._folder / f"{self.checked(answer.task)}.tar.gz", "wb")  # noqa: SIM115 - closed by __exit__
            self._open[answer.task] = file
            self._due[answer.task] = answer.size
        self._due[answer.task] -= len(answer.data)
        file.write(answer.data)
