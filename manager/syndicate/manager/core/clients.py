"""What a client task may ask and say of its own job, beside faults; users may ask the same of theirs."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

from .desired import CUTS
from .effects import ClientsReply, ClientView, FinishReply, LinesReply, MembersReply, MemberView
from .errors import BadRequest, NotAllowed, NotFound, Refused
from .events import (
    ChaosCaller,
    ClientsRequested,
    FinishRequested,
    LinesRequested,
    MembersRequested,
    UserCaller,
    WhoCalls,
)
from .model import FaultKind, JobState, Member, Result, Role, TaskState
from .state import LiveJob, LiveTask
from .story import tell
from .verdict import is_over
from .words import first_line
from .world import World

# What one client may call its metrics, in bytes of all names together.
MAX_METRIC_BYTES = 64 << 10
# What the members' list says of a member by a word.
_SAID_APART = CUTS | {FaultKind.PAUSE}


def caller_of(world: World, caller: WhoCalls) -> tuple[LiveJob, LiveTask | None]:
    """The job that a call is about, and the client that calls; None where it is a user.

    Raises NotAllowed where no such client is held by the volunteer that attests it, and NotFound.
    """
    if isinstance(caller, UserCaller):
        job = world.jobs.get(caller.job_id)
        if job is None:
            raise NotFound("NO_SUCH_JOB", f"there is no job {caller.job_id}")
        return job, None
    return _client(world, caller)


def _client(world: World, caller: ChaosCaller) -> tuple[LiveJob, LiveTask]:
    found = world.find(caller.ref)
    if found is not None:
        record = found[1].record
        if record.role is Role.CLIENT and record.volunteer_id == caller.volunteer_id:
            return found
    raise NotAllowed(
        "NOT_A_CLIENT",
        f"{caller.ref.task} of job {caller.ref.job_id}, attempt {caller.ref.attempt}, is no client that "
        f"{caller.volunteer_id} holds",
    )


def name_of(caller: WhoCalls) -> str:
    """Who asks, as the ledger has it: `client-0`, `user:alice`."""
    return f"user:{caller.name}" if isinstance(caller, UserCaller) else caller.ref.task


def require_running(job: LiveJob, client: LiveTask | None) -> None:
    """Raises Refused unless the client, or the user, may still act.

    A client may act from its own start on: when the first of several starts, the job is not RUNNING yet, and
    its call proves that it runs even where the answer to its Start is still under way.
    """
    state = job.record.state
    starting = (
        client is not None and state is JobState.PREPARING and client.record.state >= TaskState.STARTING
    )
    if state is not JobState.RUNNING and not starting:
        raise Refused("JOB_NOT_RUNNING", f"job {job.record.job_id} is {state.name}")
    if client is not None and client.record.finished_at is not None:
        raise Refused("CLIENT_FINISHED", f"{client.record.task} has called Finish already")


def members(world: World, event: MembersRequested) -> MembersReply:
    """Who belongs to the caller's job, and how they are."""
    job, _ = caller_of(world, event.caller)
    return MembersReply(
        tuple(
            MemberView(
                Member(task.record.task, task.record.role, task.record.address),
                task.record.state,
                task.record.generation,
                any(line.kind in CUTS for line in task.lines.values()),
                any(line.kind is FaultKind.PAUSE for line in task.lines.values()),
                tuple(line.fault_id for line in task.lines.values() if line.kind not in _SAID_APART),
            )
            for task in job.tasks.values()
        )
    )


def clients(world: World, event: ClientsRequested) -> ClientsReply:
    """The clients of the caller's job, and whether each is over."""
    job, client = _client(world, event.caller)
    if event.acts:
        require_running(job, client)
    if not event.everybody:
        return ClientsReply(())
    found = (task.record for task in job.tasks.values() if task.record.role is Role.CLIENT)
    return ClientsReply(tuple(ClientView(one.task, one.generation, is_over(one)) for one in found))


def lines(world: World, event: LinesRequested) -> LinesReply:
    """Lines of the ledger of the caller's job, as of now."""
    job, _ = caller_of(world, event.caller)
    if event.in_force:
        found = (line for task in job.tasks.values() for line in task.lines.values())
        wanted = sorted(
            (line for line in found if line.fault_id > event.after), key=lambda line: line.fault_id
        )
        return LinesReply(tuple(wanted[: event.most]), len(wanted) > event.most)
    some = (line for number, line in job.faults.items() if number > event.after)
    page = list(itertools.islice(some, event.most + 1))
    return LinesReply(tuple(page[: event.most]), len(page) > event.most)


def finish(world: World, event: FinishRequested) -> FinishReply:
    """A client has finished, with what it found; the last one ends the job."""
    job, client = _client(world, event.caller)
    record = client.record
    if record.finished_at is not None and record.finish_request_id == event.request_id:
        # After a restart the number is that of now: what it was then is not kept.
        first = job.finishes.get(record.task)
        return first or FinishReply(record.finished_at, _clients_left(job))
    if record.finished_at is not None:
        raise Refused("CLIENT_FINISHED", f"{record.task} has called Finish already")
    require_running(job, client)
    _check(event.result)
    world.save_task(
        job,
        client,
        replace(record, result=event.result, finished_at=world.now, finish_request_id=event.request_id),
    )
    outcome = event.result.outcome.name.lower()
    said = first_line(event.result.text)
    tell(world, job, "client.finished", f"{outcome}: {said}" if said else outcome, record.task)
    reply = job.finishes[record.task] = FinishReply(world.now, _clients_left(job))
    world.touch(job)
    return reply


def _check(result: Result) -> None:
    """Raises BadRequest for what cannot be compared, or is too much to keep of a thousand clients."""
    if result.score is not None and math.isnan(result.score):
        raise BadRequest("BAD_FIELD", "result.score is not a number (NaN)", field="result.score")
    for name, value in result.metrics:
        if math.isnan(value):
            text = f"the metric {name!r:.120} is not a number (NaN)"
            raise BadRequest("BAD_FIELD", text, field="result.metrics")
    if sum(len(name.encode()) for name, _ in result.metrics) > MAX_METRIC_BYTES:
        text = f"the names of the metrics have more than {MAX_METRIC_BYTES:,} bytes together"
        raise BadRequest("BAD_FIELD", text, field="result.metrics")


def _clients_left(job: LiveJob) -> int:
    return sum(task.record.role is Role.CLIENT and not is_over(task.record) for task in job.tasks.values())
