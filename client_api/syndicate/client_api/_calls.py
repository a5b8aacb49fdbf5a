"""The calls of ChaosControl as values: request, and how to read the answer. Shared by sync and aio."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message
from syndicate.client_api._results import (
    ClockBound,
    Disconnected,
    Finished,
    Killed,
    MemberApplied,
    MemberState,
    Outcome,
    Pong,
    Reconnected,
    Revived,
    Role,
    Stamp,
    TaskState,
)
from syndicate.v1 import chaos_pb2, common_pb2

T = TypeVar("T")

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


def kill(request_id: str, ip: str | Sequence[str]) -> Call[Killed]:
    """Kill, as a call. Raises ValueError where no address is named; so do the next three."""

    def read(answer: chaos_pb2.KillResponse, _: Exchange) -> Killed:
        return Killed(**_held(answer), processes=answer.processes)

    return Call("Kill", chaos_pb2.KillRequest(request_id=request_id, **_at(ip)), read)


def revive(request_id: str, ip: str | Sequence[str], with_disk: bool | None) -> Call[Revived]:
    """Revive, as a call; ``with_disk`` None stays unset on the wire."""

    def read(answer: chaos_pb2.ReviveResponse, _: Exchange) -> Revived:
        return Revived(**_held(answer), generation=answer.generation)

    request = chaos_pb2.ReviveRequest(request_id=request_id, with_disk=with_disk, **_at(ip))
    return Call("Revive", request, read)


def disconnect(request_id: str, ip: str | Sequence[str]) -> Call[Disconnected]:
    """Disconnect, as a call."""

    def read(answer: chaos_pb2.DisconnectResponse, _: Exchange) -> Disconnected:
        return Disconnected(**_held(answer))

    return Call("Disconnect", chaos_pb2.DisconnectRequest(request_id=request_id, **_at(ip)), read)


def reconnect(request_id: str, ip: str | Sequence[str]) -> Call[Reconnected]:
    """Reconnect, as a call."""

    def read(answer: chaos_pb2.ReconnectResponse, _: Exchange) -> Reconnected:
        return Reconnected(**_held(answer))

    return Call("Reconnect", chaos_pb2.ReconnectRequest(request_id=request_id, **_at(ip)), read)


def _at(ip: str | Sequence[str]) -> dict[str, Any]:
    """The fields of a request that name its members."""
    if isinstance(ip, str):
        return {"ip": ip}
    if not ip:
        raise ValueError("no address is named")
    return {"ips": list(ip)}


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
    )


def _bounded(text: str) -> str:
    """Cuts a text to what the manager takes: a long report must not cost the client its result."""
    data = text.encode(errors="replace")
    if len(data) <= MAX_TEXT_BYTES:
        return data.decode()
    note = f"\n… ({len(data)} bytes in all, cut here)"
    return data[: MAX_TEXT_BYTES - len(note.encode())].decode(errors="ignore") + note
