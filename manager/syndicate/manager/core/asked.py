"""A fault that was asked for, at one member or at several, from the call to what a repeat of it is told.

Each member has an operation and a line of its own (`ledger`); the call is answered when all of them are over.
What was refused at a member, or not tried there because its volunteer is away, is not remembered: a repeat
looks at that member afresh, and tells of the others what was told before.

Of several members each line carries the request id and a digest of all their names: so a restarted manager
knows a repeat from another call under the same id. A member that was so already has no line, and after a
restart is looked at afresh, as where it is the only one.

What lasts and failed at one of several members is taken back at the others before the callers are told
(`undone`), and at the one that failed, too: it may have come about there all the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace

from .desired import LASTING
from .effects import FaultReply, FaultsReply
from .errors import BadRequest, CoreError, Ended, FaultFailed, TooLate
from .model import FaultKind
from .records import FaultRecord
from .state import Asked, FaultOp, LiveJob, What
from .world import World, nanoseconds

# Members whose answers are kept for repeats, in one job.
MAX_REMEMBERED = 10_000
# What repeats are told again; at a member that refused they try afresh.
_REMEMBERED = (FaultReply, FaultFailed)
_DIGEST_DIGITS = 16
_MOST_NAMES = 20


def make(
    world: World, job: LiveJob, request_id: str, what: What, tasks: tuple[str, ...], extra: str = ""
) -> Asked:
    """A fault that nobody waits for yet. `extra` is what else tells it from another one of the same kind."""
    world.asked_made += 1
    return Asked(world.asked_made, job.record.job_id, request_id, what, digest_of(tasks, extra), tasks=tasks)


def digest_of(tasks: Sequence[str], extra: str = "") -> str:
    """What tells a set of members, in its order, from another; of one member alone nothing is needed."""
    if len(tasks) == 1 and not extra:
        return ""
    return hashlib.sha256(f"{','.join(tasks)}{extra}".encode()).hexdigest()[:_DIGEST_DIGITS]


def line_id(asked: Asked) -> str:
    """The request id as the lines of the ledger carry it."""
    request_id, digest = asked.request_id, asked.digest
    return f"{request_id}/{digest}" if request_id and digest else request_id


def restored(world: World, job: LiveJob, line: FaultRecord) -> Asked:
    """The fault that a line of the ledger is the first one of, after a restart; it is known to repeats."""
    request_id, _, digest = line.request_id.partition("/")
    what = What(
        line.kind,
        line.with_disk,
        line.lease_s,
        line.degradation,
        line.one_way,
        line.signal,
        line.shape,
        line.seed,
        line.text,
    )
    asked = make(world, job, request_id, what, () if digest else (line.task,))
    asked.digest = digest
    if request_id:
        job.requests[request_id] = asked
    return asked


def require_same(asked: Asked, what: What, tasks: tuple[str, ...], extra: str = "") -> None:
    """Raises BadRequest where a request id comes again with another request."""
    same_members = asked.digest == digest_of(tasks, extra) and (bool(asked.digest) or asked.tasks == tasks)
    if not same_members or (asked.kind, asked.what.with_disk) != (what.kind, what.with_disk):
        whom = _names(asked.tasks or [*asked.told, *asked.ops])
        text = f"request_id was used for another call, a {asked.kind.name} of {whom}"
        raise BadRequest("BAD_FIELD", text, field="request_id")
    if tasks:
        asked.tasks = tasks
    asked.what = what  # after a restart not all of it was known


def under_way(world: World, job: LiveJob, asked: Asked, ops: Iterable[FaultOp]) -> None:
    """Something is to be done, or done again, at these members."""
    if not asked.ops:
        if asked.request_id in job.requests:
            job.remembered -= len(asked.told)
        elif asked.request_id:
            job.requests[asked.request_id] = asked
        world.asked[asked.number] = asked
        asked.undone = None
    for op in ops:
        asked.ops[op.task] = op


def join(world: World, asked: Asked, call: int) -> None:
    """One more call waits for the answer, for `command_timeout_s` from now; it may be there already."""
    if not asked.ops:
        world.reply(call, answer(job_of(world, asked), asked))
        return
    asked.waiters.append(call)
    world.calls[call] = asked
    world.timers.set(("fault", asked.number), world.ns + nanoseconds(world.config.command_timeout_s))


def leave(world: World, call: int) -> None:
    """The call waits no more; the fault goes on."""
    asked = world.calls.pop(call, None)
    if asked is not None:
        asked.waiters.remove(call)


def over_at(world: World, job: LiveJob, op: FaultOp, value: FaultReply | CoreError | None) -> bool:
    """The operation at one member is over, with what came of it; None where it was not begun and will not be.

    Returns whether it was the last one: then the fault is to be concluded, or taken back.
    """
    asked = op.asked
    del asked.ops[op.task]
    job.ops_waiting -= 1
    if value is not None:
        (asked.told if asked.undone is None else asked.undone)[op.task] = value
    return not asked.ops


def conclude(world: World, job: LiveJob, asked: Asked) -> None:
    """It is over at each member: answers the callers."""
    settle(asked)
    if asked.waiters:
        _tell(world, asked, answer(job, asked))
    _close(world, job, asked)
    asked.told = {task: told for task, told in asked.told.items() if isinstance(told, _REMEMBERED)}
    forget_taken_back(asked)
    if asked.request_id and asked.told:
        _remember(job, asked)


def settle(asked: Asked) -> None:
    """Brings together what came of a fault that failed somewhere, and of taking it back.

    One that was only refused somewhere may be asked for again, and begins afresh: what was taken back is not
    remembered.
    """
    for task, undone in (asked.undone or {}).items():
        told = asked.told.get(task)
        if isinstance(undone, FaultReply) and isinstance(told, FaultReply):
            asked.told[task] = replace(told, taken_back=True)


def forget_taken_back(asked: Asked) -> None:
    """Without a member that tried and failed, a repeat is another try: it finds nothing done."""
    if not any(isinstance(told, FaultFailed) for told in asked.told.values()):
        asked.told = {
            task: told
            for task, told in asked.told.items()
            if not (isinstance(told, FaultReply) and told.taken_back)
        }


def too_late(world: World, asked: Asked) -> None:
    """Those who wait have waited long enough: it is not known whether it holds, or was taken back."""
    if not asked.waiters:
        return
    if asked.undone is not None:
        settle(asked)
        _tell(world, asked, not_at_all(asked))
        return
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


def job_of(world: World, asked: Asked) -> LiveJob:
    """The job that it is about."""
    return world.jobs[asked.job_id]


def answer(job: LiveJob, asked: Asked) -> FaultReply | FaultsReply | CoreError:
    """What the callers are told of a fault that is over at each of its members."""
    tasks = asked.tasks or tuple(asked.told)
    if asked.kind is FaultKind.HEAL:
        # Its members are those where something was taken back.
        tasks = tuple(task for task in tasks if task in asked.told and not _already(asked.told[task]))
    values = [asked.told[task] for task in tasks]
    whole = asked.kind in (FaultKind.HEAL, FaultKind.PARTITION)
    if len(values) == 1 and not (whole and isinstance(values[0], FaultReply)):
        return values[0]
    replies = tuple(value for value in values if isinstance(value, FaultReply))
    if len(replies) < len(values):
        return not_at_all(asked)
    addresses = tuple(job.tasks[task].record.address for task in tasks) if whole else ()
    return FaultsReply(replies, addresses, asked.what.groups)


def _already(told: FaultReply | CoreError) -> bool:
    return isinstance(told, FaultReply) and told.already


def not_at_all(asked: Asked) -> CoreError:
    """The error of a fault that does not hold at each of several members: at which not, and why.

    And where it does: at those where it could not be taken back, if it can be at all.
    """
    told = {task: asked.told[task] for task in asked.tasks or asked.told if task in asked.told}
    errors = {task: value for task, value in told.items() if isinstance(value, CoreError)}
    tried = (task for task, error in errors.items() if isinstance(error, FaultFailed))
    worst = next(tried, next(iter(errors)))
    error = errors[worst]
    named = worst in error.detail or (asked.kind in LASTING and len(errors) == 1)
    why = error.detail if named else f"{worst}: {error.detail}"
    name, failed = asked.kind.name, _names(errors)
    held = {task: value for task, value in told.items() if isinstance(value, FaultReply)}
    if asked.kind not in LASTING:
        text = f"{name} holds at {_names(held) if held else 'none of them'}, not at {failed}: {why}"
    else:
        text = f"{name} failed at {failed}: {why}{_rolled_back(asked, held, errors)}"
    return type(error)(error.reason, text, **error.metadata)


def _rolled_back(asked: Asked, held: dict[str, FaultReply], errors: dict[str, CoreError]) -> str:
    back = [task for task, value in held.items() if value.taken_back]
    stays = [task for task, value in held.items() if not value.taken_back and not value.already]
    undone = asked.undone or {}
    doubtful = [task for task in errors if task in asked.ops or isinstance(undone.get(task), CoreError)]
    parts = []
    if back:
        parts.append(f"it was taken back at {_names(back)}")
    if stays:
        parts.append(f"that it was taken back at {_names(stays)} could not be confirmed: it may hold there")
    if doubtful:
        parts.append(f"whether it holds at {_names(doubtful)} is not known")
    return "".join(f"; {part}" for part in parts)


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
