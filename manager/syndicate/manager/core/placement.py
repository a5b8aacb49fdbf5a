"""Which waiting job gets which slots: a pure function of a snapshot.

Jobs have their turn in the order of the snapshot. The first that does not fit is the head: it is promised the
earliest time at which the limits of running jobs let it start (its shadow). A later job may pass it only
where that cannot delay it: in another domain, or over before the shadow, or on slots that the head leaves
over. (EASY backfill: Lifka, "The ANL/IBM SP scheduling system", 1995.) A head that no end of a running job
can help, for instance because a machine is away, is promised nothing and holds nobody up; the next one that
does not fit is the head then.

Inside a domain a gang is packed: onto one volunteer where it fits, else onto as few as can be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .snapshot import Placement, Running, Shadow, Snapshot, Waiting


def plan(snapshot: Snapshot, now_ns: int) -> list[Placement]:
    """The jobs that can start now, in order, each with its slots; no slot is given twice."""
    slots: dict[str, dict[str, list[int]]] = {}
    for node in snapshot.free:
        slots.setdefault(node.domain, {})[node.volunteer_id] = sorted(node.slots)
    counts = {domain: sum(map(len, nodes.values())) for domain, nodes in slots.items()}
    running = list(snapshot.running)
    placements: list[Placement] = []
    shadow: Shadow | None = None
    for job in snapshot.waiting:
        if not any(counts.values()):
            break
        candidates = {
            domain: count
            for domain, count in counts.items()
            if count >= job.slots and _may_use(job, domain, shadow, now_ns)
        }
        if not candidates:
            if shadow is None:
                shadow = shadow_of(counts, running, job.slots, now_ns)
            continue
        # The tightest domain, so that larger gangs keep the roomier ones.
        domain = min(candidates, key=lambda name: (candidates[name], name))
        placements.append(Placement(job.job_id, domain, _take(slots[domain], job.slots)))
        counts[domain] -= job.slots
        running.append(Running(job.job_id, domain, job.slots, now_ns + job.limit_ns))
        if shadow is not None and domain == shadow.domain and now_ns + job.limit_ns > shadow.at_ns:
            shadow = Shadow(shadow.at_ns, domain, shadow.extra - job.slots, shadow.job_id)
    return placements


def shadow_of(free: Mapping[str, int], running: Iterable[Running], need: int, now_ns: int) -> Shadow | None:
    """When `need` slots are surely free in one domain at the latest; None where no end of a job helps.

    `free` counts the free slots of each domain. A job that should have ended already is taken to end now.
    """
    ends: dict[str, list[tuple[int, int, int]]] = {}
    for job in running:
        if job.ends_ns is not None:
            ends.setdefault(job.domain, []).append((max(job.ends_ns, now_ns), job.job_id, job.slots))
    best: Shadow | None = None
    for domain in sorted(ends):
        found = _shadow_in(domain, free.get(domain, 0), sorted(ends[domain]), need)
        if found is not None and (best is None or found.at_ns < best.at_ns):
            best = found
    return best


def _shadow_in(domain: str, free: int, ends: list[tuple[int, int, int]], need: int) -> Shadow | None:
    at_ns: int | None = None
    last = 0
    for end_ns, job_id, slots in ends:
        if at_ns is not None and end_ns > at_ns:
            break  # everything that ends at the same instant counts
        free += slots
        if at_ns is None and free >= need:
            at_ns, last = end_ns, job_id
    return None if at_ns is None else Shadow(at_ns, domain, free - need, last)


def _may_use(job: Waiting, domain: str, shadow: Shadow | None, now_ns: int) -> bool:
    if shadow is None or domain != shadow.domain:
        return True
    return now_ns + job.limit_ns <= shadow.at_ns or job.slots <= shadow.extra


def _take(nodes: dict[str, list[int]], need: int) -> tuple[tuple[str, int], ...]:
    """Takes `need` slots out of the nodes of one domain, fullest use of few volunteers first."""
    taken: list[tuple[str, int]] = []
    for roomiest in sorted(nodes, key=lambda name: (-len(nodes[name]), name)):
        name = roomiest
        if len(nodes[roomiest]) >= need:
            # The smallest volunteer that holds all the rest.
            name = min((n for n in nodes if len(nodes[n]) >= need), key=lambda n: (len(nodes[n]), n))
        part = nodes[name][:need]
        nodes[name] = nodes[name][need:]
        if not nodes[name]:
            del nodes[name]
        taken += [(name, slot) for slot in part]
        need -= len(part)
        if need == 0:
            break
    return tuple(taken)
