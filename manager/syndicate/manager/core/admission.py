"""Whether a job may wait at all: its fields are right, and the cluster could ever run it."""

from __future__ import annotations

from . import quota, replay
from .access import is_default
from .errors import BadRequest, Exhausted, Refused
from .events import SubmitJob
from .limits import LOSING, granted, why_not_losing
from .model import NO_SYNC, JobSpec, JobState, Limits, Source
from .names import is_name
from .records import JobRecord
from .state import LiveJob, Replay
from .stopping import enqueue
from .words import count
from .world import World

MOST_KEPT_DISKS = 64
"""Tasks of a job whose disks are kept: they are all packed and sent at the job's end."""
LEAST_LOSING_DISK = 4 << 20  # less holds no journal


def submitted(world: World, event: SubmitJob) -> int:
    """Queues a job and returns its id; the first answer where the request is repeated.

    Raises BadRequest, Refused (TOO_LARGE, NO_SLOTS, JOB_NOT_ENDED, NOTHING_TO_REPLAY) or Exhausted
    (QUEUE_FULL, QUOTA_…).
    """
    if event.request_id and (known := world.submits.get(event.request_id)) is not None:
        first, owner = known
        if owner != event.owner:
            raise _bad("request_id", "was used by somebody else")
        return first
    job_id = world.next_job_id
    spec = check(world, event)
    planned = () if event.replays is None else replay.plan(event.replays, job_id)
    world.next_job_id += 1
    request_id = event.request_id or f"job-{job_id}"
    team = _team_of(world, event.owner)
    origin, now = event.origin, world.now
    submitter = None if origin is None else (origin.caller.name, origin.caller.token_id, origin.peer)
    record = JobRecord(
        *(job_id, request_id, event.owner, spec, JobState.QUEUED, 1, now, now), team=team, submitter=submitter
    )
    job = world.jobs[job_id] = LiveJob(record)
    world.save_job(job, record)
    if planned:
        job.replay = Replay({})
        for call in planned:
            world.save_plan(job.replay, call)
    world.submits[request_id] = (job_id, event.owner)
    enqueue(world, job)
    quota.spend(world, event.owner, team, world.ns)
    world.plan_new.append(job_id)
    world.audit_submit(record)
    return job_id


def check(world: World, event: SubmitJob) -> JobSpec:
    """What the job would be, with the defaults filled in. Changes nothing, and raises as `submitted` does."""
    spec = _spec_of(world, replay.filled(event), world.next_job_id)
    if len(world.queue) >= world.config.max_queued:
        raise Exhausted("QUEUE_FULL", f"{count(len(world.queue), 'job')} wait already; try again later")
    quota.check(world, event.owner, _team_of(world, event.owner), spec.slots)
    _require_room(world, spec)
    return spec


def _team_of(world: World, owner: str) -> str:
    user = world.users.get(owner)
    return "" if user is None else user.team


def capacity(world: World) -> dict[str, tuple[int, int]]:
    """Slots of each domain as (usable, drained). Volunteers that are away count: they return.

    Those of volunteers that may not be used, since their isolation lacks something, count as neither.
    """
    if not world.capacity_known:
        found: dict[str, tuple[int, int]] = {}
        for _, node in sorted(world.nodes.items()):
            domain, slots = node.record.reach_domain, 0 if world.barred(node) else len(node.record.slots)
            usable, drained = found.get(domain, (0, 0))
            found[domain] = (usable, drained + slots) if node.record.drained else (usable + slots, drained)
        world.capacity, world.capacity_known = found, True
    return world.capacity


def _spec_of(world: World, event: SubmitJob, job_id: int) -> JobSpec:
    config = world.config
    name = event.name or f"job-{job_id}"
    if not is_name(name):
        raise _bad("name", "must be of a to z, 0 to 9 and '-', 1 to 63 of them")
    if event.machines < 1:
        raise _bad("machines", f"must be at least 1, not {event.machines}")
    limit = event.time_limit_s or config.default_time_limit_s
    if not 0 < limit <= config.max_time_limit_s:  # also refuses what is not a number
        raise _bad(
            "time_limit_s", f"must be above 0 and at most {config.max_time_limit_s:.10g} s, not {limit:.10g}"
        )
    client, clients = _clients_of(world, event)
    bounds = granted(event.limits, config.limits, config.max_limits)
    graded = is_default(client, config.default_client)
    spec = JobSpec(
        name,
        event.source,
        event.machines,
        client,
        clients,
        limit,
        bounds,
        graded,
        sync_server=_sync_server(event.sync_server, event.machines, clients),
        keep_disks=event.keep_disks,
        lose_unsynced=_loses(event),
        replay_of=0 if event.replays is None else event.replays.job.job_id,
    )
    if spec.keep_disks and spec.slots > MOST_KEPT_DISKS:
        tasks = count(spec.slots, "task")
        raise _bad("keep_disks", f"is for jobs of at most {MOST_KEPT_DISKS} tasks: this one has {tasks}")
    if spec.lose_unsynced:
        _require_losing(world, bounds)
    return spec


def _loses(event: SubmitJob) -> bool:
    """A replay's kills are what those were that it replays."""
    return event.lose_unsynced if event.replays is None else event.replays.job.spec.lose_unsynced


def _require_losing(world: World, bounds: Limits) -> None:
    """The job may come to any volunteer that is there and may be used, so each of them must be able to.

    One that is away may never come back; where it does, and its machine is taken, the gang is not started.
    """
    if bounds.disk_bytes < LEAST_LOSING_DISK:
        least = f"{LEAST_LOSING_DISK >> 20} MiB"
        raise _bad("limits.disk_bytes", f"must be at least {least} for a disk that loses what is not synced")
    for name, node in sorted(world.nodes.items()):
        record = node.record
        why = why_not_losing(record)
        if node.session is None or record.drained or world.barred(node) or not why:
            continue
        raise Refused(
            "CANNOT",
            why,
            capability=LOSING,
            volunteer=name,
            hint=f"Drain it (`syndicatectl node drain {name}`), or submit without --lose-unsynced",
        )


def _sync_server(wanted: str, machines: int, clients: int) -> str:
    """The member on whose slot it is: where there are clients the first, which no fault cuts off."""
    if not wanted:
        return "client-0" if clients else "master"
    if wanted == NO_SYNC or wanted == "master":
        return wanted
    role, _, number = wanted.rpartition("-")
    most = {"slave": machines - 1, "client": clients}.get(role)
    if most is None or not (number.isascii() and number.isdecimal() and str(int(number[:9])) == number):
        raise _bad("sync_server", f"must be master, slave-N, client-N or {NO_SYNC}, not {wanted[:63]!r}")
    if int(number) >= most:
        raise _bad("sync_server", f"is {wanted}, and the job has {count(most, role)}")
    return wanted


def _clients_of(world: World, event: SubmitJob) -> tuple[Source | None, int]:
    config = world.config
    if event.clients is not None and event.clients < 0:
        raise _bad("clients", f"must be at least 0, not {event.clients}")
    if event.no_client:
        if event.client is not None or event.clients:
            raise _bad("no_client", "contradicts the client that is given")
        return None, 0
    client = event.client or config.default_client
    clients = event.clients
    if clients is None:
        clients = 1 if event.client is not None else config.default_clients
    if clients and client is None:
        raise _bad("clients", f"{count(clients, 'client')} asked for, but no client's source is given")
    return (client, clients) if clients else (None, 0)


def _require_room(world: World, spec: JobSpec) -> None:
    if spec.slots > world.config.max_slots_per_job:
        largest = world.config.max_slots_per_job - spec.clients
        raise _too_large(
            spec, f"a job has at most {count(world.config.max_slots_per_job, 'slot')}", largest, 0, ""
        )
    domains = capacity(world)
    if not domains:
        raise Refused(
            "NO_SLOTS",
            "the cluster has no volunteer yet",
            hint="Start one: `syndicate-volunteer run`, or `syndicatectl up` for a cluster here",
        )
    most = max(usable for usable, _ in domains.values())
    if spec.slots > most:
        _refuse_size(world, spec, most)


def _refuse_size(world: World, spec: JobSpec, most: int) -> None:
    domains = capacity(world)
    drained = sum(slots for _, slots in domains.values())
    slots = drained + sum(usable for usable, _ in domains.values())
    has = f"the cluster has {count(slots, 'slot')}"
    if drained:
        has += f" ({drained} of them drained)"
    if len(domains) > 1:
        has += f", {most} of them can reach each other"
    if barred := sorted(name for name, node in world.nodes.items() if world.barred(node)):
        shown = ", ".join(barred[:3]) + (", …" if len(barred) > 3 else "")
        has += f", not counting {shown}: unsafe, which this manager does not allow"
    # Resuming is worth a word only in the domain where it makes room for most.
    best = max(sorted(domains), key=lambda domain: sum(domains[domain]))
    resumable = sum(domains[best])
    hint = f"At most -n {most - spec.clients} fits now" if most > spec.clients else "Nothing fits now"
    if resumable > max(most, spec.clients):
        names = sorted(
            name
            for name, node in world.nodes.items()
            if node.record.drained and node.record.reach_domain == best
        )
        hint += f", -n {resumable - spec.clients} after `syndicatectl node resume {' '.join(names[:3])}`"
        if len(names) > 3:
            hint += f" and {len(names) - 3} more"
    if any(world.barred(node) for node in world.nodes.values()):
        hint += "; those of unsafe ones with `syndicate-manager --allow-unsafe`"
    raise _too_large(spec, has, most - spec.clients, slots, hint)


def _too_large(spec: JobSpec, has: str, largest: int, slots: int, hint: str) -> Refused:
    asked = count(spec.machines, "machine")
    if spec.clients:
        asked += f" and {count(spec.clients, 'client')}"
    largest = max(largest, 0)
    return Refused(
        "TOO_LARGE",
        f"{asked} asked for, {has}",
        slots=str(slots),
        largest_machines=str(largest),
        hint=hint or f"At most -n {largest} is allowed",
    )


def _bad(field: str, text: str) -> BadRequest:
    return BadRequest("BAD_FIELD", f"{field} {text}", field=field)
