"""A fault that was asked for, at one member or at several, from the call to what a repeat of it is told.

Each member has an operation and a line of its own (`ledger`); the call is answered when all of them are over.
What was refused at a member, or not tried there because its volunteer is away, is not remembered: a repeat
looks at that member afresh, and tells of the others what was told before.

Of several members each line carries the request id and a digest of all their names: so a restarted manager
knows a repeat from another call under the same id. A member that was so already has no line, and after a
restart is looked at afresh, as where it is the only one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from .effects import FaultReply, FaultsReply
from .errors import BadRequest, CoreError, Ended, FaultFailed, TooLate
from .model import FaultKind
from .state import Asked, FaultOp, LiveJob
from .world import World, nanoseconds

# Members whose answers are kept for repeats, in one job.
MAX_REMEMBERED = 10_000
_DIGEST_DIGITS = 16
_MOST_NAMES = 20


def make(
    world: World, job: LiveJob, request_id: str, kind: FaultKind, with_disk: bool, tasks: tuple[str, ...]
) -> Asked:
    """A fault that nobody waits for yet."""
    world.asked_made += 1
    return Asked(
        world.asked_made, job.record.job_id, request_id, kind, with_disk, digest_of(tasks), tasks=tasks
    )


def digest_of(tasks: Sequence[str]) -> str:
    """What tells a set of members, in its order, from another; of one member nothing is needed."""
    if len(tasks) == 1:
        return ""
    return hashlib.sha256(",".join(tasks).encode()).hexdigest()[:_DIGEST_DIGITS]


def line_id(asked: Asked) -> str:
    """The request id as the lines of the ledger carry it."""
    request_id, digest = asked.request_id, asked.digest
    return f"{request_id}/{digest}" if request_id and digest else request_id


def restored(world: World, job: LiveJob, kind: FaultKind, with_disk: bool, line: str, task: str) -> Asked:
    """The fault that a line of the ledger belongs to, among those that are known again after a restart."""
    request_id, _, digest = line.partition("/")
    known = job.requests.get(request_id)
    if known is None or not digest or known.digest != digest:
        known = make(world, job, request_id, kind, with_disk, (task,))
        if digest:
            known.digest, known.tasks = digest, ()
        if request_id:
            job.requests[request_id] = known
    return known


def require_same(asked: Asked, kind: FaultKind, with_disk: bool, tasks: tuple[str, ...]) -> None:
    """Raises BadRequest where a request id comes again with another request."""
    same_members = asked.digest == digest_of(tasks) and (bool(asked.digest) or asked.tasks == tasks)
    if not same_members or (asked.kind, asked.with_disk) != (kind, with_disk):
        whom = _names(asked.tasks or [*asked.told, *asked.ops])
        text = f"request_id was used for another call, a {asked.kind.name} of {whom}"
        raise BadRequest("BAD_FIELD", text, field="request_id")
    asked.tasks = tasks


def under_way(world: World, job: LiveJob, asked: Asked, ops: Iterable[FaultOp]) -> None:
    """Something is to be done, or done again, at these members."""
    if not asked.ops:
        if asked.request_id in job.requests:
            job.remembered -= len(asked.told)
        elif asked.request_id:
            job.requests[asked.request_id] = asked
        world.asked[asked.number] = asked
    for op in ops:
        asked.ops[op.task] = op


def join(world: World, asked: Asked, call: int) -> None:
    """One more call waits for the answer, for `command_timeout_s` from now; it may be there already."""
    if not asked.ops:
        world.reply(call, answer(asked))
        return
    asked.waiters.append(call)
    world.calls[call] = asked
    world.timers.set(("fault", asked.number), world.ns + nanoseconds(world.config.command_timeout_s))


def leave(world: World, call: int) -> None:
    """The call waits no more; the fault goes on."""
    asked = world.calls.pop(call, None)
    if asked is not None:
        asked.waiters.remove(call)


def over_at(world: World, job: LiveJob, op: FaultOp, value: FaultReply | CoreError | None) -> None:
    """The operation at one member is over, with what came of it; None where it was not begun and will not be.

    The last one answers the callers.
    """
    asked = op.asked
    del asked.ops[op.task]
    job.ops_waiting -= 1
    if value is not None:
        asked.told[op.task] = value
    if asked.ops:
        return
    if asked.waiters:
        _tell(world, asked, answer(asked))
    _close(world, job, asked)
    asked.told = {
        task: told for task, told in asked.told.items() if isinstance(told, FaultReply | FaultFailed)
    }
    if asked.request_id and asked.told:
        _remember(job, asked)


def too_late(world: World, asked: Asked) -> None:
    """Those who wait have waited long enough: it is not known whether it holds."""
    have, timeout = "have" if len(asked.ops) > 1 else "has", world.config.command_timeout_s
    text = f"{_names(asked.ops)} {have} not answered for {timeout:g} s"
    held = [task for task, told in asked.told.items() if isinstance(told, FaultReply)]
    if held:
        text += f" ({asked.kind.name} holds at {_names(held)})"
    _tell(world, asked, TooLate("FAULT_UNDER_WAY", f"{text}; the same request may be sent again"))


def ended(world: World, job: LiveJob, asked: Asked) -> None:
    """The attempt is over, and the fault with it."""
    text = f"attempt {job.record.attempt} of the job ended meanwhile"
    _tell(world, asked, Ended("ATTEMPT_ENDED", text))
    job.ops_waiting -= len(asked.ops)
    asked.ops.clear()
    _close(world, job, asked)


def answer(asked: Asked) -> FaultReply | FaultsReply | CoreError:
    """What the callers are told of a fault that is over at each of its members."""
    values = [asked.told[task] for task in asked.tasks]
    if len(values) == 1:
        return values[0]
    replies = tuple(value for value in values if isinstance(value, FaultReply))
    if len(replies) == len(values):
        return FaultsReply(replies)
    return not_at_all(asked.kind, dict(zip(asked.tasks, values, strict=True)))


def not_at_all(kind: FaultKind, told: dict[str, FaultReply | CoreError]) -> CoreError:
    """The error of a fault that does not hold at each of several members: which hold, which not, and why."""
    errors = {task: value for task, value in told.items() if isinstance(value, CoreError)}
    held = [task for task in told if task not in errors]
    tried = (task for task, error in errors.items() if isinstance(error, FaultFailed))
    worst = next(tried, next(iter(errors)))
    error = errors[worst]
    why = error.detail if worst in error.detail else f"{worst}: {error.detail}"
    where = _names(held) if held else "none of them"
    return type(error)(error.reason, f"{kind.name} holds at {where}, not at {_names(errors)}: {why}")


def _tell(world: World, asked: Asked, value: FaultReply | FaultsReply | CoreError) -> None:
    # What holds is told at once: its intent is durable, and the command's repeat after a crash tells it.
    holds = isinstance(value, FaultReply | FaultsReply)
    for call in asked.waiters:
        del world.calls[call]
        world.reply(call, value, before_commit=holds)
    asked.waiters.clear()


def _close(world: World, job: LiveJob, asked: Asked) -> None:
    del world.asked[asked.number]
    world.timers.cancel(("fault", asked.number))
    if job.requests.get(asked.request_id) is asked:
        del job.requests[asked.request_id]


def _remember(job: LiveJob, asked: Asked) -> None:
    job.requests[asked.request_id] = asked
    job.remembered += len(asked.told)
    while job.remembered > MAX_REMEMBERED:
        oldest = next(known for known in job.requests.values() if not known.ops)
        del job.requests[oldest.request_id]
        job.remembered -= len(oldest.told)


def _names(tasks: Iterable[str]) -> str:
    names = list(tasks)
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
