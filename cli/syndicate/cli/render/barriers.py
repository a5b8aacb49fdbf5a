"""Barriers: where a job's sync server is, what is open, who waits, who has not come, and what is over."""

from __future__ import annotations

from collections.abc import Iterable

from syndicate.cli.render.fit import UNLIMITED, hung
from syndicate.cli.render.neutralise import neutralise_text
from syndicate.cli.render.quantities import duration_text, plural, seconds_between
from syndicate.client_api import job_has_ended
from syndicate.client_api.sync import DEFAULT_PORT
from syndicate.v1.common_pb2 import BarrierTask, OpenBarrier, Stamp
from syndicate.v1.scheduler_pb2 import Job, ListBarriersResponse, StoryLine

_EVENT = "barrier."
_CURRENT_S = 1.0
"""What is younger is told without its age: news of a change takes half a second anyway."""


def barriers_text(job: Job) -> str:
    """``on client-0, 10.77.0.14:16534``; empty where there is no server, or no slot for it yet."""
    addresses = (task.address for task in job.tasks if task.ref.task == job.spec.sync_server)
    address = next(addresses, "")
    if not address:
        return ""
    text = f"on {neutralise_text(job.spec.sync_server)}, {neutralise_text(address)}:{DEFAULT_PORT}"
    return text if job_has_ended(job.state) else f"{text}   syndicatectl barriers {job.job_id}"


def barrier_story(job: Job) -> list[tuple[StoryLine, str]]:
    """What became of barriers in the current attempt: each line, and its text without the word itself."""
    found = (line for line in job.story if line.attempt == job.attempt and line.event.startswith(_EVENT))
    return [(line, neutralise_text(line.text).removeprefix("barrier ")) for line in found]


def barrier_lines(found: ListBarriersResponse, now: Stamp, room: int = UNLIMITED) -> list[str]:
    """The server, how old the picture is where that matters, and three lines for each barrier."""
    where = f"sync server  {found.server or 'not there yet'} on {found.member}"
    age = age_s(found, now)
    if found.away and age is None:
        return hung("", f"{where}; what is open is not known: its volunteer is away", room)
    lines = hung("", f"{where}; {plural(found.rounds, 'round')} ended so far", room)
    if age is not None and (found.away or age > _CURRENT_S):
        why = ": its volunteer is away" if found.away else ""
        lines += hung("", f"as of {duration_text(age)} ago{why}", room)
    if not found.barriers:
        return [*lines, "no barrier is open"]
    for one in found.barriers:
        lines += ["", *_open(one, now, room)]
    if found.more:
        lines += ["", f"and {plural(found.more, 'more barrier')}"]
    return lines


def age_s(found: ListBarriersResponse, now: Stamp) -> float | None:
    """For how long nothing was heard of the barriers, in seconds; None where the manager does not know."""
    if not found.HasField("current_at"):
        return None
    return round(max(0.0, seconds_between(found.current_at, now)), 3)


def _open(one: OpenBarrier, now: Stamp, room: int) -> list[str]:
    waited = duration_text(max(0.0, seconds_between(one.since, now)))
    lines = hung("", f"{neutralise_text(one.barrier)}   {_count(one)}   open for {waited}", room)
    inits = [f"{neutralise_text(each.task)} (for {each.count:,})" for each in one.inits]
    inits += [f"{neutralise_text(each.task)} (for {each.count:,}, without waiting)" for each in one.held]
    if inits:
        lines += hung("  initialised  ", ", ".join(inits), room)
    waiting = _tasks(one.tasks) + ([f"{one.others:,} more"] if one.others else [])
    if waiting:
        lines += hung("  waiting      ", ", ".join(waiting), room)
    missing = [neutralise_text(task) for task in one.missing]
    missing += [f"{one.more_missing:,} more"] if one.more_missing else []
    if missing:
        lines += hung("  not there    ", ", ".join(missing), room)
    return lines


def _count(one: OpenBarrier) -> str:
    if one.abandoned:
        return "abandoned by whoever initialised it"
    if one.remaining > 0:
        return f"{one.remaining:,} missing"
    return f"not initialised yet, {-one.remaining:,} waiting" if one.remaining else "nobody missing"


def _tasks(tasks: Iterable[BarrierTask]) -> list[str]:
    return [
        neutralise_text(each.task) + (f" ({each.count:,} times)" if each.count != 1 else "") for each in tasks
    ]
