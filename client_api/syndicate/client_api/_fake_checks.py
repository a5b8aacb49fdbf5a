"""What the fake job refuses, for the reasons that chaos.proto gives, before anything is done."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from syndicate.client_api import _fake_shapes as shapes
from syndicate.client_api._error_table import chaos_error
from syndicate.client_api._errors import ChaosError, Failure, SchedulerError
from syndicate.client_api._results import MemberState, Role, Shape, TaskState
from syndicate.client_api._units import LEAST_LEASE_S, MOST_LEASE_S
from syndicate.v1 import chaos_pb2, common_pb2

MOST_MEMBERS = 1000
MOST_FAULTS_A_PAGE = 10_000
_RESERVED_SIGNALS = (9, 18, 19)
_PERCENTAGES = ("loss_percent", "duplicate_percent", "corrupt_percent", "reorder_percent")
_CODE_OF_REASON = {
    "BAD_FIELD": "INVALID_ARGUMENT",
    "NOT_AN_ADDRESS": "INVALID_ARGUMENT",
    "NO_SUCH_MEMBER": "NOT_FOUND",
    "NO_SUCH_FAULT": "NOT_FOUND",
    "NO_SUCH_HISTORY": "NOT_FOUND",
    "HISTORY_CLOSED": "FAILED_PRECONDITION",
    "HISTORY_TOO_LARGE": "RESOURCE_EXHAUSTED",
    "HISTORIES_MISSING": "DEADLINE_EXCEEDED",
    "TASK_ALIVE": "FAILED_PRECONDITION",
    "TASK_DEAD": "FAILED_PRECONDITION",
    "CANNOT": "FAILED_PRECONDITION",
    "CLIENT_FINISHED": "FAILED_PRECONDITION",
    "JOB_NOT_RUNNING": "FAILED_PRECONDITION",
    "NOT_IN_REPLAY": "FAILED_PRECONDITION",
    "NOT_A_CLIENT": "PERMISSION_DENIED",
    "TOO_MANY_CALLS": "RESOURCE_EXHAUSTED",
    "TOO_MANY_FAULTS": "RESOURCE_EXHAUSTED",
    "MANAGER_AWAY": "UNAVAILABLE",
    "MANAGER_BUSY": "UNAVAILABLE",
    "VOLUNTEER_AWAY": "UNAVAILABLE",
    "FAULT_UNDER_WAY": "DEADLINE_EXCEEDED",
    "NO_ANSWER": "DEADLINE_EXCEEDED",
    "FAULT_FAILED": "INTERNAL",
    "ATTEMPT_ENDED": "ABORTED",
}


def refusal(reason: str, text: str, **metadata: str) -> ChaosError | SchedulerError:
    """The error that the manager would give for a reason of chaos.proto."""
    return chaos_error(Failure(_CODE_OF_REASON[reason], text, reason, metadata))


class Checks:
    """Reads requests against the members of a job. Everything raises ChaosError."""

    def __init__(self, members: Mapping[str, MemberState]) -> None:
        self._members = members
        self.incapable: dict[tuple[str, str], str] = {}
        """Why the machine at an address cannot do something, by address and capability."""

    def named(self, request: Any) -> list[MemberState]:
        """The members of ``ip`` or ``ips``."""
        if request.ip and request.ips:
            raise refusal("BAD_FIELD", "both ip and ips are given: one of them is to be")
        return self.distinct(tuple(request.ips) or (request.ip,))

    def distinct(self, addresses: Sequence[str], most: int = MOST_MEMBERS) -> list[MemberState]:
        """Members, each once."""
        if len(addresses) > most:
            raise refusal("BAD_FIELD", f"{len(addresses)} addresses are named: there must be 1 to {most}")
        members = [self.member(ip) for ip in addresses]
        for at, member in enumerate(members):
            if member in members[:at]:
                raise refusal("BAD_FIELD", f"{member.address} is named twice")
        return members

    def member(self, ip: str) -> MemberState:
        """The member at an address."""
        try:
            address = str(ipaddress.IPv4Address(ip))
        except ValueError:
            raise refusal("NOT_AN_ADDRESS", f"{ip!r} is not an IPv4 address") from None
        if address not in self._members:
            raise refusal("NO_SUCH_MEMBER", f"{address} is no member of this job")
        return self._members[address]

    def partition(self, request: chaos_pb2.PartitionRequest) -> shapes.Cuts:
        """Who is cut from whom, as addresses."""
        if bool(request.groups) == bool(request.shape):
            raise refusal("BAD_FIELD", "groups or a shape must be given, and not both")
        if request.groups:
            return self._groups(request)
        try:
            name = chaos_pb2.PartitionShape.Name(request.shape)
        except ValueError:
            raise refusal("BAD_FIELD", f"there is no shape {request.shape}") from None
        shape = Shape[name.removeprefix("PARTITION_SHAPE_")]
        if request.one_way and shape is Shape.MAJORITY_RING:
            raise refusal("BAD_FIELD", "one_way is not for a majority ring")
        members = [member.address for member in self._members.values() if member.role is not Role.CLIENT]
        one = self.member(request.ip).address if request.ip else ""
        if one and (shape not in (Shape.BRIDGE, Shape.ISOLATE_ONE) or one not in members):
            raise refusal("BAD_FIELD", f"ip is {one}: it names a master or slave for bridge and isolate-one")
        try:
            return shapes.of_shape(shape, members, one, request.one_way, request.seed)
        except ValueError as error:
            raise refusal("BAD_FIELD", str(error)) from None

    def _groups(self, request: chaos_pb2.PartitionRequest) -> shapes.Cuts:
        groups = tuple(tuple(self.member(ip).address for ip in group.ips) for group in request.groups)
        if len(groups) < 2 or not all(groups):
            raise refusal("BAD_FIELD", "a partition needs two groups or more, none of them empty")
        if request.ip:
            raise refusal("BAD_FIELD", "ip is for the shapes bridge and isolate-one")
        self.distinct([address for group in groups for address in group])
        return shapes.of_groups(groups, request.one_way)

    def degradation(self, request: chaos_pb2.DegradeRequest) -> list[MemberState]:
        """The peers."""
        how = request.degradation
        for name in _PERCENTAGES:
            if not 0 <= getattr(how, name) <= 100:
                raise refusal("BAD_FIELD", f"{name} is {getattr(how, name):g}: it must be 0 to 100")
        if how.rate_bps < 0 or 0 < how.rate_bps < 8000:
            raise refusal("BAD_FIELD", f"rate_bps is {how.rate_bps}: it must be at least 8,000")
        if how.rate_bps > 1 << 50:
            raise refusal("BAD_FIELD", f"rate_bps is {how.rate_bps}: it must be at most {1 << 50:,}")
        if not 0 <= how.delay_ms <= 60_000:
            raise refusal("BAD_FIELD", f"delay_ms is {how.delay_ms:g}: it must be 0 to 60,000")
        if not 0 <= how.jitter_ms <= how.delay_ms:
            raise refusal("BAD_FIELD", f"jitter_ms is {how.jitter_ms:g}: it must be 0 to the delay")
        if how.reorder_percent and not how.delay_ms:
            raise refusal("BAD_FIELD", "reorder_percent needs a delay")
        if how == common_pb2.Degradation():
            raise refusal("BAD_FIELD", "nothing is to be made worse")
        peers = self.distinct(request.peers)
        for ip in request.ips or (request.ip,):
            if [peer.address for peer in peers] == [ip]:
                raise refusal("BAD_FIELD", f"peers names {ip} alone, which is the member itself")
        return peers

    def require_life(self, rpc: str, members: Sequence[MemberState], with_disk: bool) -> None:
        """Who is to lose its disk must be dead, who is to be frozen or signalled alive."""
        others = "; nothing was done at the other members" if len(members) > 1 else ""
        for member in members:
            alive = member.state is TaskState.RUNNING
            if rpc == "Revive" and alive and not with_disk:
                text = f"{member.task} lives; kill it before it is revived without its disk"
                raise refusal("TASK_ALIVE", text + others)
            if rpc in ("Pause", "Signal") and not alive:
                raise refusal("TASK_DEAD", f"{member.task} is not alive{others}")

    def require_able(self, members: Sequence[MemberState], needs: Sequence[str]) -> None:
        """The machine of each member must be able to."""
        for member in members:
            for capability in needs:
                why = self.incapable.get((member.address, capability))
                if why is not None:
                    volunteer = f"fake-{member.task}"
                    text = f"{volunteer}, which has {member.task}, cannot do {capability}: {why}"
                    raise refusal("CANNOT", text, capability=capability, volunteer=volunteer)


def lease_of(request: Any) -> float | None:
    """The lease of a request that has one. Raises ChaosError."""
    if "lease_s" not in request.DESCRIPTOR.fields_by_name or not request.HasField("lease_s"):
        return None
    value: float = request.lease_s
    if not LEAST_LEASE_S <= value <= MOST_LEASE_S:
        raise refusal(
            "BAD_FIELD", f"lease_s is {value:g}: it must be {LEAST_LEASE_S:g} to {MOST_LEASE_S:,.0f}"
        )
    return value


def signal_of(request: chaos_pb2.SignalRequest) -> int:
    """The number of a signal that may be sent. Raises ChaosError."""
    if not 1 <= request.signal <= 64:
        raise refusal("BAD_FIELD", f"signal is {request.signal}: it must be 1 to 64")
    if request.signal in _RESERVED_SIGNALS:
        raise refusal("BAD_FIELD", f"signal is {request.signal}: use Kill, Pause and Resume")
    return int(request.signal)


def degradation_text(how: common_pb2.Degradation) -> str:
    """``loss 10 %, rate 1 Mbit/s, delay 50 ms ± 5 ms``."""
    words = [f"loss {how.loss_percent:g} %"] if how.loss_percent else []
    units = ((1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s"))
    words += [f"rate {how.rate_bps / size:g} {unit}" for size, unit in units if how.rate_bps >= size][:1]
    if how.delay_ms:
        words.append(f"delay {how.delay_ms:g} ms" + (f" ± {how.jitter_ms:g} ms" if how.jitter_ms else ""))
    for name in ("duplicate", "corrupt", "reorder"):
        value = getattr(how, f"{name}_percent")
        words += [f"{name} {value:g} %"] if value else []
    return ", ".join(words)
