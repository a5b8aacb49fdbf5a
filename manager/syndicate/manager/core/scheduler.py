"""Between the machine and placement: makes the snapshot, verifies the plan against the present, begins it.

Placement looks at the first `DEPTH` jobs in turn, and only when something changed that could let one of them
in. A job that was just submitted is looked at alone, beside the head: nothing else can have become possible
through it.
"""

from __future__ import annotations

from itertools import islice

from . import gang
from .model import JobState
from .placement import plan, shadow_of
from .quota import Gate, Party
from .snapshot import Placement, Running, Shadow, Snapshot, Waiting
from .state import LiveJob
from .views import Wait
from .words import count, duration
from .world import NEVER, World, nanoseconds

DEPTH = 100


def run(world: World) -> None:
    """Begins every job that can have its slots now."""
    new, everything = world.plan_new, world.plan_all
    world.plan_new, world.plan_all = [], False
    room = world.pool.most()
    if room == 0 or not len(world.queue):
        return
    if everything:
        waiting = list(islice(world.queue.order(Gate(world)), DEPTH))
    else:
        gate = Gate(world)
        candidates = [world.queue.get(job_id) for job_id in new if job_id in world.queue]
        candidates = [job for job in candidates if job.slots <= room and _admits(world, gate, job)]
        if not candidates:
            return
        waiting = _beside_the_head(world, candidates)
    for placement in plan(snapshot(world, waiting), world.ns):
        if _stands(world, placement):
            gang.begin(world, world.jobs[placement.job_id], placement)


def _admits(world: World, gate: Gate, job: Waiting) -> bool:
    """Whether no quota holds up a job just submitted, or its owner's first, which it may not pass."""
    first = world.queue.first_of(job.job_id)
    if first is not job and gate.held_by(first.job_id, first.slots) is not None:
        return False
    return gate.admits(job.job_id, job.slots)


def snapshot(world: World, waiting: list[Waiting]) -> Snapshot:
    """The cluster as it is now, with these jobs waiting."""
    return Snapshot(tuple(world.pool.free_nodes()), tuple(_running(world)), tuple(waiting))


def waits_for(world: World, job: LiveJob) -> Wait:
    """What a job in the queue waits for, for people."""
    need = job.record.spec.slots
    if (party := Gate(world).held_by(job.record.job_id, need)) is not None:
        return _held_up(world, party)
    free = world.pool.counts()
    most = max(free.values(), default=0)
    if most >= need:
        head = _head(world)
        if head is None or head.job_id == job.record.job_id:
            return Wait("its slots are about to be asked")
        return Wait("its turn: ", world.jobs[head.job_id].record, " goes first")
    looks = world.looks
    if need not in looks.waits:
        looks.waits[need] = _what_is_missing(world, need, free, most)
    return looks.waits[need]


def _held_up(world: World, party: Party) -> Wait:
    """Whose quota a job waits for, and which job's end gives it back."""
    share, quota = world.queue.share(party.key), party.quota
    if 0 <= quota.running_jobs <= share.running:
        text = f"{party.who} has {share.running:,} of {count(quota.running_jobs, 'running job')}"
    else:
        text = f"{party.who} has {share.slots:,} of {count(quota.machines, 'slot')} at once"
    mine = {
        job.record.job_id
        for job in world.active.values()
        if party.key in (f"user {job.record.owner}", f"team {job.record.team}")
    }
    ends = [
        (run.ends_ns, run.job_id) for run in _running(world) if run.job_id in mine and run.ends_ns is not None
    ]
    if not ends:
        return Wait(text)
    at_ns, job_id = min(ends)
    return _until(world, text, Shadow(at_ns, "", 0, job_id))


def _head(world: World) -> Waiting | None:
    """The job whose turn it is among those that no quota holds up."""
    head = world.queue.head()
    if head is None or Gate(world).admits(head.job_id, head.slots):
        return head
    return next(world.queue.order(Gate(world)), None)


def _what_is_missing(world: World, need: int, free: dict[str, int], most: int) -> Wait:
    text = f"{need - most} of {count(need, 'slot')}"
    if world.looks.running is None:
        world.looks.running = _running(world)
    shadow = shadow_of(free, world.looks.running, need, world.ns)
    if shadow is not None:
        return _until(world, text, shadow)
    away = sorted(n for n, node in world.nodes.items() if node.session is None and not node.record.drained)
    drained = sorted(n for n, node in world.nodes.items() if node.record.drained)
    causes = [_all_are(away, "away")] if away else []
    if barred := sorted(n for n, node in world.nodes.items() if node.session and world.barred(node)):
        causes.append(f"{_all_are(barred, 'unsafe')}, which this manager does not allow: see `nodes`")
    if drained:
        resume = f"`syndicatectl node resume {' '.join(drained[:3])}`"
        causes.append(f"{_all_are(drained, 'drained')}, until {resume}")
    return Wait(f"{text} ({'; '.join(causes)})" if causes else text)


def _all_are(names: list[str], what: str) -> str:
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return f"{shown} {'is' if len(names) == 1 else 'are'} {what}"


def _until(world: World, text: str, shadow: Shadow) -> Wait:
    left_ns = shadow.at_ns - world.ns
    ends = "is ending" if left_ns <= 0 else f"ends in at most {duration(left_ns)}"
    return Wait(f"{text} (", world.jobs[shadow.job_id].record, f" {ends})")


def _beside_the_head(world: World, candidates: list[Waiting]) -> list[Waiting]:
    """The candidates behind the head that they might delay; all in turn where it is promised nothing."""
    head = _head(world)
    if head is None or head in candidates:
        return candidates
    if shadow_of(world.pool.counts(), _running(world), head.slots, world.ns) is None:
        return list(islice(world.queue.order(Gate(world)), DEPTH))
    return [head, *candidates]


def _running(world: World) -> list[Running]:
    """What each job that has slots gives back, and when at the latest."""
    found = []
    for job in world.active.values():
        slots = sum(1 for t in job.tasks.values() if world.usable(world.node_of(t)) and world.holds(t))
        found.append(Running(job.record.job_id, job.domain, slots, _ends_ns(world, job)))
    return found


def _ends_ns(world: World, job: LiveJob) -> int | None:
    """The time limit counts from when a job runs; one that is getting ready is taken to run from now."""
    match job.record.state:
        case JobState.RUNNING:
            ends_ns = job.limit_deadline_ns
        case JobState.STOPPING:
            ends_ns = world.ns
        case _:
            ends_ns = world.ns + nanoseconds(job.record.spec.time_limit_s)
    return ends_ns if ends_ns < NEVER else None


def _stands(world: World, placement: Placement) -> bool:
    """Whether the plan is still right: the job waits, and every slot is free in the domain."""
    if placement.job_id not in world.queue:
        return False
    return all(world.pool.has(placement.domain, volunteer_id, slot) for volunteer_id, slot in placement.slots)
