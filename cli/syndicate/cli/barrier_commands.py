"""What the commands about barriers do."""

from __future__ import annotations

from syndicate.cli import exit_codes
from syndicate.cli.failure import CliError
from syndicate.cli.render.barriers import age_s, barrier_lines
from syndicate.cli.render.job_lines import labelled_text
from syndicate.cli.render.neutralise import neutralise_text
from syndicate.cli.render.plain import as_plain, document
from syndicate.cli.render.quantities import plural
from syndicate.cli.terminal import Terminal
from syndicate.client_api import SchedulerClient


def barriers(client: SchedulerClient, terminal: Terminal, job_id: int, as_json: bool) -> int:
    """The open barriers of a job, and how old that picture is."""
    found, now = client.barriers(job_id), client.cluster().now
    if as_json:
        terminal.say(document({"job_id": job_id, "age_s": age_s(found, now), **as_plain(found)}))
    else:
        terminal.say(barrier_lines(found, now, terminal.room))
    return exit_codes.OK


def drop(
    client: SchedulerClient, terminal: Terminal, job_id: int, name: str | None, every: bool, as_json: bool
) -> int:
    """Has one barrier dropped, or every one."""
    if every == (name is not None):
        raise CliError("--drop NAME or --drop-all: one of them", code=exit_codes.USAGE)
    if name == "":
        raise CliError("--drop takes the name of a barrier; --drop-all drops all", code=exit_codes.USAGE)
    dropped = client.drop_barriers(job_id, name or "")
    if as_json:
        terminal.say(document({"job_id": job_id, "dropping": name, "dropped": dropped}))
    else:
        terminal.say(labelled_text(f"job {job_id}", _dropped(name, dropped), terminal.room))
    return exit_codes.OK


def _dropped(name: str | None, dropped: int | None) -> str:
    what = "all barriers" if name is None else f"barrier '{neutralise_text(name)}'"
    if dropped is None:  # an older volunteer, that cannot say whether there was one
        return f"the sync server is told to drop {what}: who waits there gets 240"
    if dropped == 0:
        return "there was no barrier to drop"
    if name is None:
        what = plural(dropped, "barrier")
    return f"{what} dropped: who waited there gets 240"
