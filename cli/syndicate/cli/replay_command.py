"""``replay``: what a job ran, once more, with its faults at their times."""

from __future__ import annotations

import re
from typing import Annotated

import typer
from syndicate.cli import exit_codes
from syndicate.cli.durations import parse_duration
from syndicate.cli.failure import NOTHING, CliError
from syndicate.cli.options import JobArgument, JsonOption, connected
from syndicate.cli.render.job_lines import labelled_text
from syndicate.cli.submission import tell_submitted
from syndicate.cli.terminal import Terminal
from syndicate.client_api import SchedulerClient

_NAME = re.compile(r"[a-z0-9-]{1,63}")
NOT_THE_STUDENTS = "the timing of its own processes is not reproduced"


@connected
def replay(
    client: SchedulerClient,
    terminal: Terminal,
    job: JobArgument,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="For people: [a-z0-9-]; else as of JOB.")
    ] = "",
    time_limit: Annotated[
        str, typer.Option("--time-limit", metavar="TIME", help="Longest run: 90, 5m, 1h30m; else as of JOB.")
    ] = "",
    keep_disks: Annotated[
        bool, typer.Option("--keep-disks", help="Keep each task's disk at the end, for fetch --disk.")
    ] = False,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Print what happens until it ends.")] = False,
    json: JsonOption = False,
) -> int:
    """Submits what a job ran once more, with its faults.

    The faults that held in its last attempt come at their times, within 20 ms, and its clients' own calls
    stand for them. The timing of the students' own processes is not reproduced.
    """
    if name and not _NAME.fullmatch(name):
        note = f"It is written with a-z, 0-9 and -, at most 63 of them. {NOTHING}"
        raise CliError(f"--name {name!r} is no name of a job", note, code=exit_codes.USAGE)
    seconds = parse_duration(time_limit, "--time-limit") if time_limit else 0.0
    made = client.replay(job, name=name, time_limit=seconds, keep_disks=keep_disks)
    text = f"the faults of job {job} come at their times, within 20 ms; {NOT_THE_STUDENTS}"
    terminal.note(labelled_text("replay", text, terminal.err_room))
    return tell_submitted(client, made, {"replay_of": job}, terminal, following=follow, as_json=json)
