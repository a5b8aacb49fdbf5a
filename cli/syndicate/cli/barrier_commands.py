"""What the commands about barriers do."""

from __future__ import annotations

from syndicate.cli import exit_codes
from syndicate.cli.render.barriers import barrier_lines
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
