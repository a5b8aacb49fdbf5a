"""Between the protos and the core's values.

Numbers of enums are the same on both sides (a test holds them together). What comes from outside may hold a
number that this version does not know: that is the caller's error, told by the field's name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final, TypeVar

from syndicate.v1 import chaos_pb2, common_pb2, registry_pb2, scheduler_pb2

from ..core import effects, model
from ..core.errors import BadRequest
from ..core.records import FaultRecord, JobRecord, RunRecord, StoryRecord, TaskRecord
from ..core.views import JobView, NodeView

E = TypeVar("E", bound=IntEnum)
R = TypeVar("R")
M = TypeVar("M")

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_NAME: Final = re.compile(r"[a-z0-9-]{1,63}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
# A client's report, `Result.text`.
MAX_RESULT_TEXT_BYTES: Final = 64 << 10
MAX_RESULT_METRICS: Final = 1000
MAX_METRIC_NAME: Final = 100

_NETWORK: Final = {
    registry_pb2.NETWORK_KIND_FABRIC: "fabric",
    registry_pb2.NETWORK_KIND_HOST: "host",
}


# ---- what comes in --------------------------------------------------------------------------------------


def known(kind: type[E], number: int, field: str) -> E:
    """The core's word for an enum's number. Raises BadRequest (BAD_FIELD) for unset and unknown ones."""
    try:
        return kind(number)
    except ValueError:
        raise BadRequest("BAD_FIELD", f"{field} has the value {number}, which means nothing here") from None


def request_id(text: str) -> str:
    """A request id as it should be. Raises BadRequest (BAD_FIELD)."""
    if _UUID.fullmatch(text) is None:
        raise BadRequest("BAD_FIELD", f"request_id is {text[:64]!r}, not a UUID")
    return text


def digest(text: str, field: str) -> str:
    """A SHA-256 as it should be. Raises BadRequest (BAD_FIELD)."""
    if _DIGEST.fullmatch(text) is None:
        raise BadRequest("BAD_FIELD", f"{field} is not a SHA-256 of 64 lower-case hexadecimal digits")
    return text


def name(text: str, field: str) -> str:
    """A name as it should be. Raises BadRequest (BAD_FIELD)."""
    if _NAME.fullmatch(text) is None:
        raise BadRequest("BAD_FIELD", f"{field} is {text[:64]!r}, which does not match [a-z0-9-]{{1,63}}")
    return text


def stamp_in(pb: common_pb2.Stamp) -> model.Stamp:
    """A stamp."""
    return model.Stamp(pb.boot_id, pb.monotonic_ns, pb.utc_ns)


def ref_in(pb: common_pb2.TaskRef) -> model.TaskRef:
    """A task's name."""
    return model.TaskRef(pb.cluster_id, pb.job_id, pb.attempt, pb.task, pb.generation)


def exit_in(pb: common_pb2.TaskExit) -> model.TaskExit:
    """How a task ended."""
    reason = known(model.Reason, pb.reason, "exit.reason")
    return model.TaskExit(reason, pb.exit_status, pb.recipe_status, pb.detail)


def result_in(pb: common_pb2.Result) -> model.Result:
    """What a client found; no outcome stands for a pass."""
    if len(pb.text.encode()) > MAX_RESULT_TEXT_BYTES:
        raise BadRequest("BAD_FIELD", f"result.text is longer than {MAX_RESULT_TEXT_BYTES:,} bytes")
    if len(pb.metrics) > MAX_RESULT_METRICS:
        raise BadRequest("BAD_FIELD", f"result.metrics has more than {MAX_RESULT_METRICS:,} entries")
    if any(not (0 < len(name) <= MAX_METRIC_NAME and name.isprintable()) for name in pb.metrics):
        raise BadRequest("BAD_FIELD", f"a metric's name has 1 to {MAX_METRIC_NAME} printable characters")
    outcome = pb.outcome or common_pb2.OUTCOME_PASS
    return model.Result(
        outcome=known(model.Outcome, outcome, "result.outcome"),
        score=pb.score if pb.HasField("score") else None,
        metrics=tuple(sorted(pb.metrics.items())),
        text=pb.text,
    )


def resources_in(pb: common_pb2.Resources) -> model.Resources:
    """What a machine has."""
    return model.Resources(pb.cpus, pb.memory_bytes, pb.disk_bytes)


def hello_in(pb: registry_pb2.Hello) -> model.Hello:
    """What a volunteer says of itself. Raises BadRequest (BAD_FIELD)."""
    if not pb.boot_id:
        raise BadRequest("BAD_FIELD", "hello.boot_id is empty")
    if pb.network not in _NETWORK:
        raise BadRequest("BAD_FIELD", f"hello.network has the value {pb.network}, which means nothing here")
    numbers = [slot.slot for slot in pb.slots]
    if len(set(numbers)) != len(numbers) or min(numbers, default=0) < 0:
        raise BadRequest("BAD_FIELD", "hello.slots has a number twice, or a negative one")
    return model.Hello(
        volunteer_id=name(pb.volunteer_id, "hello.volunteer_id"),
        boot_id=pb.boot_id,
        slots=tuple((slot.slot, slot.fixed_address) for slot in pb.slots),
        resources=resources_in(pb.resources),
        host_address=pb.host_address,
        prefix=pb.prefix,
        capabilities=tuple(pb.capabilities),
        held=tuple(_held_in(held) for held in pb.held),
        highest_epoch=pb.highest_epoch,
        cluster_id=pb.cluster_id,
        network=_NETWORK[pb.network],
        reach_domain=pb.reach_domain,
        version=pb.version,
    )


def _held_in(pb: registry_pb2.HeldTask) -> model.HeldTask:
    return model.HeldTask(
        ref=ref_in(pb.task),
        slot=pb.slot,
        address=pb.address,
        state=known(model.TaskState, pb.state, "hello.held.state"),
        exit=exit_in(pb.exit) if pb.HasField("exit") else None,
    )


# ---- what goes out: values ------------------------------------------------------------------------------


def number(word: IntEnum) -> Any:
    """An enum's number; Any, since the stubs give the numbers of each enum a type of their own."""
    return int(word)


def stamp_out(stamp: model.Stamp | None) -> common_pb2.Stamp | None:
    """A stamp; None stays unset."""
    if stamp is None:
        return None
    return common_pb2.Stamp(boot_id=stamp.boot_id, monotonic_ns=stamp.monotonic_ns, utc_ns=stamp.utc_ns)


def clock_out(bound: model.ClockBound | None) -> common_pb2.ClockBound | None:
    """A clock bound; None stays unset."""
    if bound is None:
        return None
    return common_pb2.ClockBound(boot_id=bound.boot_id, offset_ns=bound.offset_ns, error_ns=bound.error_ns)


def ref_out(ref: model.TaskRef) -> common_pb2.TaskRef:
    """A task's name."""
    return common_pb2.TaskRef(
        cluster_id=ref.cluster_id,
        job_id=ref.job_id,
        attempt=ref.attempt,
        task=ref.task,
        generation=ref.generation,
    )


def source_out(source: model.Source) -> registry_pb2.SourceRef:
    """A source's name."""
    return registry_pb2.SourceRef(sha256=source.sha256, size=source.size)


def exit_out(end: model.TaskExit | None) -> common_pb2.TaskExit | None:
    """How a task ended; None stays unset."""
    if end is None:
        return None
    return common_pb2.TaskExit(
        reason=number(end.reason),
        exit_status=end.exit_status,
        recipe_status=end.recipe_status,
        detail=end.detail,
    )


def result_out(result: model.Result | None) -> common_pb2.Result | None:
    """What a client found; None stays unset."""
    if result is None:
        return None
    return common_pb2.Result(
        outcome=number(result.outcome), score=result.score, metrics=dict(result.metrics), text=result.text
    )


def resources_out(resources: model.Resources) -> common_pb2.Resources:
    """What a machine has."""
    return common_pb2.Resources(
        cpus=resources.cpus, memory_bytes=resources.memory_bytes, disk_bytes=resources.disk_bytes
    )


def member_out(member: model.Member) -> common_pb2.Member:
    """A member of a job."""
    return common_pb2.Member(task=member.task, role=number(member.role), address=member.address)


# ---- what goes out: commands ----------------------------------------------------------------------------


def command_out(command: effects.Command) -> registry_pb2.Command:
    """A command to a volunteer."""
    pb = registry_pb2.Command(
        command_id=command.command_id, epoch=command.epoch, task=ref_out(command.ref), slot=command.slot
    )
    match command.action:
        case effects.Reserve(ttl_s):
            pb.reserve.ttl_ms = int(ttl_s * 1000)
        case effects.Prepare() as prepare:
            pb.prepare.CopyFrom(_prepare_out(prepare))
        case effects.Start():
            pb.start.SetInParent()
        case effects.Kill():
            pb.kill.SetInParent()
        case effects.Revive(with_disk):
            pb.revive.SetInParent()
            pb.revive.with_disk = with_disk
        case effects.SetNetwork(cut):
            pb.set_network.SetInParent()
            pb.set_network.cut.extend(cut)
        case effects.Release():
            pb.release.SetInParent()
    return pb


def _prepare_out(prepare: effects.Prepare) -> registry_pb2.Prepare:
    limits = prepare.limits
    return registry_pb2.Prepare(
        source=source_out(prepare.source),
        role=number(prepare.role),
        members=[member_out(m) for m in prepare.members],
        limits=registry_pb2.Limits(
            disk_bytes=limits.disk_bytes,
            disk_inodes=limits.disk_inodes,
            log_head_bytes=limits.log_head_bytes,
            log_tail_bytes=limits.log_tail_bytes,
            memory_bytes=limits.memory_bytes,
            pids=limits.pids,
        ),
        job_name=prepare.job_name,
    )


# ---- what goes out: pictures ----------------------------------------------------------------------------


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
    )


def job_head_out(job: JobRecord) -> scheduler_pb2.Job:
    """A job as lists show it."""
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
    )


def waiting_out(view: JobView, pb: scheduler_pb2.Job) -> None:
    """Add what a waiting job waits for."""
    pb.queue_place = view.queue_place
    pb.queue_length = view.queue_length
    pb.waits_for = view.waits_for


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


def job_out(view: JobView, cluster_id: str, drawn: Drawn | None = None) -> scheduler_pb2.Job:
    """A job whole."""
    drawn = drawn or Drawn()
    pb = job_head_out(view.job)
    waiting_out(view, pb)
    runs: dict[str, list[RunRecord]] = {}
    for run in view.runs:
        runs.setdefault(run.task, []).append(run)
    pb.tasks.extend(task_out(task, runs.get(task.task, []), cluster_id) for task in view.tasks)
    pb.faults.extend(drawn.get(fault, fault_out) for fault in view.faults)
    # The first line is derived for each picture afresh; the others are the job's own.
    pb.story.extend(
        drawn.get(line, story_out) if place else story_out(line) for place, line in enumerate(view.story)
    )
    return pb


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
        slots.append(scheduler_pb2.NodeSlot(slot=slot, job_id=job_id, task=task))
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
    )


def applied_out(reply: effects.FaultReply) -> chaos_pb2.FaultApplied:
    """What became of a fault."""
    return chaos_pb2.FaultApplied(
        fault_id=reply.fault_id,
        already=reply.already,
        applied_at=stamp_out(reply.applied_at),
        clock=clock_out(reply.clock),
    )
