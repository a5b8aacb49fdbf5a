"""Follows a job to its end: its snapshots and its output, merged, as lines or as JSON lines."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from syndicate.cli import exit_codes
from syndicate.cli.failure import CliError
from syndicate.cli.merge import Item, Merged
from syndicate.cli.render.follow import FollowView
from syndicate.cli.render.log_lines import LineCutter, LogLine
from syndicate.cli.render.log_marks import LogMarks
from syndicate.cli.render.ordering import Ordering
from syndicate.cli.render.plain import as_plain, document, log_as_plain
from syndicate.cli.render.quantities import seconds_between
from syndicate.cli.terminal import Terminal
from syndicate.client_api import SchedulerClient, job_has_ended
from syndicate.v1.common_pb2 import Stamp
from syndicate.v1.scheduler_pb2 import USER_ROLE_STUDENT, Job

_CLIENT = "client-"
_LAST_OUTPUT_S = 10.0
"""So long the last output of a job that has ended is waited for."""


def follow(client: SchedulerClient, job_id: int, terminal: Terminal, as_json: bool) -> int:
    """Prints a job as it goes on. Returns the exit code for its end; Ctrl-C says that the job goes on."""
    printer = _JsonPrinter(terminal) if as_json else _LinePrinter(terminal)
    streams = {
        "watch": lambda: client.watch(job_id),
        "logs": lambda: client.logs(job_id, follow=True),
    }
    try:
        with Merged(streams) as merged:
            job = _until_ended(merged, printer)
    except KeyboardInterrupt:
        raise goes_on(job_id) from None
    printer.end(job)
    if not printer.heard_clients:
        tell_of_clients(client, terminal, job)
    return exit_codes.of_job(job)


def follow_logs(client: SchedulerClient, job_id: int, terminal: Terminal, tasks: Sequence[str]) -> None:
    """Prints the output of a job that goes on, until it has ended, with its faults among the lines."""
    printer = LogPrinter(terminal, tasks)
    streams = {
        "watch": lambda: client.watch(job_id),
        "logs": lambda: client.logs(job_id, tasks=tasks, follow=True),
    }
    with Merged(streams) as merged:
        _until_ended(merged, printer)
    printer.end()


def tell_of_clients(client: SchedulerClient, terminal: Terminal, job: Job) -> None:
    """Says what a student is not shown of a job, where there is something."""
    if any(is_client(task.ref.task) for task in job.tasks) and not job.published and student(client):
        terminal.note("(without the clients' output: it is the staff's until they publish the job)")


def is_client(task: str) -> bool:
    """Whether a task of this name is a client."""
    return task.startswith(_CLIENT)


def student(client: SchedulerClient) -> str:
    """The caller's name where it is a student's; empty for others."""
    user = client.whoami().user
    return user.name if user.role == USER_ROLE_STUDENT else ""


def goes_on(job_id: int) -> CliError:
    """Ctrl-C ends the command, not the job."""
    return CliError(
        f"interrupted; job {job_id} goes on",
        f"Follow it again:  syndicatectl follow {job_id}     End it:  syndicatectl cancel {job_id}",
        code=exit_codes.INTERRUPTED,
    )


def _until_ended(merged: Merged, printer: _LinePrinter | _JsonPrinter | LogPrinter) -> Job:
    ended: Job | None = None
    open_streams = {"watch", "logs"}
    give_up_at = float("inf")
    while open_streams:
        patience = give_up_at - time.monotonic()
        pause = printer.wait_s()
        item = merged.next(_shorter(pause, None if ended is None else max(0.0, patience)))
        printer.print_due()
        if item is None and ended is not None and time.monotonic() >= give_up_at:
            break
        if item is None:
            continue
        if item.error is not None and (ended is None or item.stream == "watch"):
            raise item.error
        if item.ended:
            open_streams.discard(item.stream)
            if item.stream == "watch" and ended is None:
                raise CliError("the manager ended the watch of a running job", code=exit_codes.INTERNAL)
        elif item.stream == "watch":
            printer.see(item)
            if job_has_ended(item.value.job.state):
                ended = item.value.job
                give_up_at = time.monotonic() + _LAST_OUTPUT_S
        else:
            printer.hear(item)
    if ended is None:
        raise CliError("the manager ended both streams of a running job", code=exit_codes.INTERNAL)
    return ended


def _shorter(one: float | None, other: float | None) -> float | None:
    """The smaller of two times to wait; None stands for no bound."""
    return min((each for each in (one, other) if each is not None), default=None)


class _LinePrinter:
    """For people."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._order = Ordering(time.monotonic)
        self._view = FollowView(terminal.width, terminal.palette, terminal.room, self._order)
        self._cutter = LineCutter()
        self.heard_clients = False

    def wait_s(self) -> float | None:
        """Seconds until something that is held back may be due."""
        return self._order.wait_s()

    def print_due(self) -> None:
        self._terminal.say(self._order.due())

    def see(self, item: Item) -> None:
        self._terminal.say(self._view.see(item.value.job))

    def hear(self, item: Item) -> None:
        self.heard_clients = self.heard_clients or is_client(item.value.task)
        for line in self._cutter.feed(item.value):
            self._terminal.say(self._view.hear(line))

    def end(self, job: Job) -> None:
        for line in self._cutter.rest():
            self._terminal.say(self._view.hear(line))
        self._terminal.say(self._view.end(f"syndicatectl show {job.job_id}"))


class LogPrinter:
    """For ``logs``: lines of output and faults, by their times."""

    def __init__(self, terminal: Terminal, tasks: Sequence[str]) -> None:
        self._terminal = terminal
        self._tasks = tasks
        self._order = Ordering(time.monotonic)
        self._marks = LogMarks(tasks)
        self._attempt = 0
        self._cutter = LineCutter()
        self._zero: Stamp | None = None

    def wait_s(self) -> float | None:
        """Seconds until something that is held back may be due."""
        return self._order.wait_s()

    def print_due(self) -> None:
        self._terminal.say(self._order.due())

    def see(self, item: Item) -> None:
        job: Job = item.value.job
        if job.attempt != self._attempt:  # whose ledger begins anew
            self._attempt, self._marks = job.attempt, LogMarks(self._tasks)
        for at, text in self._marks.see(job):
            self._order.put(self._seconds(at), "", [mark_line(text, self._terminal)])

    def hear(self, item: Item) -> None:
        self._print(self._cutter.feed(item.value))

    def end(self) -> None:
        """What is left."""
        self._print(self._cutter.rest())
        self._terminal.say(self._order.rest())

    def _print(self, lines: Iterable[LogLine]) -> None:
        for line in lines:
            self._order.put(self._seconds(line.at), line.task, [log_line(line, self._terminal)])

    def _seconds(self, at: Stamp) -> float:
        self._zero = self._zero or at
        return seconds_between(self._zero, at)


def log_line(line: LogLine, terminal: Terminal) -> str:
    """A line of output behind its task."""
    text = terminal.palette.odd(line.text) if line.is_note else line.text
    return f"{line.task:<9} | {text}".rstrip()


def mark_line(text: str, terminal: Terminal) -> str:
    """A fault among the lines of a log: with stars where a line has its task."""
    return f"{'*':<9} * {terminal.palette.odd(text)}"


class _JsonPrinter:
    """For scripts: one JSON document a line; the last one is the job as it ended."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._pieces = 0
        self.heard_clients = False

    def wait_s(self) -> float | None:
        """Nothing is held back: each document has its stamps."""
        return None

    def print_due(self) -> None:
        pass

    def see(self, item: Item) -> None:
        self._terminal.say(document({"event": "job", **as_plain(item.value)}))

    def hear(self, item: Item) -> None:
        self._pieces += 1
        self.heard_clients = self.heard_clients or is_client(item.value.task)
        self._terminal.say(document(log_as_plain(item.value, self._pieces)))

    def end(self, job: Job) -> None:
        self._terminal.say(document({"event": "end", "job": as_plain(job)}))
