"""``fetch``: all that is known of a job as files, laid out as Jepsen's store is."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from syndicate.cli import exit_codes
from syndicate.cli.disks import require_disks, write_disks
from syndicate.cli.failure import CliError
from syndicate.cli.histories import fetch_histories
from syndicate.cli.options import JobArgument, JsonOption, connected
from syndicate.cli.render.job_lines import labelled
from syndicate.cli.render.plain import as_plain, document
from syndicate.cli.render.quantities import bytes_text
from syndicate.cli.report.documents import pretty, summary
from syndicate.cli.report_commands import Histories, HistoryOption, page_maker, read_histories, whole_run
from syndicate.cli.terminal import Terminal
from syndicate.client_api import SchedulerClient
from syndicate.v1.scheduler_pb2 import Job, ReadLogsResponse


@connected
def fetch(
    client: SchedulerClient,
    terminal: Terminal,
    job: JobArgument,
    directory: Annotated[
        str, typer.Argument(metavar="DIR", help="Gets a folder job-N, and a link `latest`.")
    ],
    history: HistoryOption = None,
    disk: Annotated[
        bool, typer.Option("--disk", help="With the tasks' disks, if they were kept (submit --keep-disks).")
    ] = False,
    disk_of: Annotated[
        list[str] | None,
        typer.Option("--disk-of", metavar="TASK", help="Only with the disk of TASK. May be repeated."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace DIR/job-N.")] = False,
    json: JsonOption = False,
) -> int:
    """Lays a job out as files, in DIR/job-N/.

    The job, its faults, results, logs and histories, and the report; with --disk also its tasks' disks.
    """
    found = client.job(job)
    base = Path(directory)
    target = base / f"job-{job}"
    if os.path.lexists(target) and not force:
        raise CliError(f"{target} is there already", "Replace it:  --force", code=exit_codes.CANNOT_WRITE)
    if disk or disk_of:
        require_disks(found, disk_of or ())
    named = Histories(read_histories(history)) if history else None
    with _written(base), _fresh(base, target, force) as fresh:
        histories = named or Histories(
            fetch_histories(client, job, fresh / "history", terminal), terminal.note
        )
        with _Logs(fresh / "logs", found) as logs:
            run = whole_run(client, found, histories, with_logs=True, tee=logs.take)
        _lay_out(fresh, found, history or ())
        if disk or disk_of:
            write_disks(client, found, disk_of or (), fresh / "disks", terminal)
        (fresh / "results.json").write_bytes(pretty(summary(run)))
        try:
            make_page = page_maker()
        except CliError as error:
            make_page = None
            terminal.note(f"without report.html: {error.message}")
        if make_page is not None:
            (fresh / "report.html").write_text(make_page(run), "utf-8")
    with _written(base):
        _link_latest(base, target.name)
    _tell(terminal, target, json)
    return exit_codes.OK


def _lay_out(folder: Path, job: Job, histories: list[str] | tuple[()]) -> None:
    whole = as_plain(job)
    (folder / "faults.json").write_bytes(pretty(whole.pop("faults")))
    (folder / "job.json").write_bytes(pretty(whole))
    if histories:
        (folder / "history").mkdir()
    taken: set[str] = set()
    for path in histories:
        name = Path(path).name
        number = 1
        while name in taken:
            number += 1
            name = f"{Path(path).stem}-{number}{Path(path).suffix}"
        taken.add(name)
        shutil.copyfile(path, folder / "history" / name)


def _tell(terminal: Terminal, target: Path, as_json: bool) -> None:
    files = sorted(path for path in target.rglob("*") if path.is_file())
    if as_json:
        told = [{"path": str(path.relative_to(target)), "bytes": path.stat().st_size} for path in files]
        terminal.say(document({"directory": str(target), "files": told}))
        return
    terminal.say(labelled("wrote", str(target)))
    for path in files:
        terminal.say(labelled("", f"{path.relative_to(target)}  {bytes_text(path.stat().st_size)}"))


class _Logs:
    """The raw output, one file a task; output goes there as it comes, so that no log is held in memory."""

    def __init__(self, folder: Path, job: Job) -> None:
        self._folder = folder
        self._tasks = {task.ref.task for task in job.tasks}
        self._open: dict[str, BinaryIO] = {}
        self._generation: dict[str, int] = {}

    def __enter__(self) -> _Logs:
        self._folder.mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._open.values():
            file.close()

    def take(self, answer: ReadLogsResponse) -> None:
        """One piece."""
        if answer.task not in self._tasks:
            raise CliError(
                f"the manager tells of a task {answer.task!r} that it has not", code=exit_codes.INTERNAL
            )
        file = self._open.get(answer.task)
        if file is None:
            file = open(self._folder / f"{answer.task}.log", "wb")  # noqa: SIM115 - closed by __exit__
            self._open[answer.task] = file
        if self._generation.setdefault(answer.task, answer.generation) != answer.generation:
            self._generation[answer.task] = answer.generation
            file.write(b"\n--- generation %d ---\n" % answer.generation)
        if answer.piece.dropped_before:
            file.write(b"\n--- %d bytes dropped here ---\n" % answer.piece.dropped_before)
        file.write(answer.piece.data)


@contextmanager
def _fresh(base: Path, target: Path, force: bool) -> Iterator[Path]:
    """A folder beside the target that takes its place in the end, and is gone whatever happens else."""
    base.mkdir(parents=True, exist_ok=True)
    fresh = base / f".{target.name}.{secrets.token_hex(8)}"
    fresh.mkdir()
    old = base / f".{target.name}.old.{secrets.token_hex(8)}"
    try:
        yield fresh
        if force and os.path.lexists(target):
            os.rename(target, old)
        os.rename(fresh, target)
    finally:
        for path in (fresh, old):
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def _link_latest(base: Path, name: str) -> None:
    """Points `latest` to the folder, in one step."""
    latest = base / "latest"
    if os.path.lexists(latest) and not latest.is_symlink():
        raise CliError(f"{latest} is there, and no symbolic link", code=exit_codes.CANNOT_WRITE)
    fresh = base / f".latest.{secrets.token_hex(8)}"
    os.symlink(name, fresh)
    os.replace(fresh, latest)


@contextmanager
def _written(base: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename or base
        why = (error.strerror or str(error)).lower()
        raise CliError(f"{where} cannot be written ({why})", code=exit_codes.CANNOT_WRITE) from None
