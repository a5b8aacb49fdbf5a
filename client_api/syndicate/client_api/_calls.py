"""The calls of ChaosControl as values: request, and how to read the answer. Shared by sync and aio."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message
from syndicate.client_api import _units
from syndicate.client_api._results import (
    Applied,
    ClockBound,
    Degradation,
    Degraded,
    Disconnected,
    DiskFilled,
    Fault,
    FaultKind,
    Finished,
    Healed,
    Killed,
    MemberApplied,
    MemberState,
    Outcome,
    Partitioned,
    Paused,
    Pong,
    Reconnected,
    Reset,
    Resumed,
    Revived,
    Role,
    Shape,
    Signalled,
    Stamp,
    TaskState,
)
from syndicate.client_api._units import Duration
from syndicate.v1 import chaos_pb2, common_pb2

T = TypeVar("T")

Whom = str | MemberState | Sequence[str | MemberState]
"""One member or several: their IPv4 addresses, or what ``members`` said of them."""

FAULTS_A_PAGE = 1000
MAX_TEXT_BYTES = 64 * 1024
_BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")
_TO_WIRE = {
    Outcome.PASS: common_pb2.OUTCOME_PASS,
    Outcome.FAIL: common_pb2.OUTCOME_FAIL,
    Outcome.UNKNOWN: common_pb2.OUTCOME_UNKNOWN,
}


@dataclass(frozen=True, slots=True)
class Exchange:
    """When the try that was answered left and came back, in nanoseconds of ``monotonic_now``."""

    sent_ns: int
    received_ns: int


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One call. ``request`` stays the same over all tries, its request_id with it."""

    rpc: str
    request: Message
    read: Callable[[Any, Exchange], T]


def new_id() -> str:
    """A fresh request id."""
    return str(uuid.uuid4())


def monotonic_now() -> int:
    """CLOCK_BOOTTIME in nanoseconds, or the plain monotonic clock where there is none (macOS)."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic_ns() if clock is None else time.clock_gettime_ns(clock)


def own_boot_id() -> str:
    """This machine's boot id, or an empty text where the system has none."""
    try:
        return _BOOT_ID_FILE.read_text().strip()
    except OSError:
        return ""


def kill(request_id: str, ip: Whom) -> Call[Killed]:
    """Kill, as a call. Raises ValueError where no address is named; so do all that take some."""

    def read(answer: chaos_pb2.KillResponse, _: Exchange) -> Killed:
        return Killed(**_held(answer), processes=answer.processes)

    return Call("Kill", chaos_pb2.KillRequest(request_id=request_id, **_at(ip)), read)


def revive(request_id: str, ip: Whom, with_disk: bool | None) -> Call[Revived]:
    """Revive, as a call; ``with_disk`` None stays unset on the wire."""

    def read(answer: chaos_pb2.ReviveResponse, _: Exchange) -> Revived:
        return Revived(**_held(answer), generation=answer.generation)

    request = chaos_pb2.ReviveRequest(request_id=request_id, with_disk=with_disk, **_at(ip))
    return Call("Revive", request, read)


def disconnect(request_id: str, ip: Whom, lease: Duration | None = None) -> Call[Disconnected]:
    """Disconnect, as a call. Raises ValueError for a lease that is none; so do all that have one."""
    request = chaos_pb2.DisconnectRequest(request_id=request_id, lease_s=_units.lease_s(lease), **_at(ip))
    return Call("Disconnect", request, lambda answer, _: Disconnected(**_held(answer)))


def reconnect(request_id: str, ip: Whom) -> Call[Reconnected]:
    """Reconnect, as a call."""
    request = chaos_pb2.ReconnectRequest(request_id=request_id, **_at(ip))
    return Call("Reconnect", request, lambda answer, _: Reconnected(**_held(answer)))


def reset(request_id: str, ip: Whom, lease: Duration | None) -> Call[Reset]:
    """Reset, as a call."""
    request = chaos_pb2.ResetRequest(request_id=request_id, lease_s=_units.lease_s(lease), **_at(ip))
    return Call("Reset", request, lambda answer, _: Reset(**_held(answer)))


def pause(request_id: str, ip: Whom, lease: Duration | None) -> Call[Paused]:
    """Pause, as a call."""
    request = chaos_pb2.PauseRequest(request_id=request_id, lease_s=_units.lease_s(lease), **_at(ip))
    return Call("Pause", request, lambda answer, _: Paused(**_held(answer)))


def resume(request_id: str, ip: Whom) -> Call[Resumed]:
    """Resume, as a call."""
    request = chaos_pb2.ResumeRequest(request_id=request_id, **_at(ip))
    return Call("Resume", request, lambda answer, _: Resumed(**_held(answer)))


def disk_full(request_id: str, ip: Whom, lease: Duration | None) -> Call[DiskFilled]:
    """DiskFull, as a call."""
    request = chaos_pb2.DiskFullRequest(request_id=request_id, lease_s=_units.lease_s(lease), **_at(ip))
    return Call("DiskFull", request, lambda answer, _: DiskFilled(**_held(answer)))


def signal(request_id: str, ip: Whom, number: int | str) -> Call[Signalled]:
    """Signal, as a call. Raises ValueError for a name that is no signal's."""

    def read(answer: chaos_pb2.SignalResponse, _: Exchange) -> Signalled:
        held = _held(answer)
        return Signalled(**held, processes=sum(member.processes for member in held["members"]))

    request = chaos_pb2.SignalRequest(request_id=request_id, signal=_units.signal_number(number), **_at(ip))
    return Call("Signal", request, read)


def partition(
    request_id: str,
    groups: Sequence[Sequence[str | MemberState]] | None,
    shape: Shape | str | None,
    ip: str | MemberState | None,
    one_way: bool,
    seed: int,
    lease: Duration | None,
) -> Call[Partitioned]:
    """Partition, as a call. Raises ValueError for an unknown shape, and without groups and shape."""
    if (groups is None) == (shape is None):
        raise ValueError("a partition has groups, or a shape: one of them is to be given")
    request = chaos_pb2.PartitionRequest(
        request_id=request_id,
        groups=[chaos_pb2.PartitionGroup(ips=[_address(one) for one in group]) for group in groups or ()],
        shape=_shape(shape) if shape is not None else chaos_pb2.PARTITION_SHAPE_UNSPECIFIED,
        ip=_address(ip) if ip is not None else "",
        one_way=one_way,
        seed=seed,
        lease_s=_units.lease_s(lease),
    )

    def read(answer: chaos_pb2.PartitionResponse, _: Exchange) -> Partitioned:
        return Partitioned(**_held(answer), groups=tuple(tuple(group.ips) for group in answer.groups))

    return Call("Partition", request, read)


def _shape(shape: Shape | str) -> chaos_pb2.PartitionShape.ValueType:
    try:
        known = Shape(str(shape).lower().replace("_", "-"))
    except ValueError:
        raise ValueError(f"{shape!r} is no shape: there are {', '.join(Shape)}") from None
    return chaos_pb2.PartitionShape.Value(f"PARTITION_SHAPE_{known.name}")


def degradation(
    *,
    loss: float | str,
    rate: float | str | None,
    delay: Duration,
    jitter: Duration,
    duplicate: float | str,
    corrupt: float | str,
    reorder: float | str,
) -> common_pb2.Degradation:
    """How a network is made worse, as a message. Raises ValueError for what is no number."""
    return common_pb2.Degradation(
        loss_percent=_units.percent(loss, "loss"),
        rate_bps=0 if rate is None else _units.bits_a_second(rate),
        delay_ms=_units.milliseconds(delay, "delay"),
        jitter_ms=_units.milliseconds(jitter, "jitter"),
        duplicate_percent=_units.percent(duplicate, "duplicate"),
        corrupt_percent=_units.percent(corrupt, "corrupt"),
        reorder_percent=_units.percent(reorder, "reorder"),
    )


def degrade(
    request_id: str,
    ip: Whom,
    how: common_pb2.Degradation,
    peers: Sequence[str | MemberState],
    one_way: bool,
    lease: Duration | None,
) -> Call[Degraded]:
    """Degrade, as a call."""
    if isinstance(peers, str):
        peers = (peers,)
    request = chaos_pb2.DegradeRequest(
        request_id=request_id,
        peers=[_address(peer) for peer in peers],
        degradation=how,
        one_way=one_way,
        lease_s=_units.lease_s(lease),
        **_at(ip),
    )
    return Call("Degrade", request, lambda answer, _: Degraded(**_held(answer)))


def heal(request_id: str, fault_ids: Sequence[int]) -> Call[Healed]:
    """Heal, as a call; no ids for everything."""

    def read(answer: chaos_pb2.HealResponse, _: Exchange) -> Healed:
        return Healed(**_held(answer), healed=tuple(answer.healed))

    return Call("Heal", chaos_pb2.HealRequest(request_id=request_id, fault_ids=fault_ids), read)


def undo(request_id: str, held: Applied) -> Call[Healed] | Call[Revived] | None:
    """What takes a fault back that holds: a revival of the killed, else a heal; None for nothing."""
    if isinstance(held, Killed):
        killed = [member.ip for member in held.members if not member.already]
        return revive(request_id, killed, None) if killed else None
    return heal(request_id, held.fault_ids) if held.fault_ids else None


def faults(in_force: bool, page_token: str) -> Call[tuple[tuple[Fault, ...], str]]:
    """ListFaults, as a call: one page, and the token of the next one."""

    def read(answer: chaos_pb2.ListFaultsResponse, _: Exchange) -> tuple[tuple[Fault, ...], str]:
        return tuple(read_fault(fault) for fault in answer.faults), answer.next_page_token

    request = chaos_pb2.ListFaultsRequest(in_force=in_force, page_size=FAULTS_A_PAGE, page_token=page_token)
    return Call("ListFaults", request, read)


def _address(member: str | MemberState) -> str:
    return member if isinstance(member, str) else member.address


def _at(ip: Whom) -> dict[str, Any]:
    """The fields of a request that name its members."""
    if isinstance(ip, (str, MemberState)):
        return {"ip": _address(ip)}
    if not ip:
        raise ValueError("no address is named")
    return {"ips": [_address(one) for one in ip]}


def finish(
    request_id: str,
    outcome: Outcome | str | None,
    score: float | None,
    metrics: Mapping[str, float] | None,
    text: str,
) -> Call[Finished]:
    """Finish, as a call. Raises ValueError for an outcome that there is not, and for a NaN."""
    metrics = metrics or {}
    nameless = ["score"] if score is not None and math.isnan(score) else []
    for name in nameless + [f"metric {name!r}" for name, value in metrics.items() if math.isnan(value)]:
        raise ValueError(f"{name} is not a number (NaN): leave it out, or say what it stands for")
    wire = common_pb2.OUTCOME_UNSPECIFIED if outcome is None else _TO_WIRE[Outcome(outcome)]
    result = common_pb2.Result(outcome=wire, score=score, metrics=metrics, text=_bounded(text))

    def read(answer: chaos_pb2.FinishResponse, _: Exchange) -> Finished:
        return Finished(read_stamp(answer.finished_at), answer.clients_left)

    return Call("Finish", chaos_pb2.FinishRequest(request_id=request_id, result=result), read)


def members() -> Call[tuple[MemberState, ...]]:
    """ListMembers, as a call."""

    def read(answer: chaos_pb2.ListMembersResponse, _: Exchange) -> tuple[MemberState, ...]:
        return tuple(_member(member) for member in answer.members)

    return Call("ListMembers", chaos_pb2.ListMembersRequest(), read)


def ping(boot_id: str) -> Call[Pong]:
    """Ping, as a call, made on the machine with this boot id."""
    return Call("Ping", chaos_pb2.PingRequest(), partial(_pong, boot_id))


def _pong(boot_id: str, answer: chaos_pb2.PingResponse, exchange: Exchange) -> Pong:
    # The manager read its clock somewhere between the two ends: the middle is right to within half of it.
    round_trip = exchange.received_ns - exchange.sent_ns
    middle = exchange.sent_ns + round_trip // 2
    bound = ClockBound(boot_id, middle - answer.manager_at.monotonic_ns, (round_trip + 1) // 2)
    return Pong(round_trip, read_stamp(answer.manager_at), bound)


def read_stamp(stamp: common_pb2.Stamp) -> Stamp:
    """The value of a stamp message."""
    return Stamp(stamp.boot_id, stamp.monotonic_ns, stamp.utc_ns)


def read_fault(wire: common_pb2.Fault) -> Fault:
    """The value of a line of the ledger."""

    def stamp(name: str) -> Stamp | None:
        return read_stamp(getattr(wire, name)) if wire.HasField(name) else None  # type: ignore[arg-type]  # see below

    how = wire.degradation
    return Fault(
        fault_id=wire.fault_id,
        call_id=wire.call_id or wire.fault_id,
        kind=_kind(wire.kind),
        task=wire.task,
        requested_by=wire.requested_by,
        text=wire.text,
        requested_at=read_stamp(wire.requested_at),
        applied_at=stamp("applied_at"),
        applied_at_manager=stamp("applied_at_manager"),
        applied_error_ns=wire.applied_error_ns,
        error=wire.error,
        lease_s=wire.lease_s or None,
        healed_at_manager=stamp("healed_at_manager"),
        healed_error_ns=wire.healed_error_ns,
        healed_by=wire.healed_by,
        cut_out=tuple(wire.cut_out),
        cut_in=tuple(wire.cut_in),
        degradation=Degradation(**{field.name: getattr(how, field.name) for field in how.DESCRIPTOR.fields})
        if wire.HasField("degradation")
        else None,
        peers=tuple(wire.peers),
        one_way=wire.one_way,
        signal=wire.signal,
        shape=wire.shape,
        seed=wire.seed,
        processes=wire.processes,
        generation=wire.generation,
        with_disk=wire.with_disk,
    )


def _kind(kind: common_pb2.FaultKind.ValueType) -> FaultKind:
    try:
        return FaultKind(common_pb2.FaultKind.Name(kind).removeprefix("FAULT_KIND_").lower())
    except ValueError:  # of a newer manager
        return FaultKind.UNSPECIFIED


def _held(answer: Any) -> dict[str, Any]:
    """The fields of Applied."""
    members = tuple(
        MemberApplied(
            member.ip, **_applied(member.applied), processes=member.processes, generation=member.generation
        )
        for member in answer.members
    )
    return {**_applied(answer.applied), "members": members}


def _applied(applied: chaos_pb2.FaultApplied) -> dict[str, Any]:
    clock = applied.clock
    known = applied.HasField("clock")
    return {
        "fault_id": applied.fault_id,
        "already": applied.already,
        "applied_at": read_stamp(applied.applied_at) if applied.HasField("applied_at") else None,
        "clock": ClockBound(clock.boot_id, clock.offset_ns, clock.error_ns) if known else None,
    }


def _member(wire: chaos_pb2.MemberState) -> MemberState:
    return MemberState(
        task=wire.member.task,
        role=Role(common_pb2.Role.Name(wire.member.role).removeprefix("ROLE_").lower()),
        address=wire.member.address,
        state=TaskState(common_pb2.TaskState.Name(wire.state).removeprefix("TASK_STATE_").lower()),
        generation=wire.generation,
        disconnected=wire.disconnected,
        paused=wire.paused,
        faults=tuple(wire.faults),
    )


def _bounded(text: str) -> str:
    """Cuts a text to what the manager takes: a long report must not cost the client its result."""
    data = text.encode(errors="replace")
    if len(data) <= MAX_TEXT_BYTES:
        return data.decode()
    note = f"\n… ({len(data)} bytes in all, cut here)"
    return data[: MAX_TEXT_BYTES - len(note.encode())].decode(errors="ignore") + note
