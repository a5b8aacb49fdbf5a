"""What the commands about barriers do."""

from __future__ import annotations

from syndicate.cli import exit_codes
from syndicate.cli.failure import CliError
from syndicate.cli.render.barriers import barrier_lines
from syndicate.cli.render.job_lines import labelled_text
from syndicate.cli.render.neutralise import neutralise_text
from syndicate.cli.render.plain import as_plain, document
from syndicate.cli.terminal import Terminal
from syndicate.client_api import SchedulerClient


def barriers(client: SchedulerClient, terminal: Terminal, job_id: int, as_json: bool) -> int:
    """The open barriers of a job."""
    found = client.barriers(job_id)
    if as_json:
        terminal.say(document({"job_id": job_id, **as_plain(found)}))
    else:
        terminal.say(barrier_lines(found, client.cluster().now, terminal.room))
    return exit_codes.OK


def drop(
    client: SchedulerClient, terminal: Terminal, job_id: int, name: str | None, every: bool, as_json: bool
) -> int:
    """Has one barrier dropped, or every one."""
    if every == (name is not None):
        raise CliError("--drop NAME or --drop-all: one of them", code=exit_codes.USAGE)
    if name == "":
        raise CliError("--drop takes the name of a barrier; --drop-all drops all", code=exit_codes.USAGE)
    client.drop_barriers(job_id, name or "")
    if as_json:
        terminal.say(document({"job_id": job_id, "dropping": name}))
    else:
        what = "all barriers" if name is None else f"barrier '{neutralise_text(name)}'"
        text = f"the sync server is told to drop {what}: who waits there gets 240"
        terminal.say(labelled_text(f"job {job_id}", text, terminal.room))
    return exit_codes.OK
