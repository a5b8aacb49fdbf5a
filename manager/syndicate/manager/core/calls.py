"""What users and clients ask of the core, and it answers by itself, at once.

What changes something is done once for each request id: who asks again is given the first answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from . import admission, clients, nodes, stopping, users
from .effects import Answer, CancelReply, DrainReply, PublishReply, SubmitReply
from .errors import CoreError, NotFound
from .events import (
    CancelJob,
    ClientsRequested,
    DrainNode,
    FinishRequested,
    LinesRequested,
    MembersRequested,
    SubmitJob,
)
from .user_events import CreateToken, PublishJob, PutTeam, PutUsers, RevokeToken, UserCall
from .world import World

Call = (
    SubmitJob
    | CancelJob
    | DrainNode
    | FinishRequested
    | MembersRequested
    | LinesRequested
    | ClientsRequested
    | UserCall
)


def answer(world: World, event: Call) -> None:
    """Replies to a call with what came of it, or with why it was refused."""
    try:
        world.reply(event.call, _call(world, event))
    except CoreError as error:
        world.reply(event.call, error)


def _call(world: World, event: Call) -> Answer:
    match event:
        case SubmitJob():
            return SubmitReply(admission.submitted(world, event))
        case CancelJob():
            return _once(world, event.request_id, ("cancel", event.job_id), lambda: _cancel(world, event))
        case DrainNode():
            question = "drain", event.volunteer_id, event.draining
            return _once(world, event.request_id, question, lambda: _drain(world, event))
        case FinishRequested():
            return clients.finish(world, event)
        case MembersRequested():
            return clients.members(world, event)
        case LinesRequested():
            return clients.lines(world, event)
        case ClientsRequested():
            return clients.clients(world, event)
        case _:
            return _user_call(world, event)


def _user_call(world: World, event: UserCall) -> Answer:
    origin = event.origin
    asked = origin.caller.name

    def audit(subject: str) -> None:
        world.audit(origin, type(event).__name__, subject)

    match event:
        case PutUsers():
            question: tuple[object, ...] = asked, event.users, event.only_new, event.mask
            return _once(world, event.request_id, question, lambda: users.put_users(world, event, audit))
        case PutTeam():
            question = asked, event.name, event.quota, event.mask
            return _once(world, event.request_id, question, lambda: _put_team(world, event))
        case CreateToken():
            return users.create_token(world, event, audit)
        case RevokeToken():
            return users.revoke_token(world, event, audit)
        case PublishJob():
            question = "publish", event.job_id, event.published
            return _once(world, event.request_id, question, lambda: _publish(world, event))


def _cancel(world: World, event: CancelJob) -> CancelReply:
    job = world.job(event.job_id)
    stopping.cancel(world, job, event.by)
    world.audit(event.origin, "CancelJob", f"job {event.job_id}", event.job_id)
    return CancelReply(job.record.state)


def _drain(world: World, event: DrainNode) -> DrainReply:
    reply = DrainReply(nodes.drain(world, event))
    what = "drained" if event.draining else "resumed"
    world.audit(event.origin, "DrainNode", f"node {event.volunteer_id} ({what})")
    return reply


def _put_team(world: World, event: PutTeam) -> Answer:
    reply = users.put_team(world, event)
    world.audit(event.origin, "PutTeam", f"team {event.name}")
    return reply


def _publish(world: World, event: PublishJob) -> PublishReply:
    job = world.jobs.get(event.job_id)
    if event.stored is not None:
        world.save_stored(replace(event.stored, published=event.published))
        if job is not None:
            job.record = replace(job.record, published=event.published)
    elif job is not None:
        world.save_job(job, replace(job.record, published=event.published))
    else:
        raise NotFound("NO_SUCH_JOB", f"there is no job {event.job_id}")
    what = "published" if event.published else "not published"
    world.audit(event.origin, "PublishJob", f"job {event.job_id} ({what})", event.job_id)
    return PublishReply(event.published)


def _once(world: World, request_id: str, question: tuple[object, ...], do: Callable[[], Answer]) -> Answer:
    """The first answer again where the request is repeated: it may have been taken back meanwhile."""
    first = world.first_answer(request_id, question)
    if first is None:
        first = do()
        world.remember_answer(request_id, question, first)
    return first
