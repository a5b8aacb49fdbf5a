"""``report``: a job's run on one page, and for programs. Bokeh is imported when a page is made only."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from syndicate.cli import exit_codes
from syndicate.cli.failure import CliError
from syndicate.cli.histories import fetch_histories
from syndicate.cli.options import JobArgument, JsonOption, connected
from syndicate.cli.render.job_lines import labelled, labelled_text
from syndicate.cli.render.neutralise import neutralise_text
from syndicate.cli.render.plain import document
from syndicate.cli.render.quantities import bytes_text
from syndicate.cli.render.timeline import job_start
from syndicate.cli.report.documents import gradescope as gradescope_document
from syndicate.cli.report.documents import junit as junit_document
from syndicate.cli.report.documents import pretty, summary
from syndicate.cli.report.logs import LogGatherer
from syndicate.cli.report.recorded import recording
from syndicate.cli.report.run import Recording, Run
from syndicate.cli.report.wire import read_run
from syndicate.cli.terminal import Terminal
from syndicate.client_api import SchedulerClient, job_has_ended
from syndicate.client_api.history import HistoryError, Recorded, read
from syndicate.v1.common_pb2 import Stamp
from syndicate.v1.scheduler_pb2 import Job, ReadLogsResponse

_NOT_GRADED = "of job {}: a new run, not the one that is graded"

HistoryOption = Annotated[
    list[str] | None,
    typer.Option(
        "--history",
        metavar="FILE",
        help="What a client recorded (history.jsonl), instead of what they handed over; repeatable.",
    ),
]


@connected
def report(
    client: SchedulerClient,
    terminal: Terminal,
    job: JobArgument,
    output: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FILE", help="The page; else job-N.html.")
    ] = None,
    history: HistoryOption = None,
    junit: Annotated[
        str | None, typer.Option("--junit", metavar="FILE", help="Write JUnit's XML, and no page without -o.")
    ] = None,
    gradescope: Annotated[
        str | None,
        typer.Option("--gradescope", metavar="FILE", help="Write a results.json, and no page without -o."),
    ] = None,
    json: JsonOption = False,
) -> int:
    """Writes a job's report: one page that needs no network.

    Verdict, latencies, faults, tasks and output on one time line. With --json its numbers instead.
    """
    if "-" in (output, junit, gradescope):
        raise CliError("`-` is no file", "To standard output:  /dev/stdout", code=exit_codes.USAGE)
    found = client.job(job)
    if gradescope is not None and not job_has_ended(found.state):
        raise CliError(
            f"job {job} has not ended: it has no grade yet",
            f"Wait for it:  syndicatectl wait {job}",
            code=exit_codes.TRY_AGAIN,
        )
    if output is None and not (json or junit or gradescope):
        output = f"job-{job}.html"
    make_page = page_maker() if output is not None else None
    with handed_over(client, job, history or (), terminal) as histories:
        run = whole_run(client, found, histories, with_logs=make_page is not None)
    files: dict[str, bytes] = {}
    if make_page is not None and output is not None:
        files[output] = make_page(run).encode()
    if junit is not None:
        files[junit] = junit_document(run)
    if gradescope is not None:
        files[gradescope] = pretty(gradescope_document(run))
    for path, data in files.items():
        write(Path(path), data)
        terminal.note(labelled("wrote", f"{path}  {bytes_text(len(data))}"))
    for clock in run.recording.clocks if run.recording is not None else ():
        terminal.note(labelled_text("clock", clock, terminal.err_room))
    if run.replay_of and gradescope is not None:
        terminal.note(labelled_text("replay", _NOT_GRADED.format(run.replay_of), terminal.err_room))
    if json:
        terminal.say(document(summary(run) | {"files": list(files)}))
    return exit_codes.OK


def page_maker() -> Callable[[Run], str]:
    """What makes the page. Raises CliError where what it needs is not installed."""
    try:
        from syndicate.cli.report.page import page
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("bokeh", "jinja2", "numpy"):
            raise
        raise CliError(
            f"a report's page needs {error.name}, which is not installed",
            "Install it:  pip install 'syndicate-cluster[cli,report]'",
            "Without it:  --json, --junit FILE, --gradescope FILE",
            code=exit_codes.BAD_MACHINE,
        ) from None
    return page


@dataclass(frozen=True, slots=True)
class Histories:
    """What clients recorded. Where it cannot be put together, `leave_out` says so, if it is there."""

    recorded: Sequence[Recorded]
    leave_out: Callable[[str], None] | None = None


@contextmanager
def handed_over(
    client: SchedulerClient, job_id: int, named: Sequence[str], terminal: Terminal
) -> Iterator[Histories]:
    """The histories in the files that are named, or those that the clients handed over to the manager."""
    if named:
        yield Histories(read_histories(named))
        return
    with tempfile.TemporaryDirectory(prefix="syndicate-") as folder:
        yield Histories(fetch_histories(client, job_id, Path(folder), terminal), terminal.note)


def read_histories(paths: Sequence[str]) -> list[Recorded]:
    """The histories in some files. Raises CliError that names the one that cannot be read."""
    found = []
    for path in paths:
        try:
            found.append(read(path))
        except HistoryError as error:
            raise CliError(f"no history: {error}", code=exit_codes.USAGE) from None
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise CliError(f"{path} cannot be read ({why})", code=exit_codes.USAGE) from None
    return found


def whole_run(
    client: SchedulerClient,
    job: Job,
    histories: Histories,
    *,
    with_logs: bool,
    tee: Callable[[ReadLogsResponse], None] | None = None,
) -> Run:
    """A job with its clients' histories and a part of its output; ``tee`` is given all of the output."""
    now = client.cluster().now
    run = read_run(job, now)
    start = job_start(job) or now
    if histories.recorded:
        run = replace(run, recording=_recording(histories, start, run))
    if with_logs:
        gatherer = LogGatherer(start, len(job.tasks))
        for answer in client.logs(job.job_id):
            gatherer.feed(answer)
            if tee is not None:
                tee(answer)
        run = replace(run, logs=gatherer.logs())
    return run


def _recording(histories: Histories, start: Stamp, run: Run) -> Recording | None:
    try:
        return recording(histories.recorded, start, run.verdict.text)
    except HistoryError as error:
        text = f"the histories cannot be put on one time line: {neutralise_text(str(error))}"
        if histories.leave_out is None:
            raise CliError(text, code=exit_codes.USAGE) from None
        histories.leave_out(text)
        return None


def write(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all, over a plain one of its name only. Raises CliError."""
    try:
        # A pipe, a link: never to be replaced. /dev/stdout is a link to a plain file where it is redirected.
        if path.is_symlink() or (path.exists() and not path.is_file()):
            path.write_bytes(data)
            return
        descriptor, fresh = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            os.chmod(fresh, 0o666 & ~_mask())
            os.replace(fresh, path)
        except BaseException:
            os.unlink(fresh)
            raise
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise CliError(f"{path} cannot be written ({why})", code=exit_codes.CANNOT_WRITE) from None


def _mask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
