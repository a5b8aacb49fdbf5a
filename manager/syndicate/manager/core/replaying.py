"""A replay that runs: planned calls are made at their times, and clients' own calls stand for them.

made        by a timer, as a client's call is: all of its members together, in the ledger under `replay`
refused     a line in the ledger with the reason: nobody is told of it otherwise
overdue     after a restart of the manager, at once, in their order; the story says so
a client's  the first planned call of its kind and members that no other one stands for: answered when that
            holds; it does nothing itself. One without a counterpart is refused (NOT_IN_REPLAY), unless it
            would change nothing anyway
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from . import fault_lines, faults, ledger, orders
from .asked import make, not_at_all
from .clients import caller_of, name_of, require_running
from .effects import FaultReply, FaultsReply
from .errors import BadRequest, CoreError, Exhausted, Refused
from .events import ChaosRequest, HealRequested, UserCaller
from .healing import REPLAY
from .model import FaultKind, JobState
from .orders import Order, Part
from .records import PlannedPart, PlanRecord
from .replay import counterpart, healing_counterpart, number_of, request_id
from .state import Asked, FaultOp, LiveJob, Replay, Stand, What
from .story import tell
from .words import count, duration
from .world import World

# What comes later than this is said to be late.
_LATE_NS: Final = 20_000_000


def advance(world: World, job: LiveJob) -> None:
    """Makes the planned calls of a running job that are due, and tells who waits for those that are over."""
    replay = job.replay
    if replay is None or job.record.state is not JobState.RUNNING or job.record.started_at is None:
        return
    start_ns = world.when(job.record.started_at)
    if not replay.told:
        replay.told = True
        first = duration(max(replay.plan[1].offset_ns, 0))
        faults_of = f"{count(len(replay.plan), 'fault')} of job {job.record.spec.replay_of}"
        tell(world, job, "replay.began", f"{faults_of} come again, the first {first} after the start")
    late = []
    while (planned := replay.plan.get(replay.next)) is not None:
        due_ns = start_ns + max(planned.offset_ns, 0)
        if due_ns > world.ns:
            world.timers.set(("replay", job.record.job_id), due_ns)
            break
        replay.next += 1
        if _make(world, job, replay, planned) and world.ns - due_ns > _LATE_NS:
            late.append(world.ns - due_ns)
    if late:
        text = f"{count(len(late), 'fault')} late, the first by {duration(late[0])}"
        tell(world, job, "replay.late", text)
    _settle(world, job, replay)


def resumed(world: World, job: LiveJob) -> None:
    """A restarted manager goes on with a replay; what is under way is known by its lines in the ledger."""
    replay = job.replay
    if replay is None:
        return
    replay.told = True
    for number, planned in replay.plan.items():
        asked = job.requests.get(request_id(number))
        if asked is not None:
            replay.asked[number] = asked
        if planned.over_in != job.record.attempt and asked is not None:
            replay.flying[number] = None
    world.touch(job)


def leave(world: World, call: int) -> None:
    """The caller of a call that stands for a planned one waits no more."""
    found = world.stands.pop(call, None)
    if found is None:
        return
    job_id, number = found
    replay = world.jobs[job_id].replay
    if replay is not None:
        replay.stands[number] = [stand for stand in replay.stands[number] if stand.call != call]


def requested(world: World, event: ChaosRequest) -> bool:
    """Somebody asks for a fault in a job that replays another one. False where it does not.

    Raises CoreError, as for any fault, and Refused (NOT_IN_REPLAY).
    """
    caller = event.caller
    job_id = caller.job_id if isinstance(caller, UserCaller) else caller.ref.job_id
    known = world.jobs.get(job_id)
    if known is None or known.replay is None:
        return False
    job, client = caller_of(world, caller)
    replay = job.replay
    assert replay is not None, "it is the same job"  # noqa: S101  # for the type checker
    first = replay.claims.get(event.request_id) if event.request_id else None
    if first is None:
        require_running(job, client)
    order = orders.read(job, event)
    if first is not None:
        planned = replay.plan[first]
        if planned.kind is not order.what.kind:
            text = f"request_id was used for another call, a {planned.kind.name}"
            raise BadRequest("BAD_FIELD", text, field="request_id")
    else:
        found = _counterpart(job, event, order)
        if found is None:
            _nothing_to_do(world, job, event, order)
            return True
        planned = found
        faults.write_audit(world, job, event, order)
        claimed = replace(planned, claimed_in=job.record.attempt, claimed_by=event.request_id)
        world.save_plan(replay, claimed)
        if event.request_id:
            replay.claims[event.request_id] = planned.number
    _stand(world, job, replay, planned.number, Stand(event.call, order.names, order.what.groups))
    return True


def _counterpart(job: LiveJob, event: ChaosRequest, order: Order) -> PlanRecord | None:
    by = name_of(event.caller)
    if not isinstance(event, HealRequested):
        return counterpart(job, order.what.kind, order.names, by)
    calls = {number_of(job.faults[line]) for line in event.fault_ids} if event.fault_ids else None
    return healing_counterpart(job, calls, by)


def _nothing_to_do(world: World, job: LiveJob, event: ChaosRequest, order: Order) -> None:
    """Answers a call that has no counterpart and changes nothing. Raises Refused where it would."""
    if isinstance(event, HealRequested) and not order.parts:
        world.reply(event.call, FaultsReply(()))
        return
    asked = Asked(0, job.record.job_id, "", order.what, "")
    ops = faults.ops_at(world, asked, order.parts, name_of(event.caller))
    replies = []
    for part, op in zip(order.parts, ops, strict=True):
        value = None if part.task.ops else ledger.outlook(world, part.task, op)
        if not isinstance(value, FaultReply):
            kind, replayed = order.what.kind.name, job.record.spec.replay_of
            text = f"this job replays job {replayed}, and there is no {kind} of {_few(order)} left there"
            raise Refused("NOT_IN_REPLAY", f"{text}: nothing was done")
        replies.append(value)
    one = len(replies) == 1 and order.what.kind is not FaultKind.HEAL
    world.reply(event.call, replies[0] if one else FaultsReply(tuple(replies), _addresses(job, order.names)))


def _stand(world: World, job: LiveJob, replay: Replay, number: int, stand: Stand) -> None:
    if number in replay.asked and number not in replay.flying:
        world.reply(stand.call, _answer(job, replay, number, stand))
        return
    if replay.plan[number].over_in == job.record.attempt:
        world.reply(stand.call, _answer(job, replay, number, stand))
        return
    if sum(map(len, replay.stands.values())) >= ledger.MAX_WAITING:
        raise Exhausted("TOO_MANY_FAULTS", f"{ledger.MAX_WAITING:,} calls of this job wait already")
    replay.stands.setdefault(number, []).append(stand)
    world.stands[stand.call] = job.record.job_id, number


# ---- planned calls ----------------------------------------------------------------------------------------


def _make(world: World, job: LiveJob, replay: Replay, planned: PlanRecord) -> bool:
    """Makes a planned call, at the members where it is neither under way nor done. False where at none."""
    number = planned.number
    if planned.over_in == job.record.attempt:
        return False
    order = _order(job, replay, planned)
    asked = replay.asked.get(number)
    fresh = asked is None
    if asked is None:
        asked = make(world, job, request_id(number), order.what, order.names)
    asked.what, asked.tasks = order.what, order.names
    asked.heals = tuple(replay.asked[healed] for healed in planned.heals if healed in replay.asked)
    replay.asked[number] = asked
    replay.flying[number] = None
    # One that failed somewhere is taken back, and not begun at further members.
    failed = asked.undone is not None or any(isinstance(told, CoreError) for told in asked.told.values())
    rest = [] if failed else faults.rest_of(order.parts, asked)
    ops = faults.ops_at(world, asked, rest, REPLAY)
    if fresh:
        try:
            faults.require_able(world, order)
            faults.require_no_obstacle(world, job, ops)
        except CoreError as error:
            _refuse(world, job, asked, ops, error.detail)
            return True
    if ops:
        ledger.begin(world, job, ops, asked)
    return bool(ops)


def _refuse(world: World, job: LiveJob, asked: Asked, ops: list[FaultOp], why: str) -> None:
    for op in ops:
        asked.told[op.task] = fault_lines.note_refusal(world, job, op, why)


def _order(job: LiveJob, replay: Replay, planned: PlanRecord) -> Order:
    heals = [replay.asked[number].call_id for number in planned.heals if number in replay.asked]
    what = What(
        planned.kind,
        planned.with_disk,
        planned.lease_s,
        planned.degradation,
        planned.one_way,
        planned.signal,
        planned.shape,
        planned.seed,
        f"faults {', '.join(map(str, heals))}" if planned.heals else planned.text,
        frozenset(heals) if planned.heals else None,
        _groups(job, planned),
    )
    parts = [Part(job.tasks[part.task], part.cut_out, part.cut_in, part.peers) for part in planned.parts]
    return Order(what, parts, needs=orders.needs_of(what))


def _groups(job: LiveJob, planned: PlanRecord) -> tuple[tuple[str, ...], ...]:
    """The groups of a Partition by address, as far as the cuts tell: who is cut from the same is together."""
    if planned.kind is not FaultKind.PARTITION:
        return ()
    together: dict[tuple[tuple[str, ...], tuple[str, ...]], list[PlannedPart]] = {}
    for part in planned.parts:
        together.setdefault((part.cut_out, part.cut_in), []).append(part)
    return tuple(_addresses(job, tuple(part.task for part in group)) for group in together.values())


def _settle(world: World, job: LiveJob, replay: Replay) -> None:
    """What is over is written down as that, and told to those who stand for it."""
    for number in [number for number in replay.flying if not replay.asked[number].ops]:
        del replay.flying[number]
        world.save_plan(replay, replace(replay.plan[number], over_in=job.record.attempt))
        for stand in replay.stands.pop(number, ()):
            del world.stands[stand.call]
            value = _answer(job, replay, number, stand)
            world.reply(stand.call, value, before_commit=not isinstance(value, CoreError))


def _answer(job: LiveJob, replay: Replay, number: int, stand: Stand) -> FaultReply | FaultsReply | CoreError:
    """What is told to a call that stands for a planned one which is over."""
    planned, asked = replay.plan[number], replay.asked.get(number)
    told = {} if asked is None else asked.told
    errors = [value for value in told.values() if isinstance(value, CoreError)]
    if asked is not None and errors:
        return not_at_all(asked) if len(told) > 1 else errors[0]
    names = stand.names
    if planned.kind in (FaultKind.HEAL, FaultKind.PARTITION):
        names = tuple(part.task for part in planned.parts if _did(told.get(part.task)))
    replies = tuple(_told(job, name, told.get(name)) for name in names)
    if planned.kind is FaultKind.HEAL:
        return FaultsReply(replies, _addresses(job, names))
    if planned.kind is FaultKind.PARTITION:
        return FaultsReply(replies, _addresses(job, names), _groups_told(job, planned, stand))
    return replies[0] if len(replies) == 1 else FaultsReply(replies)


def _groups_told(job: LiveJob, planned: PlanRecord, stand: Stand) -> tuple[tuple[str, ...], ...]:
    """As the caller has them, where they are those that were cut: it may know more than the cuts tell."""
    mine, own = _groups(job, planned), stand.groups
    return own if {frozenset(group) for group in mine} <= {frozenset(group) for group in own} else mine


def _did(told: FaultReply | CoreError | None) -> bool:
    return isinstance(told, FaultReply) and not told.already


def _told(job: LiveJob, name: str, told: FaultReply | CoreError | None) -> FaultReply:
    if isinstance(told, FaultReply):
        return told
    return FaultReply(0, True, None, None, 0, job.tasks[name].record.generation)


def _addresses(job: LiveJob, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(job.tasks[name].record.address for name in names)


def _few(order: Order) -> str:
    names = order.names
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") or "anything"
