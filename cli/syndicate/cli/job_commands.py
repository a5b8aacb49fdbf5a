"""What the commands about jobs do. Each prints its answer and returns an exit code."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from itertools import islice

from syndicate.cli import exit_codes
from syndicate.cli.failure import CliError
from syndicate.cli.follow import (
    follow_logs,
    goes_on,
    is_client,
    log_line,
    mark_line,
    student,
    tell_of_clients,
)
from syndicate.cli.merge import Merged
from syndicate.cli.render import words
from syndicate.cli.render.job_lines import end_lines, labelled, labelled_text, replay_text, result_lines
from syndicate.cli.render.log_lines import LineCutter, LogLine
from syndicate.cli.render.log_marks import LogMarks
from syndicate.cli.render.plain import as_plain, document, log_as_plain
from syndicate.cli.render.show import show_job
from syndicate.cli.render.tables import jobs_table
from syndicate.cli.render.timeline import in_order
from syndicate.cli.terminal import Terminal
from syndicate.client_api import SchedulerClient, job_has_ended
from syndicate.v1.common_pb2 import JobState
from syndicate.v1.scheduler_pb2 import Job

RECENT_JOBS = 20


def list_jobs(
    client: SchedulerClient,
    terminal: Terminal,
    *,
    states: Sequence[str] = (),
    owner: str = "",
    everybody: bool = False,
    everything: bool = False,
    as_json: bool = False,
) -> int:
    """The newest jobs, or all of them; a student's own ones unless told otherwise."""
    whose = "" if owner or everybody else student(client)
    owner = owner or whose
    wanted = [_state(name) for text in states for name in text.split(",")]
    size = 0 if everything else RECENT_JOBS
    found = client.jobs(owner=owner, states=wanted, page_size=size)
    jobs = list(found if everything else islice(found, RECENT_JOBS + 1))
    more = not everything and len(jobs) > RECENT_JOBS
    jobs = jobs[:RECENT_JOBS] if more else jobs
    if as_json:
        terminal.say(document({"jobs": [as_plain(job) for job in jobs], "more": more, "owner": owner}))
        return exit_codes.OK
    terminal.say(
        jobs_table(jobs, client.cluster().now, terminal.palette, terminal.room, terminal.glyphs.more)
    )
    if more:
        terminal.note(f"(the newest {RECENT_JOBS}; all of them:  syndicatectl jobs --all)")
    if whose:
        terminal.note("(your own; also your team's and published ones:  syndicatectl jobs --everybody)")
    return exit_codes.OK


def show(client: SchedulerClient, terminal: Terminal, job_id: int, as_json: bool) -> int:
    """One job, whole."""
    job = client.job(job_id)
    if as_json:
        terminal.say(document(as_plain(job)))
    else:
        terminal.say(show_job(job, client.cluster().now, terminal.page()))
    return exit_codes.OK


def result(client: SchedulerClient, terminal: Terminal, job_id: int, as_json: bool) -> int:
    """What the clients of an ended job found; the exit code says it too."""
    job = client.job(job_id)
    if not job_has_ended(job.state):
        raise CliError(
            f"job {job_id} has not ended ({words.job_state(job.state)})",
            f"Wait for it:  syndicatectl wait {job_id}",
            code=exit_codes.TRY_AGAIN,
        )
    if as_json:
        whole = as_plain(job)
        kept = ("job_id", "state", "reason", "detail", "result", "attempt")
        by_client = [
            {"task": task.ref.task, "result": as_plain(task.result) if task.HasField("result") else None}
            for task in job.tasks
            if is_client(task.ref.task)
        ]
        replayed = job.spec.replay_of or None
        said = {
            **{name: whole[name] for name in kept},
            "clients": by_client,
            "replay_of": replayed,
            "replay": replay_text(job) if replayed else None,
        }
        terminal.say(document(said))
    else:
        terminal.say(result_lines(job, terminal.palette, terminal.room))
        if job.spec.replay_of:
            terminal.say(labelled_text("replay", replay_text(job), terminal.room))
    return exit_codes.of_result(job)


def cancel(client: SchedulerClient, terminal: Terminal, job_id: int, as_json: bool) -> int:
    """Ends a job."""
    before = client.job(job_id).state
    had_ended = job_has_ended(before)
    state = before if had_ended else client.cancel(job_id)
    word = words.job_state(state)
    if as_json:
        terminal.say(document({"job_id": job_id, "state": word.lower(), "had_ended": had_ended}))
    elif had_ended:
        terminal.say(labelled(f"job {job_id}", f"had ended already: {word}"))
    else:
        ending = "" if job_has_ended(state) else "  (its tasks are being ended)"
        terminal.say(labelled(f"job {job_id}", f"{word}{ending}"))
    return exit_codes.OK


def wait(
    client: SchedulerClient, terminal: Terminal, job_id: int, timeout: float | None, as_json: bool
) -> int:
    """Waits until a job has ended, prints how, and ends as it did."""
    try:
        job = _wait_for(client, job_id, timeout)
    except KeyboardInterrupt:
        raise goes_on(job_id) from None
    if as_json:
        terminal.say(document(as_plain(job)))
    else:
        terminal.say(end_lines(job, terminal.palette, f"syndicatectl show {job_id}", terminal.room))
    return exit_codes.of_job(job)


def _wait_for(client: SchedulerClient, job_id: int, timeout: float | None) -> Job:
    until = None if timeout is None else time.monotonic() + timeout
    state = "not known"
    with Merged({"watch": lambda: client.watch(job_id)}) as merged:
        while True:
            item = merged.next(None if until is None else max(0.0, until - time.monotonic()))
            if item is None:
                raise CliError(
                    f"job {job_id} has not ended in {timeout:g} s ({state})",
                    f"It goes on. Wait again:  syndicatectl wait {job_id}",
                    code=exit_codes.TRY_AGAIN,
                )
            if item.error is not None:
                raise item.error
            if item.ended:
                raise CliError("the manager ended the watch of a running job", code=exit_codes.INTERNAL)
            job: Job = item.value.job
            if job_has_ended(job.state):
                return job
            state = words.job_state(job.state)


def logs(
    client: SchedulerClient,
    terminal: Terminal,
    job_id: int,
    *,
    tasks: Sequence[str] = (),
    follow: bool = False,
    attempt: int = 0,
    as_json: bool = False,
) -> int:
    """The output of a job's tasks, each line with its task."""
    _check_tasks(client, job_id, tasks)
    _check_attempt(client, job_id, attempt)
    job = client.job(job_id)
    try:
        if as_json:
            pieces = client.logs(job_id, tasks=tasks, follow=follow, attempt=attempt)
            for number, answer in enumerate(pieces, 1):
                terminal.say(document(log_as_plain(answer, number)))
        elif follow and attempt in (0, job.attempt) and not job_has_ended(job.state):
            follow_logs(client, job_id, terminal, tasks)
        else:
            _print_logs(client, terminal, job, tasks, follow, attempt)
    except KeyboardInterrupt:
        if follow and not job_has_ended(client.job(job_id).state):
            raise goes_on(job_id) from None
        raise
    if not tasks:
        tell_of_clients(client, terminal, client.job(job_id))
    return exit_codes.OK


def _print_logs(
    client: SchedulerClient, terminal: Terminal, job: Job, tasks: Sequence[str], follow: bool, attempt: int
) -> None:
    cutter, marks = LineCutter(), LogMarks(tasks)
    if attempt in (0, job.attempt):  # the ledger of an earlier one is not kept
        marks.see(job)

    def say(lines: Iterable[LogLine]) -> None:
        for line in lines:
            happened = [mark_line(text, terminal) for text in marks.before(line.at)]
            terminal.say([*happened, log_line(line, terminal)])

    for answer in client.logs(job.job_id, tasks=tasks, follow=follow, attempt=attempt):
        say(cutter.feed(answer))
    say(cutter.rest())
    terminal.say([mark_line(text, terminal) for text in marks.rest()])


def _check_tasks(client: SchedulerClient, job_id: int, tasks: Sequence[str]) -> None:
    if not tasks:
        return
    there = [task.ref.task for task in in_order(client.job(job_id).tasks)]
    unknown = [task for task in tasks if task not in there]
    if unknown and there:
        raise CliError(
            f"job {job_id} has no task `{unknown[0]}`",
            f"Its tasks: {', '.join(there)}.",
            code=exit_codes.NOT_FOUND,
        )


def _check_attempt(client: SchedulerClient, job_id: int, attempt: int) -> None:
    latest = client.job(job_id).attempt if attempt else 0
    if attempt > latest:
        there = "Its only attempt is 1." if latest == 1 else f"The latest is {latest}."
        raise CliError(
            f"job {job_id} has no attempt {attempt}", there if latest else "", code=exit_codes.NOT_FOUND
        )


def _state(name: str) -> JobState.ValueType:
    try:
        return JobState.Value(f"JOB_STATE_{name.strip().upper().replace('-', '_')}")
    except ValueError:
        known = ", ".join(state.removeprefix("JOB_STATE_").lower() for state in JobState.keys()[1:])
        raise CliError(
            f"{name!r} is no state of a job", f"There are: {known}.", code=exit_codes.USAGE
        ) from None
