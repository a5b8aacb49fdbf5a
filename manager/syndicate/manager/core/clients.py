"""What a client task may say of its own job: who it is, who the members are, that it has finished."""

from __future__ import annotations

import math
from dataclasses import replace

from .effects import FinishReply, MembersReply, MemberView
from .errors import BadRequest, NotAllowed, Refused
from .events import ChaosCaller, FinishRequested, MembersRequested
from .model import JobState, Member, Result, Role, TaskState
from .state import LiveJob, LiveTask
from .story import tell
from .verdict import is_over
from .words import first_line
from .world import World

# What one client may call its metrics, in bytes of all names together.
MAX_METRIC_BYTES = 64 << 10


def caller_of(world: World, caller: ChaosCaller) -> tuple[LiveJob, LiveTask]:
    """The client that calls, as its volunteer attests. Raises NotAllowed where it holds no such client."""
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


def require_running(job: LiveJob, client: LiveTask) -> None:
    """Raises Refused unless the client may still act.

    A client may act from its own start on: when the first of several starts, the job is not RUNNING yet, and
    its call proves that it runs even where the answer to its Start is still under way.
    """
    state = job.record.state
    starting = state is JobState.PREPARING and client.record.state >= TaskState.STARTING
    if state is not JobState.RUNNING and not starting:
        raise Refused("JOB_NOT_RUNNING", f"job {job.record.job_id} is {state.name}")
    if client.record.finished_at is not None:
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
                task.record.disconnected,
            )
            for task in job.tasks.values()
        )
    )


def finish(world: World, event: FinishRequested) -> FinishReply:
    """A client has finished, with what it found; the last one ends the job."""
    job, client = caller_of(world, event.caller)
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
