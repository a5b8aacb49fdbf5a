"""What a job that replays another one is to do: the calls of that one's ledger, each at its time.

The plan is made when the job is submitted, and saved with it: what becomes of the replayed job later does not
matter. It has the calls that held in the last attempt, each with its members, at its offset from the start.
What failed there is left out, and so is what comes by itself: the ends of leases, of the job, and what was
taken back because its call had failed. `replaying` carries it out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from .desired import LASTING
from .errors import BadRequest, Ended, Refused
from .events import SubmitJob
from .healing import HEALER, LEASE, REPLAY, ROLLBACK
from .model import NO_LIMITS, FaultKind, Stamp
from .records import FaultRecord, PlannedPart, PlanRecord
from .state import LiveJob, Replay
from .story import tell
from .transitions import TERMINAL_JOB_STATES
from .views import JobView
from .words import count, duration
from .world import World

# Who asks for what comes by itself.
_BY_ITSELF: Final = frozenset({HEALER, LEASE, ROLLBACK})
_USER: Final = "user:"
_PREFIX: Final = "replay-"
# The members of a planned call, or the planned calls that a Heal is about; None where that is of everything.
What = frozenset[Any] | None


# ---- what is submitted ------------------------------------------------------------------------------------


def filled(event: SubmitJob) -> SubmitJob:
    """The job that is asked for, with what it leaves open as in the job that it replays.

    Raises Refused (JOB_NOT_ENDED) and, where it asks for another gang, BadRequest.
    """
    view = event.replays
    if view is None:
        return event
    job_id, spec = view.job.job_id, view.job.spec
    if view.job.state not in TERMINAL_JOB_STATES:
        raise Refused(
            "JOB_NOT_ENDED",
            f"job {job_id} is {view.job.state.name}: a job can be replayed when it has ended",
            hint=f"Wait for it:  syndicatectl wait {job_id}",
        )
    if event.machines not in (0, spec.machines):
        raise _other("machines", event.machines, job_id, spec.machines)
    if event.no_client and spec.clients:
        raise _other("no_client", True, job_id, False)
    if event.clients not in (None, spec.clients):
        raise _other("clients", event.clients, job_id, spec.clients)
    if event.client is not None and not spec.clients:
        raise _other("client", "given", job_id, "none")
    return replace(
        event,
        name=event.name or spec.name,
        machines=spec.machines,
        client=event.client or spec.client,
        clients=spec.clients,
        no_client=not spec.clients,
        time_limit_s=event.time_limit_s or spec.time_limit_s,
        limits=spec.limits if event.limits == NO_LIMITS else event.limits,
    )


def _other(field: str, asked: object, job_id: int, was: object) -> BadRequest:
    text = f"{field} is {asked}, and of job {job_id} it was {was}: a replay has the same members"
    return BadRequest("BAD_FIELD", text, field=field)


def plan(view: JobView, job_id: int) -> tuple[PlanRecord, ...]:
    """The calls that job `job_id` is to make. Raises Refused (NOTHING_TO_REPLAY) where there are none."""
    start = view.job.started_at
    found = [] if start is None else _calls(view.faults, start, job_id)
    if not found:
        raise Refused(
            "NOTHING_TO_REPLAY",
            f"the ledger of job {view.job.job_id}, attempt {view.job.attempt}, has no fault that held: there "
            "is nothing to replay",
            hint="Submit its source again",
        )
    return tuple(found)


def _calls(lines: Iterable[FaultRecord], start: Stamp, job_id: int) -> list[PlanRecord]:
    calls: dict[tuple[int, int], list[FaultRecord]] = {}
    for line in lines:
        if line.requested_by not in _BY_ITSELF:
            # The members at which a call was repeated later have a call of their own.
            key = line.call_id or line.fault_id, _between_ns(start, line.requested_at)
            calls.setdefault(key, []).append(line)
    found: list[PlanRecord] = []
    numbers: dict[int, int] = {}
    for (_, offset_ns), of_call in sorted(calls.items(), key=lambda call: (call[0][1], call[0][0])):
        held = [line for line in of_call if line.applied_at is not None and not line.error]
        failed = len(held) < len(of_call) or any(line.healed_by == ROLLBACK for line in of_call)
        if not held or (failed and held[0].kind in LASTING):
            continue
        heals: tuple[int, ...] = ()
        if _heals_some(held[0]):
            heals = tuple(sorted({numbers[line] for one in held for line in one.heals if line in numbers}))
            if not heals:
                continue
        number = len(found) + 1
        found.append(_call(job_id, number, held, start, offset_ns, heals))
        numbers.update((line.fault_id, number) for line in held)
    return found


def _heals_some(line: FaultRecord) -> bool:
    """Whether a line is of a Heal of some calls, which says of which."""
    return line.kind is FaultKind.HEAL and bool(line.text)


def _call(
    job_id: int, number: int, held: list[FaultRecord], start: Stamp, offset_ns: int, heals: tuple[int, ...]
) -> PlanRecord:
    first = held[0]
    parts = tuple(
        PlannedPart(
            line.task,
            _between_ns(start, line.applied_at_manager or line.requested_at),
            line.cut_out,
            line.cut_in,
            line.peers,
        )
        for line in held
    )
    return PlanRecord(
        job_id,
        number,
        offset_ns,
        asked_by="" if first.requested_by == REPLAY else first.requested_by,
        kind=first.kind,
        parts=parts,
        with_disk=first.with_disk,
        lease_s=first.lease_s,
        degradation=first.degradation,
        one_way=first.one_way,
        signal=first.signal,
        shape=first.shape,
        seed=first.seed,
        text=first.text,
        heals=heals,
        everything=first.kind is FaultKind.HEAL and not _heals_some(first),
    )


def _between_ns(earlier: Stamp, later: Stamp) -> int:
    if earlier.boot_id == later.boot_id:
        return later.monotonic_ns - earlier.monotonic_ns
    return later.utc_ns - earlier.utc_ns


# ---- which planned call a client's own one stands for -----------------------------------------------------


def counterpart(job: LiveJob, kind: FaultKind, names: tuple[str, ...], by: str) -> PlanRecord | None:
    """The first planned call of this kind and members, by the same caller, that no other one stands for.

    Members that were so already in the replayed job have no line there: where no planned call is about all of
    them, one about some of them is meant. What one user asked for, any user may stand for.
    """
    wanted = frozenset(names)
    return _first(job, kind, by, [wanted]) or _first(job, kind, by, _within(job, kind, by, wanted))


def healing_counterpart(job: LiveJob, calls: set[int] | None, by: str) -> PlanRecord | None:
    """As `counterpart`, for a Heal of these planned calls; None for everything."""
    kind = FaultKind.HEAL
    return _first(job, kind, by, [None] if calls is None else _within(job, kind, by, frozenset(calls)))


def _first(job: LiveJob, kind: FaultKind, by: str, wanted: Iterable[What]) -> PlanRecord | None:
    """The first planned call about any of these that no other one stands for."""
    replay = job.replay
    if replay is None:
        return None
    whats, attempt, first = list(wanted), job.record.attempt, 0
    for who in _names_of(by):
        about = _unclaimed(job).get((kind, who), {})
        for what in whats:
            numbers = about.get(what)
            while numbers and replay.plan[numbers[0]].claimed_in == attempt:
                numbers.popleft()
            if numbers:
                first = min(first or numbers[0], numbers[0])
            elif numbers is not None:
                del about[what]
    return replay.plan[first] if first else None


def _within(job: LiveJob, kind: FaultKind, by: str, wanted: frozenset[Any]) -> Iterable[What]:
    for who in _names_of(by):
        yield from (
            what for what in _unclaimed(job).get((kind, who), {}) if what is not None and what <= wanted
        )


def _names_of(by: str) -> tuple[str, ...]:
    """The names under which a caller's calls may be planned."""
    return "", _USER if by.startswith(_USER) else by


def _unclaimed(job: LiveJob) -> dict[tuple[FaultKind, str], dict[What, deque[int]]]:
    """Planned calls by kind and caller, and then by what they are about; made once for an attempt.

    A plan may have thousands of calls, and each call of a client asks for its counterpart.
    """
    replay = job.replay
    assert replay is not None, "the caller has seen it"  # noqa: S101  # for the type checker
    if not replay.unclaimed:
        for number, planned in sorted(replay.plan.items()):
            who = _USER if planned.asked_by.startswith(_USER) else planned.asked_by
            about: What = frozenset(part.task for part in planned.parts)
            if planned.kind is FaultKind.HEAL:
                about = None if planned.everything else frozenset(planned.heals)
            calls = replay.unclaimed.setdefault((planned.kind, who), {})
            calls.setdefault(about, deque()).append(number)
    return replay.unclaimed


# ---- what came of it --------------------------------------------------------------------------------------


def request_id(number: int) -> str:
    """What stands in the lines of a planned call where others have a client's request id, which is a UUID."""
    return f"{_PREFIX}{number}"


def number_of(line: FaultRecord) -> int:
    """The planned call that a line of a replay's ledger is of; 0 for none."""
    word = line.request_id.partition("/")[0]
    return int(word.removeprefix(_PREFIX)) if word.startswith(_PREFIX) else 0


def restored(job: LiveJob, rows: Iterable[PlanRecord]) -> Replay:
    """The replay of a job from its rows, in the order of their numbers."""
    attempt = job.record.attempt
    plan = {row.number: row for row in rows}
    claims = {row.claimed_by: row.number for row in plan.values() if row.claimed_in == attempt}
    return Replay(plan, claims=claims)


def ended(world: World, job: LiveJob) -> None:
    """The attempt is over: tells what came of the replay, and those who wait that nothing more will."""
    replay = job.replay
    if replay is None:
        return
    world.timers.cancel(("replay", job.record.job_id))
    text = f"attempt {job.record.attempt} of the job ended meanwhile"
    for stands in replay.stands.values():
        for stand in stands:
            del world.stands[stand.call]
            world.reply(stand.call, Ended("ATTEMPT_ENDED", text))
    if job.record.started_at is not None:
        tell(world, job, "replay.ended", summary(job.record.spec.replay_of, replay.plan, job))
    job.replay = Replay(replay.plan)


def summary(replayed: int, plan: Mapping[int, PlanRecord], job: LiveJob) -> str:
    """`replay of job 12: 7 of 8 faults applied, worst offset 3.1 ms asked, 4.2 ms held; …`, from the ledger.

    Offsets are those of the calls, and of when they held at each member, from their times in that job.
    """
    lines: dict[int, list[FaultRecord]] = {}
    for line in job.faults.values():
        if line.requested_by == REPLAY:
            lines.setdefault(number_of(line), []).append(line)
    came = {n for n, planned in plan.items() if n in lines or planned.over_in == job.record.attempt}
    failed = [n for n in sorted(came) if any(line.error for line in lines.get(n, ()))]
    nothing = [n for n in sorted(came) if n not in lines]
    applied = len(came) - len(failed) - len(nothing)
    text = f"replay of job {replayed}: {applied} of {count(len(plan), 'fault')} applied"
    if applied:
        asked_ns, held_ns = _worst_ns(job, plan, lines)
        text += f", worst offset {duration(asked_ns)} asked, {duration(held_ns)} held"
    if nothing:
        text += f"; {len(nothing)} changed nothing (so already)"
    if failed:
        first = next(line for line in lines[failed[0]] if line.error)
        text += f"; {len(failed)} failed, first {first.kind.name} of {first.task}: {first.error}"
    if left := len(plan) - len(came):
        text += f"; {left} were still to come" if left > 1 else "; 1 was still to come"
    return text


def _worst_ns(
    job: LiveJob, plan: Mapping[int, PlanRecord], lines: Mapping[int, list[FaultRecord]]
) -> tuple[int, int]:
    start = job.record.started_at
    assert start is not None, "what was applied was applied in a job that ran"  # noqa: S101  # for the type checker
    asked_ns = worst_ns = 0
    for number, of_call in lines.items():
        planned = plan[number]
        held_ns = {part.task: part.held_ns for part in planned.parts}
        for line in of_call:
            if line.applied_at_manager is not None and not line.error and line.task in held_ns:
                # What came before the start there cannot come before it here.
                off_ns = _between_ns(start, line.requested_at) - max(planned.offset_ns, 0)
                asked_ns = max(asked_ns, abs(off_ns))
                off_ns = _between_ns(start, line.applied_at_manager) - held_ns[line.task]
                worst_ns = max(worst_ns, abs(off_ns))
    return asked_ns, worst_ns
