"""Pictures of the machine for readers; made when they are asked for."""

from __future__ import annotations

from collections.abc import Iterable

from . import ledger, nodes, scheduler
from .admission import capacity
from .model import JobState
from .records import FaultRecord, JobRecord, RunRecord, StoryRecord, TaskRecord
from .state import LiveJob, Node
from .story import queued_line
from .views import ClusterView, JobView, NodeView
from .world import World


def picture(
    job: JobRecord,
    tasks: Iterable[TaskRecord] = (),
    runs: Iterable[RunRecord] = (),
    faults: Iterable[FaultRecord] = (),
    story: Iterable[StoryRecord] = (),
) -> JobView:
    """A job from its rows, of whichever attempts: the picture that the store makes of jobs long ended."""
    attempt = job.attempt
    return JobView(
        job,
        tuple(sorted((t for t in tasks if t.attempt == attempt), key=lambda t: t.task)),
        tuple(sorted((r for r in runs if r.attempt == attempt), key=lambda r: (r.task, r.generation))),
        tuple(sorted((f for f in faults if f.attempt == attempt), key=lambda f: f.fault_id)),
        (queued_line(job), *sorted(story, key=lambda line: line.sequence)),
    )


def job_whole(world: World, job: LiveJob) -> JobView:
    """A job with everything; its place in the queue and what it waits for, while it does."""
    view = picture(
        job.record,
        [task.record for task in job.tasks.values()],
        [run for task in job.tasks.values() for run in task.runs.values()],
        job.faults.values(),
        job.story,
    )
    if job.record.state is not JobState.QUEUED:
        return view
    place = world.queue.place(job.record.job_id)
    return JobView(
        view.job,
        view.tasks,
        view.runs,
        view.faults,
        view.story,
        place,
        len(world.queue),
        scheduler.waits_for(world, job),
    )


def node_view(world: World, node: Node) -> NodeView:
    """A volunteer as it stands."""
    busy = tuple(
        (slot.number, slot.ref.job_id, slot.ref.task)
        for _, slot in sorted(node.slots.items())
        if slot.ref is not None
    )
    clock = ledger.clock_of(world, node)
    return NodeView(
        node.record, nodes.state_of(node), busy, node.free, clock, node.heard if node.seen else None
    )


def cluster(world: World) -> ClusterView:
    """The cluster in numbers; slots are those of volunteers that are attached, drained ones those of any."""
    slots = sum(len(node.record.slots) for node in world.nodes.values() if world.usable(node))
    drained = sum(number for _, number in capacity(world).values())
    return ClusterView(slots, world.pool.total, drained, len(world.queue), len(world.active))
