"""Between the protos and the core's values.

Numbers of enums are the same on both sides (a test holds them together). What comes from outside may hold a
number that this version does not know: that is the caller's error, told by the field's name.
"""

from __future__ import annotations

import functools
import ipaddress
import math
import re
from collections.abc import Sized
from enum import IntEnum
from typing import Any, Final, TypeVar, overload

from syndicate.v1 import chaos_pb2, common_pb2, registry_pb2

from ..core import effects, model
from ..core.errors import BadRequest
from ..core.names import is_name
from .errors import short

E = TypeVar("E", bound=IntEnum)

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_NEED: Final = re.compile(r"[a-z0-9_.-]{1,63}")
_INSTANCE: Final = re.compile(r"[0-9a-f]{0,64}")
# A client's report, `Result.text`.
MAX_RESULT_TEXT_BYTES: Final = 64 << 10
MAX_RESULT_METRICS: Final = 1000
MAX_METRIC_NAME: Final = 100
MAX_METRICS_BYTES: Final = 64 << 10
# What a volunteer says of a task or a fault; it is kept with each, and shown in each picture of the job.
MAX_DETAIL_BYTES: Final = 2000
# Some 146 years: no clock says more, and what is calculated of two such stamps fits into 64 bits.
MAX_STAMP_NS: Final = 1 << 62
# Of a repeated field of a request: as many as the largest job has tasks, and some.
MOST_VALUES: Final = 4096
# Needs that a volunteer's isolation lacks; what it cannot do, and how long it may explain each.
MAX_UNSAFE: Final = 64
MAX_CANNOT: Final = 64
MAX_WHY_BYTES: Final = 500

_NETWORK: Final = {
    registry_pb2.NETWORK_KIND_FABRIC: "fabric",
    registry_pb2.NETWORK_KIND_HOST: "host",
}


# ---- what comes in --------------------------------------------------------------------------------------


def known(kind: type[E], number: int, field: str) -> E:
    """The core's word for an enum's number. Raises BadRequest (BAD_FIELD) for unset and unknown ones."""
    words: dict[int, E] = _words(kind)
    if number not in words:
        raise BadRequest("BAD_FIELD", f"{field} has the value {number}, which means nothing here")
    return words[number]


@functools.cache
def _words(kind: type[E]) -> dict[int, E]:
    """By number: to call the enum takes several times as long where its code has not run for a while."""
    return {int(word): word for word in kind}


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
    if not is_name(text):
        raise BadRequest("BAD_FIELD", f"{field} is {text[:64]!r}, which does not match [a-z0-9-]{{1,63}}")
    return text


def address(text: str, field: str) -> str:
    """An IPv4 address in its usual form, or an empty text. Raises BadRequest (BAD_FIELD)."""
    try:
        if not text or str(ipaddress.IPv4Address(text)) == text:
            return text
    except ValueError:
        pass
    raise BadRequest("BAD_FIELD", f"{field} is {text[:64]!r}, not an IPv4 address")


def stamp_in(pb: common_pb2.Stamp) -> model.Stamp:
    """A stamp of another machine's clocks. Raises BadRequest (BAD_FIELD)."""
    if not (0 <= pb.monotonic_ns <= MAX_STAMP_NS and 0 <= pb.utc_ns <= MAX_STAMP_NS):
        raise BadRequest("BAD_FIELD", f"a stamp has nanoseconds beyond 0 to {MAX_STAMP_NS}")
    return model.Stamp(pb.boot_id, pb.monotonic_ns, pb.utc_ns)


def ref_in(pb: common_pb2.TaskRef) -> model.TaskRef:
    """A task's name."""
    return model.TaskRef(pb.cluster_id, pb.job_id, pb.attempt, pb.task, pb.generation)


def exit_in(pb: common_pb2.TaskExit) -> model.TaskExit:
    """How a task ended."""
    reason = known(model.Reason, pb.reason, "exit.reason")
    # Each once: a volunteer's word is bounded. One that this manager does not know is left out.
    annotations = tuple(each for each in model.Annotation if int(each) in pb.annotations)
    detail = short(pb.detail, MAX_DETAIL_BYTES)
    return model.TaskExit(reason, pb.exit_status, pb.recipe_status, detail, annotations)


def result_in(pb: common_pb2.Result) -> model.Result:
    """What a client found; no outcome stands for a pass."""
    if len(pb.text.encode()) > MAX_RESULT_TEXT_BYTES:
        raise BadRequest("BAD_FIELD", f"result.text is longer than {MAX_RESULT_TEXT_BYTES:,} bytes")
    if len(pb.metrics) > MAX_RESULT_METRICS:
        raise BadRequest("BAD_FIELD", f"result.metrics has more than {MAX_RESULT_METRICS:,} entries")
    if any(not (0 < len(name) <= MAX_METRIC_NAME and name.isprintable()) for name in pb.metrics):
        raise BadRequest("BAD_FIELD", f"a metric's name has 1 to {MAX_METRIC_NAME} printable characters")
    if sum(len(name.encode()) + 8 for name in pb.metrics) > MAX_METRICS_BYTES:
        raise BadRequest("BAD_FIELD", f"result.metrics takes more than {MAX_METRICS_BYTES:,} bytes")
    if math.isnan(pb.score) or any(math.isnan(value) for value in pb.metrics.values()):
        raise BadRequest("BAD_FIELD", "result.score and result.metrics must be numbers, not NaN")
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


def few(values: Sized, field: str) -> None:
    """What a repeated field may hold at most, before each is looked at. Raises BadRequest (BAD_FIELD)."""
    if len(values) > MOST_VALUES:
        text = f"{field} has {len(values):,} values; at most {MOST_VALUES:,}"
        raise BadRequest("BAD_FIELD", text, field=field)


def limits_in(pb: common_pb2.Limits) -> model.Limits:
    """Bounds that a job asks for, 0 where it does not; the core says whether it may."""
    return model.Limits(
        disk_bytes=pb.disk_bytes,
        disk_inodes=pb.disk_inodes,
        log_head_bytes=pb.log_head_bytes,
        log_tail_bytes=pb.log_tail_bytes,
        memory_bytes=pb.memory_bytes,
        pids=pb.pids,
        cpu_millis=pb.cpu_millis,
        open_files=pb.open_files,
        file_bytes=pb.file_bytes,
    )


def hello_in(pb: registry_pb2.Hello) -> model.Hello:
    """What a volunteer says of itself. Raises BadRequest (BAD_FIELD)."""
    if not pb.boot_id:
        raise BadRequest("BAD_FIELD", "hello.boot_id is empty")
    if pb.network not in _NETWORK:
        raise BadRequest("BAD_FIELD", f"hello.network has the value {pb.network}, which means nothing here")
    numbers = [slot.slot for slot in pb.slots]
    if len(set(numbers)) != len(numbers) or min(numbers, default=0) < 0:
        raise BadRequest("BAD_FIELD", "hello.slots has a number twice, or a negative one")
    if len(pb.unsafe) > MAX_UNSAFE or not all(_NEED.fullmatch(need) for need in pb.unsafe):
        raise BadRequest("BAD_FIELD", f"hello.unsafe must be at most {MAX_UNSAFE} names of needs")
    if len(pb.cannot) > MAX_CANNOT or not all(_NEED.fullmatch(one.capability) for one in pb.cannot):
        raise BadRequest("BAD_FIELD", f"hello.cannot must be at most {MAX_CANNOT} capabilities")
    if not _INSTANCE.fullmatch(pb.instance):
        raise BadRequest("BAD_FIELD", "hello.instance must be at most 64 of 0-9, a-f")
    return model.Hello(
        volunteer_id=name(pb.volunteer_id, "hello.volunteer_id"),
        boot_id=pb.boot_id,
        slots=tuple(
            (slot.slot, address(slot.fixed_address, "hello.slots.fixed_address")) for slot in pb.slots
        ),
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
        unsafe=tuple(pb.unsafe),
        instance=pb.instance,
        cannot=tuple((one.capability, short(one.why, MAX_WHY_BYTES)) for one in pb.cannot),
    )


def _held_in(pb: registry_pb2.HeldTask) -> model.HeldTask:
    return model.HeldTask(
        ref=ref_in(pb.task),
        slot=pb.slot,
        address=address(pb.address, "hello.held.address"),
        state=known(model.TaskState, pb.state, "hello.held.state"),
        exit=exit_in(pb.exit) if pb.HasField("exit") else None,
    )


def degradation_in(pb: common_pb2.Degradation) -> model.Degradation:
    """How a network is to be made worse; the core says whether it can be."""
    return model.Degradation(
        loss_percent=pb.loss_percent,
        rate_bps=pb.rate_bps,
        delay_ms=pb.delay_ms,
        jitter_ms=pb.jitter_ms,
        duplicate_percent=pb.duplicate_percent,
        corrupt_percent=pb.corrupt_percent,
        reorder_percent=pb.reorder_percent,
    )


# ---- what goes out: values ------------------------------------------------------------------------------


def number(word: IntEnum) -> Any:
    """An enum's number; Any, since the stubs give the numbers of each enum a type of their own."""
    return int(word)


@overload
def stamp_out(stamp: model.Stamp) -> common_pb2.Stamp: ...


@overload
def stamp_out(stamp: None) -> None: ...


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
        annotations=[number(each) for each in end.annotations],
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


def limits_out(limits: model.Limits) -> common_pb2.Limits:
    """Bounds of a task."""
    return common_pb2.Limits(
        disk_bytes=limits.disk_bytes,
        disk_inodes=limits.disk_inodes,
        log_head_bytes=limits.log_head_bytes,
        log_tail_bytes=limits.log_tail_bytes,
        memory_bytes=limits.memory_bytes,
        pids=limits.pids,
        cpu_millis=limits.cpu_millis,
        open_files=limits.open_files,
        file_bytes=limits.file_bytes,
    )


def member_out(member: model.Member) -> common_pb2.Member:
    """A member of a job."""
    return common_pb2.Member(task=member.task, role=number(member.role), address=member.address)


def degradation_out(worse: model.Degradation | None) -> common_pb2.Degradation | None:
    """How a network is made worse; unset where it is not."""
    if worse is None or worse == model.UNDEGRADED:
        return None
    return common_pb2.Degradation(
        loss_percent=worse.loss_percent,
        rate_bps=worse.rate_bps,
        delay_ms=worse.delay_ms,
        jitter_ms=worse.jitter_ms,
        duplicate_percent=worse.duplicate_percent,
        corrupt_percent=worse.corrupt_percent,
        reorder_percent=worse.reorder_percent,
    )


# ---- what goes out: commands ----------------------------------------------------------------------------


def command_out(command: effects.Command, pb: registry_pb2.Command) -> None:
    """A command to a volunteer, written in its place: to copy a message takes as long as to send it."""
    pb.command_id, pb.epoch, pb.slot = command.command_id, command.epoch, command.slot
    ref, task = command.ref, pb.task
    task.cluster_id, task.job_id, task.attempt = ref.cluster_id, ref.job_id, ref.attempt
    task.task, task.generation = ref.task, ref.generation
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
        case effects.SetNetwork() as network:
            _network_out(network, pb.set_network)
        case effects.SetTask(paused, disk_full):
            pb.set_task.SetInParent()
            pb.set_task.paused, pb.set_task.disk_full = paused, disk_full
        case effects.Signal(signal):
            pb.signal.signal = signal
        case effects.DropBarriers(barrier):
            pb.drop_barriers.SetInParent()
            pb.drop_barriers.barrier = barrier
        case effects.Release(keep_disk):
            pb.release.SetInParent()
            pb.release.keep_disk = keep_disk


def _network_out(network: effects.SetNetwork, pb: registry_pb2.SetNetwork) -> None:
    pb.SetInParent()
    pb.cut.extend(network.cut)
    if network.cut_out or network.cut_in or network.reset or network.links:
        pb.cut_out.extend(network.cut_out)
        pb.cut_in.extend(network.cut_in)
        pb.reset.extend(network.reset)
        pb.links.extend(
            registry_pb2.LinkDegradation(
                peer=link.peer, sent=degradation_out(link.sent), heard=degradation_out(link.heard)
            )
            for link in network.links
        )


def _prepare_out(prepare: effects.Prepare) -> registry_pb2.Prepare:
    return registry_pb2.Prepare(
        source=source_out(prepare.source),
        role=number(prepare.role),
        members=[member_out(m) for m in prepare.members],
        limits=limits_out(prepare.limits),
        job_name=prepare.job_name,
        lose_unsynced=prepare.lose_unsynced,
        sync_server=prepare.sync_server,
        serve_sync=prepare.serve_sync,
    )


# ---- what goes out: answers -----------------------------------------------------------------------------


def applied_out(reply: effects.FaultReply, pb: chaos_pb2.FaultApplied) -> None:
    """What became of a fault, written in its place, as a command is."""
    pb.fault_id, pb.already = reply.fault_id, reply.already
    at, clock = reply.applied_at, reply.clock
    if at is not None:
        stamp = pb.applied_at
        stamp.boot_id, stamp.monotonic_ns, stamp.utc_ns = at.boot_id, at.monotonic_ns, at.utc_ns
    if clock is not None:
        bound = pb.clock
        bound.boot_id, bound.offset_ns, bound.error_ns = clock.boot_id, clock.offset_ns, clock.error_ns
