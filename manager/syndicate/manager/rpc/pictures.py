"""Pictures of jobs and volunteers, as users are shown them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

from syndicate.v1 import common_pb2, scheduler_pb2

from ..core import model
from ..core.records import FaultRecord, JobRecord, RunRecord, StoryRecord, TaskRecord
from ..core.views import JobView, NodeView
from .convert import (
    clock_out,
    degradation_out,
    exit_out,
    limits_out,
    number,
    ref_out,
    resources_out,
    result_out,
    stamp_out,
)

R = TypeVar("R")
M = TypeVar("M")

# Of one picture of a job: a thousand clients may say 128 KiB each.
MAX_SHOWN_RESULTS_BYTES: Final = 16 << 20
# Lines of a job that are drawn at a time: a few milliseconds of the loop.
SLICE_LINES: Final = 250


def spec_out(spec: model.JobSpec) -> scheduler_pb2.JobSpec:
    """What a job runs, with the defaults filled in."""
    return scheduler_pb2.JobSpec(
        name=spec.name,
        source_sha256=spec.source.sha256,
        machines=spec.machines,
        client_sha256=spec.client.sha256 if spec.client else "",
        clients=spec.clients,
        time_limit_s=spec.time_limit_s,
        no_client=spec.client is None,
        limits=limits_out(spec.limits),
        keep_disks=spec.keep_disks,
        replay_of=spec.replay_of,
        lose_unsynced=spec.lose_unsynced,
        sync_server=spec.sync_server,
    )


def job_head_out(job: JobRecord) -> scheduler_pb2.Job:
    """A job without its tasks, faults and story."""
    return scheduler_pb2.Job(
        job_id=job.job_id,
        spec=spec_out(job.spec),
        owner=job.owner,
        state=number(job.state),
        attempt=job.attempt,
        reason=number(job.reason),
        detail=job.detail,
        result=result_out(job.result),
        submitted_at=stamp_out(job.submitted_at),
        reserved_at=stamp_out(job.reserved_at),
        started_at=stamp_out(job.started_at),
        ended_at=stamp_out(job.ended_at),
        gang_start_ns=job.gang_start_ns,
        published=job.published,
        team=job.team,
    )


def job_row_out(job: JobRecord) -> scheduler_pb2.Job:
    """A job as lists show it: what its clients had to say at length is left out too."""
    pb = job_head_out(job)
    if pb.HasField("result"):
        pb.result.ClearField("text")
        pb.result.ClearField("metrics")
    return pb


def waiting_out(view: JobView, pb: scheduler_pb2.Job) -> None:
    """Add a waiting job's place; what it waits for is told by who asks (`viewing.wait_text`)."""
    pb.queue_place = view.queue_place
    pb.queue_length = view.queue_length


class Drawn:
    """Messages made of records before, for who draws the same job again and again.

    A record is never changed, only replaced, so the same object has the same message.
    """

    def __init__(self) -> None:
        self._of: dict[int, tuple[object, Any]] = {}

    def get(self, record: R, draw: Callable[[R], M]) -> M:
        """The record's message, made at most once. The record is kept, so that its id stays its own."""
        found = self._of.get(id(record))
        if found is None:
            found = self._of[id(record)] = (record, draw(record))
        message: M = found[1]
        return message


def draw_ahead(view: JobView, drawn: Drawn) -> Iterator[None]:
    """Draws a job's lines slice by slice, so that others can be served between two of them."""
    for at in range(0, len(view.faults), SLICE_LINES):
        for fault in view.faults[at : at + SLICE_LINES]:
            drawn.get(fault, fault_out)
        yield
    for at in range(1, len(view.story), SLICE_LINES):  # the first is derived for each picture afresh
        for line in view.story[at : at + SLICE_LINES]:
            drawn.get(line, story_out)
        yield


def job_out(
    view: JobView, cluster_id: str, drawn: Drawn | None = None, into: scheduler_pb2.Job | None = None
) -> scheduler_pb2.Job:
    """A job whole; put into an empty message where one is given, since to copy a large one takes a while."""
    drawn = drawn or Drawn()
    pb = scheduler_pb2.Job() if into is None else into
    pb.MergeFrom(job_head_out(view.job))
    waiting_out(view, pb)
    runs: dict[str, list[RunRecord]] = {}
    for run in view.runs:
        runs.setdefault(run.task, []).append(run)
    pb.tasks.extend(task_out(task, runs.get(task.task, []), cluster_id) for task in view.tasks)
    _bound_results(pb.tasks)
    pb.faults.extend(drawn.get(fault, fault_out) for fault in view.faults)
    # The first line is derived for each picture afresh; the others are the job's own.
    pb.story.extend(
        drawn.get(line, story_out) if place else story_out(line) for place, line in enumerate(view.story)
    )
    return pb


def _bound_results(tasks: Iterable[scheduler_pb2.Task]) -> None:
    """Leave out what clients say at length, of those for whom there is no room in one answer."""
    left = MAX_SHOWN_RESULTS_BYTES
    for task in tasks:
        if task.HasField("result"):
            size = task.result.ByteSize()
            if size <= left:
                left -= size
            else:
                task.result.text = "(left out here: this job's clients say too much for one answer)"
                task.result.ClearField("metrics")


def task_out(task: TaskRecord, runs: list[RunRecord], cluster_id: str) -> scheduler_pb2.Task:
    """A task with its runs."""
    ref = model.TaskRef(cluster_id, task.job_id, task.attempt, task.task, task.generation)
    return scheduler_pb2.Task(
        ref=ref_out(ref),
        role=number(task.role),
        address=task.address,
        volunteer_id=task.volunteer_id,
        slot=task.slot,
        state=number(task.state),
        exit=exit_out(task.exit),
        runs=[
            scheduler_pb2.TaskRun(
                generation=run.generation,
                started_at=stamp_out(run.started_at),
                ended_at=stamp_out(run.ended_at),
                exit=exit_out(run.exit),
            )
            for run in runs
        ],
        result=result_out(task.result),
        finished_at=stamp_out(task.finished_at),
    )


def fault_out(fault: FaultRecord) -> common_pb2.Fault:
    """A line of the ledger."""
    return common_pb2.Fault(
        fault_id=fault.fault_id,
        kind=number(fault.kind),
        task=fault.task,
        requested_by=fault.requested_by,
        with_disk=fault.with_disk,
        processes=fault.processes,
        generation=fault.generation,
        requested_at=stamp_out(fault.requested_at),
        applied_at=stamp_out(fault.applied_at),
        applied_at_manager=stamp_out(fault.applied_at_manager),
        applied_error_ns=fault.applied_error_ns,
        duration_ns=fault.duration_ns,
        error=fault.error,
        call_id=fault.call_id,
        lease_s=fault.lease_s,
        healed_at_manager=stamp_out(fault.healed_at_manager),
        healed_error_ns=fault.healed_error_ns,
        healed_by=fault.healed_by,
        cut_out=fault.cut_out,
        cut_in=fault.cut_in,
        degradation=degradation_out(fault.degradation),
        peers=fault.peers,
        one_way=fault.one_way,
        signal=fault.signal,
        shape=fault.shape,
        seed=fault.seed,
        text=fault.text,
    )


def story_out(line: StoryRecord) -> scheduler_pb2.StoryLine:
    """A line of the story."""
    return scheduler_pb2.StoryLine(
        at=stamp_out(line.at), task=line.task, event=line.event, text=line.text, attempt=line.attempt
    )


def node_out(node: NodeView) -> scheduler_pb2.Node:
    """A volunteer with its slots."""
    record = node.record
    busy = {slot: (job_id, task) for slot, job_id, task in node.busy}
    slots = []
    for slot, _address in record.slots:
        job_id, task = busy.get(slot, (0, ""))
        slots.append(scheduler_pb2.NodeSlot(slot=slot, job_id=job_id, task=task, busy=slot in busy))
    return scheduler_pb2.Node(
        volunteer_id=record.volunteer_id,
        state=number(node.state),
        slots=slots,
        total=resources_out(record.resources),
        free=resources_out(node.free),
        network=record.network,
        prefix=record.prefix,
        capabilities=record.capabilities,
        clock=clock_out(node.clock),
        last_heard_at=stamp_out(node.last_heard_at or record.last_seen_at),
        version=record.version,
        boot_id=record.boot_id,
        unsafe=record.unsafe,
        cannot=[common_pb2.Incapability(capability=name, why=why) for name, why in record.cannot],
    )
