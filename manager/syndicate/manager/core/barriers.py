"""What the sync servers of jobs tell: a line of the story for each round, and which barriers are open now.

A job may open a million barriers. Its volunteer folds them, and here so many lines of an attempt have room in
the story; what comes after them is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from . import commands, events
from .effects import DropBarriers, DropReply
from .errors import Away, BadRequest, CoreError, Ended, Exhausted, FaultFailed, NotFound, Refused, TooLate
from .events import BarriersTold
from .frozen import frozen
from .model import (
    NO_SYNC,
    SYNC_PORT,
    AnswerCode,
    BarrierEnd,
    BarrierNews,
    BarrierRound,
    JobState,
    OpenBarrier,
    Stamp,
)
from .state import Board, Drop, LiveJob, Node, Pending
from .story import tell
from .words import count, duration
from .world import World, nanoseconds

MOST_LINES: Final = 200
"""Lines about barriers in the story of one attempt."""

MOST_TROUBLES: Final = 20
"""Lines about a server that failed: a job can have it fail all the time."""

MOST_DROPS: Final = 16
"""Orders to drop barriers that may be under way in one job: they share a queue with the member's faults."""

_EVENT: Final = "barrier."
_TROUBLE: Final = "barrier.trouble"
_ALIVE: Final = (JobState.PREPARING, JobState.RUNNING, JobState.STOPPING)
_MOST_NAMED: Final = 12
_MOST_OPEN: Final = 6  # in the text of an error
_ENDED: Final = {
    BarrierEnd.OPENED: "opened",
    BarrierEnd.DROPPED: "was dropped",
    BarrierEnd.ABANDONED: "was abandoned",
    BarrierEnd.LEFT: "was left by all",
}


@frozen
class Barriers:
    """The open barriers of a job, as of `as_of` on the manager's clock; None where nothing was told yet.

    Until `current_at` nothing else had happened, but for the half second that telling takes; None where that
    is not known. While the volunteer of the server is `away` nothing newer comes.
    """

    server: str
    member: str
    open: tuple[OpenBarrier, ...]
    more: int
    rounds: int
    as_of: Stamp | None
    current_at: Stamp | None
    away: bool


def told(world: World, node: Node, job: LiveJob, event: BarriersTold) -> None:
    """Takes in what the server of the job's current attempt tells; told again it means nothing.

    What is open is not in the store: after a restart that is taken in again, and its lines are not written.
    """
    board, news = job.board, event.news
    if event.ref.task != job.record.spec.sync_server or event.event_id <= board.event_id or not job.whole:
        return
    at, _ = world.on_clock(node, event.at)
    opened = tuple(replace(one, since=world.on_clock(node, one.since)[0]) for one in news.open)
    job.board = Board(event.event_id, at, news.total, opened, news.more_open)
    task = job.tasks[event.ref.task]
    if event.event_id <= task.record.barriers_told or not (news.rounds or news.trouble or news.last):
        return
    world.save_task(job, task, replace(task.record, barriers_told=event.event_id))
    of_attempt = [line.event for line in job.story if line.attempt == job.record.attempt]
    troubles = of_attempt.count(_TROUBLE)
    lines = sum(event.startswith(_EVENT) for event in of_attempt) - troubles
    for one in news.rounds:
        lines = _line(world, node, job, one, lines)
    if news.trouble and troubles < MOST_TROUBLES:
        last = "; what fails after this is not listed" if troubles == MOST_TROUBLES - 1 else ""
        tell(world, job, _TROUBLE, news.trouble + last, event.ref.task)
    _sum_up(world, job, news, lines)


def listed(world: World, job: LiveJob) -> Barriers:
    """The open barriers of a job that runs. Raises Refused (JOB_NOT_RUNNING, NO_SYNC_SERVER)."""
    record, board = job.record, job.board
    _require_server(job, _ALIVE)
    serves = job.tasks.get(record.spec.sync_server)
    address = serves.record.address if serves is not None else ""
    server = f"{address}:{SYNC_PORT}" if address else ""
    node = world.node_of(serves) if serves is not None else None
    return Barriers(
        server,
        record.spec.sync_server,
        board.open,
        board.more,
        board.total,
        board.at,
        _current_at(board, node),
        node is not None and node.session is None,
    )


def _current_at(board: Board, node: Node | None) -> Stamp | None:
    """A Hello is no word of barriers: what happened while the volunteer was away comes after it."""
    if node is None or not node.welcomed:
        return board.at
    if board.at is None or node.heard.monotonic_ns > board.at.monotonic_ns:
        return node.heard
    return board.at


def drop(world: World, job: LiveJob, event: events.DropBarriers) -> None:
    """Has the job's server drop a barrier, or all. What it drops is told as every round is.

    The call is answered once the server has: what `open` says is up to half a second old, so that it alone
    knows which barriers there are. The order goes out again with the volunteer's next stream, and is given up
    after `command_timeout_s`. Raises Refused (JOB_NOT_RUNNING, NO_SYNC_SERVER), Away (VOLUNTEER_AWAY),
    Exhausted (TOO_MANY_DROPS) and BadRequest.
    """
    first = world.first_answer(event.request_id, _question(job, event.barrier))
    if isinstance(first, DropReply):
        world.reply(event.call, _outcome(job, event.barrier, first))
        return
    for under_way in job.drops.values():
        if event.request_id and under_way.request_id == event.request_id:
            _join(under_way, event)
            return
    _require_server(job, (JobState.RUNNING,))
    _order(world, job, event)


def _order(world: World, job: LiveJob, event: events.DropBarriers) -> None:
    if len(job.drops) >= MOST_DROPS:
        raise Exhausted("TOO_MANY_DROPS", f"{MOST_DROPS} orders to drop barriers are under way in this job")
    name, job_id = job.record.spec.sync_server, job.record.job_id
    task = job.tasks[name]
    node = world.node_of(task)
    if node.session is None:
        raise Away("VOLUNTEER_AWAY", f"{node.record.volunteer_id}, which has {name}, is away")
    action = DropBarriers(event.barrier)
    command_id = commands.issue(
        world,
        node,
        world.ref(task),
        task.record.slot,
        action,
        command_id=commands.drop_command_id(world, job_id, event.request_id, event.barrier),
    )
    job.drops[command_id] = Drop(event.request_id, event.barrier, [event.call])
    world.timers.set(("drop", job_id, command_id), world.ns + nanoseconds(world.config.command_timeout_s))
    what = f"barrier {event.barrier!r}" if event.barrier else "all barriers"
    world.audit(event.origin, "DropBarriers", f"job {job_id}, {what}", job_id)


def _join(under_way: Drop, event: events.DropBarriers) -> None:
    if under_way.barrier != event.barrier:
        raise BadRequest("BAD_FIELD", "request_id was used for another call", field="request_id")
    under_way.waiters.append(event.call)


def dropped(world: World, pending: Pending, code: AnswerCode, detail: str, number: int | None) -> None:
    """The server has dropped so many barriers (None: as many as there were), or could not be asked for it."""
    job = world.jobs.get(pending.command.ref.job_id)
    command_id = pending.command.command_id
    if job is None or command_id not in job.drops:
        return
    if code is AnswerCode.DONE:
        under_way = job.drops[command_id]
        answer = DropReply(number)
        world.remember_answer(under_way.request_id, _question(job, under_way.barrier), answer)
        _over(world, job, command_id, _outcome(job, under_way.barrier, answer))
    else:
        text = f"the sync server was not asked for it: {detail or code.name}"
        _over(world, job, command_id, FaultFailed("DROP_FAILED", text))


def _outcome(job: LiveJob, barrier: str, answer: DropReply) -> DropReply | NotFound:
    """Where all were to be dropped none may have been there; one that was named should have been."""
    if not barrier or answer.dropped != 0:
        return answer
    others = [f"'{one.barrier}'" for one in job.board.open if one.barrier != barrier]
    more = len(others[_MOST_OPEN:]) + job.board.more
    named = ", ".join(others[:_MOST_OPEN]) + (f" and {more:,} more" if more else "")
    there = f"open are {named}" if named else "none is open"
    text = f"job {job.record.job_id} has no barrier '{barrier:.80}': {there}"
    return NotFound("NO_SUCH_BARRIER", text, barrier=barrier)


def overdue(world: World, job: LiveJob, command_id: str) -> None:
    """An order was not answered in time; it does not go out again."""
    node = world.node_of(job.tasks[job.record.spec.sync_server])
    commands.forget(node, command_id)
    timeout = world.config.command_timeout_s
    text = f"{node.record.volunteer_id} has not answered for {timeout:g} s: what was dropped is not known"
    _over(world, job, command_id, TooLate("DROP_UNANSWERED", text))


def let_go(world: World, job: LiveJob) -> None:
    """The server is to end, or is gone: what it was asked for has come about, or never will."""
    for command_id in list(job.drops):
        commands.forget(world.node_of(job.tasks[job.record.spec.sync_server]), command_id)
        text = f"attempt {job.record.attempt} of the job ended meanwhile, and its barriers with it"
        _over(world, job, command_id, Ended("ATTEMPT_ENDED", text))


def _over(world: World, job: LiveJob, command_id: str, answer: DropReply | CoreError) -> None:
    world.timers.cancel(("drop", job.record.job_id, command_id))
    for call in job.drops.pop(command_id).waiters:
        world.reply(call, answer)


def _question(job: LiveJob, barrier: str) -> tuple[object, ...]:
    return "drop", job.record.job_id, barrier


def _require_server(job: LiveJob, states: Sequence[JobState]) -> None:
    record = job.record
    if record.state not in states:
        raise Refused("JOB_NOT_RUNNING", f"job {record.job_id} is {record.state.name}")
    if record.spec.sync_server == NO_SYNC:
        raise Refused("NO_SYNC_SERVER", f"job {record.job_id} was submitted without a sync server")


def _line(world: World, node: Node, job: LiveJob, one: BarrierRound, lines: int) -> int:
    """One line, where there is room; how many there are then."""
    if lines > MOST_LINES:
        return lines
    if lines == MOST_LINES:
        tell(world, job, f"{_EVENT}unlisted", "further rounds of barriers are counted, and not listed")
        return lines + 1
    ended_at, _ = world.on_clock(node, one.ended_at)
    tell(world, job, f"{_EVENT}{one.end.name.lower()}", _text(one), at=ended_at)
    return lines + 1


def _sum_up(world: World, job: LiveJob, news: BarrierNews, lines: int) -> None:
    if news.last and news.total > lines:
        tell(world, job, f"{_EVENT}total", f"{count(news.total, 'round')} of barriers in all")


def _text(one: BarrierRound) -> str:
    took = duration(max(0, one.ended_at.monotonic_ns - one.began_at.monotonic_ns))
    if one.rounds > 1:
        said = f"barrier '{one.barrier}' {_ENDED[one.end]} {one.rounds:,} times within {took}"
    else:
        said = f"barrier '{one.barrier}' {_ENDED[one.end]} after {took}"
    details = [f"{task} initialised it for {number:,}" for task, number in one.inits[:_MOST_NAMED]]
    came = _named(one.tasks, one.others)
    if came:
        details.append(f"there were {came}")
    if one.left:
        details.append(
            f"{one.left:,} had left before" if one.end is not BarrierEnd.LEFT else f"{one.left:,} left"
        )
    if one.error:
        details.append(f"error {one.error}")
    return said + (": " + "; ".join(details) if details else "")


def _named(tasks: Sequence[tuple[str, int]], others: int) -> str:
    named = [task if number == 1 else f"{task} ({number:,} times)" for task, number in tasks[:_MOST_NAMED]]
    more = sum(number for _, number in tasks[_MOST_NAMED:]) + others
    return ", ".join(named) + (f" and {more:,} more" if more else "")
