"""A job in memory that obeys the rules of ChaosControl: what the fakes of ``testing`` stand on."""

from __future__ import annotations

import ipaddress
import re
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from google.protobuf.message import Message
from syndicate.client_api._errors import ChaosError, Failure, chaos_error
from syndicate.client_api._results import MemberState, Role, TaskState
from syndicate.v1 import chaos_pb2, common_pb2

FAKE_BOOT_ID = "fake-boot"
_FIRST_NS = 1_000_000_000
_STEP_NS = 1_000_000
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_OVER = frozenset({TaskState.KILLED, TaskState.EXITED, TaskState.RELEASED, TaskState.LOST})
_FAKE_PROCESSES = 2  # make and what it started

_MOST_MEMBERS = 1000
# What is asked for, of whom, and whether the disk is kept.
_Question = tuple[str, tuple[str, ...], bool]

_CODE_OF_REASON = {
    "BAD_FIELD": "INVALID_ARGUMENT",
    "NOT_AN_ADDRESS": "INVALID_ARGUMENT",
    "NO_SUCH_MEMBER": "NOT_FOUND",
    "TASK_ALIVE": "FAILED_PRECONDITION",
    "CLIENT_FINISHED": "FAILED_PRECONDITION",
    "JOB_NOT_RUNNING": "FAILED_PRECONDITION",
    "MANAGER_AWAY": "UNAVAILABLE",
    "VOLUNTEER_AWAY": "UNAVAILABLE",
    "FAULT_FAILED": "INTERNAL",
    "ATTEMPT_ENDED": "ABORTED",
}


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """One call that the fake was asked for."""

    caller: str
    """The client task that called."""
    rpc: str
    """``Kill``, ``Revive``, ``Disconnect``, ``Reconnect``, ``Finish``, ``ListMembers`` or ``Ping``."""
    request: Message
    """As it was sent."""
    error: str
    """The reason it was refused for; empty where it was not."""


def refusal(reason: str, text: str) -> ChaosError:
    """The error that the manager would give for a reason of chaos.proto."""
    return chaos_error(Failure(_CODE_OF_REASON[reason], text, reason))


class FakeJob:
    """The members of one job, the ledger of its faults, and every call that was made.

    Stamps are deterministic: the first is 1 s after boot, each later one 1 ms more. Thread-safe.
    """

    def __init__(
        self, members: Sequence[str | MemberState], clients: Sequence[str] = ("10.77.0.250",)
    ) -> None:
        self.calls: list[RecordedCall] = []
        self.results: dict[str, common_pb2.Result] = {}
        self._members = {member.address: member for member in _named(members, clients)}
        # By request id: what was asked for, and what it was told.
        self._faults_told: dict[str, tuple[_Question, Message | ChaosError]] = {}
        self._finishes: dict[str, tuple[str, Message]] = {}
        self._failures: dict[str, deque[ChaosError]] = {}
        self._running = True
        self._faults = 0
        self._now_ns = _FIRST_NS
        self._lock = threading.Lock()

    @property
    def members(self) -> tuple[MemberState, ...]:
        """All members as they are now."""
        return tuple(self._members.values())

    def fail_next(self, rpc: str, reason: str, text: str = "asked for by the test") -> None:
        """Makes the next call of ``rpc`` that is not answered yet fail for a reason of chaos.proto."""
        self._failures.setdefault(rpc, deque()).append(refusal(reason, text))

    def end(self) -> None:
        """Lets the job leave RUNNING, as a time limit or a cancellation does; the last Finish does it too."""
        self._running = False

    def answer(self, caller: str, rpc: str, request: Any) -> Message:
        """Does one call as the manager would. Raises ChaosError."""
        with self._lock:
            try:
                response = self._answer(caller, rpc, request)
            except ChaosError as error:
                self.calls.append(RecordedCall(caller, rpc, request, error.reason))
                raise
            self.calls.append(RecordedCall(caller, rpc, request, ""))
            return response

    def _answer(self, caller: str, rpc: str, request: Any) -> Message:
        if rpc == "ListMembers":
            self._fail_as_told(rpc)
            return chaos_pb2.ListMembersResponse(members=[_to_wire(member) for member in self.members])
        if rpc == "Ping":
            self._fail_as_told(rpc)
            return chaos_pb2.PingResponse(manager_at=self._stamp())
        if _UUID.fullmatch(request.request_id) is None:
            raise refusal("BAD_FIELD", f"request_id is {request.request_id!r:.64}, not a UUID")
        return self._finish(caller, request) if rpc == "Finish" else self._once(caller, rpc, request)

    def _fail_as_told(self, rpc: str) -> None:
        if self._failures.get(rpc):
            raise self._failures[rpc].popleft()

    def _require_running(self, caller: str) -> None:
        if not self._running:
            raise refusal("JOB_NOT_RUNNING", "the job is no longer running")
        if caller in self.results:
            raise refusal("CLIENT_FINISHED", f"{caller} has finished already")

    def _end_with_the_clients(self) -> int:
        """How many clients are still to finish; without one the job ends, if it ever had any."""
        clients = [member for member in self.members if member.role is Role.CLIENT]
        left = sum(member.task not in self.results and member.state not in _OVER for member in clients)
        if clients and not left:
            self._running = False
        return left

    def _finish(self, caller: str, request: chaos_pb2.FinishRequest) -> Message:
        first_id, first = self._finishes.get(caller, ("", None))
        if first is not None and first_id == request.request_id:
            return first
        self._fail_as_told("Finish")
        if first is not None:
            raise refusal("CLIENT_FINISHED", f"{caller} has finished already")
        self._require_running(caller)
        self.results[caller] = request.result
        response = chaos_pb2.FinishResponse(
            finished_at=self._stamp(), clients_left=self._end_with_the_clients()
        )
        self._finishes[caller] = (request.request_id, response)
        return response

    def _once(self, caller: str, rpc: str, request: Any) -> Message:
        """A fault, once for each request id. What was only refused is looked at afresh if repeated."""
        asked = (rpc, _addresses(request), rpc == "Revive" and _with_disk(request))
        first, told = self._faults_told.get(request.request_id, (asked, None))
        if first != asked:
            raise refusal("BAD_FIELD", "request_id was used for another call")
        if isinstance(told, ChaosError):
            raise told
        if told is not None:
            return told
        try:
            self._fail_as_told(rpc)
            self._require_running(caller)
            told = self._fault(rpc, request)
        except ChaosError as error:
            if error.reason == "FAULT_FAILED":
                self._faults_told[request.request_id] = (asked, error)
            raise
        self._faults_told[request.request_id] = (asked, told)
        return told

    def _fault(self, rpc: str, request: Any) -> Message:
        members = self._named(request)
        with_disk = rpc != "Revive" or _with_disk(request)
        alive = [member.task for member in members if member.state is TaskState.RUNNING]
        if alive and not with_disk:
            text = f"{alive[0]} lives; kill it before it is revived without its disk"
            others = "; nothing was done at the other members" if len(members) > 1 else ""
            raise refusal("TASK_ALIVE", text + others)
        do = {"Kill": self._kill, "Revive": self._revive, "Disconnect": self._cut, "Reconnect": self._heal}[
            rpc
        ]
        held = [do(member) for member in members]
        if rpc == "Kill":
            self._end_with_the_clients()
        return _RESPONSES[rpc](held)

    def _kill(self, member: MemberState) -> chaos_pb2.MemberApplied:
        already = member.state is not TaskState.RUNNING
        if not already:
            self._members[member.address] = replace(member, state=TaskState.KILLED)
        return chaos_pb2.MemberApplied(
            ip=member.address,
            applied=self._applied(already),
            processes=0 if already else _FAKE_PROCESSES,
        )

    def _revive(self, member: MemberState) -> chaos_pb2.MemberApplied:
        already = member.state is TaskState.RUNNING
        generation = member.generation if already else member.generation + 1
        self._members[member.address] = replace(member, state=TaskState.RUNNING, generation=generation)
        return chaos_pb2.MemberApplied(
            ip=member.address, applied=self._applied(already), generation=generation
        )

    def _cut(self, member: MemberState) -> chaos_pb2.MemberApplied:
        return self._connected(member, False)

    def _heal(self, member: MemberState) -> chaos_pb2.MemberApplied:
        return self._connected(member, True)

    def _connected(self, member: MemberState, connected: bool) -> chaos_pb2.MemberApplied:
        already = member.disconnected != connected
        self._members[member.address] = replace(member, disconnected=not connected)
        return chaos_pb2.MemberApplied(ip=member.address, applied=self._applied(already))

    def _named(self, request: Any) -> list[MemberState]:
        """The members of a request, checked as the manager does."""
        if request.ip and request.ips:
            raise refusal("BAD_FIELD", "both ip and ips are given: one of them is to be")
        addresses = _addresses(request)
        if len(addresses) > _MOST_MEMBERS:
            raise refusal(
                "BAD_FIELD", f"{len(addresses)} addresses are named: there must be 1 to {_MOST_MEMBERS}"
            )
        members = [self._member(ip) for ip in addresses]
        for at, member in enumerate(members):
            if member in members[:at]:
                raise refusal("BAD_FIELD", f"{member.address} is named twice")
        return members

    def _member(self, ip: str) -> MemberState:
        try:
            address = str(ipaddress.IPv4Address(ip))
        except ValueError:
            raise refusal("NOT_AN_ADDRESS", f"{ip!r} is not an IPv4 address") from None
        if address not in self._members:
            raise refusal("NO_SUCH_MEMBER", f"{address} is no member of this job")
        return self._members[address]

    def _applied(self, already: bool) -> chaos_pb2.FaultApplied:
        if not already:
            self._faults += 1
        return chaos_pb2.FaultApplied(
            fault_id=0 if already else self._faults,
            already=already,
            applied_at=None if already else self._stamp(),
            clock=common_pb2.ClockBound(boot_id=FAKE_BOOT_ID, offset_ns=0, error_ns=0),
        )

    def _stamp(self) -> common_pb2.Stamp:
        now, self._now_ns = self._now_ns, self._now_ns + _STEP_NS
        return common_pb2.Stamp(boot_id=FAKE_BOOT_ID, monotonic_ns=now, utc_ns=now)


def _addresses(request: Any) -> tuple[str, ...]:
    return tuple(request.ips) or (request.ip,)


def _together(held: Sequence[chaos_pb2.MemberApplied]) -> chaos_pb2.FaultApplied:
    """Of all members: the last one where something was done."""
    done = [member.applied for member in held if not member.applied.already]
    return done[-1] if done else held[0].applied


_Held = Sequence[chaos_pb2.MemberApplied]
_RESPONSES: dict[str, Callable[[_Held], Message]] = {
    "Kill": lambda held: chaos_pb2.KillResponse(
        applied=_together(held), processes=sum(member.processes for member in held), members=held
    ),
    "Revive": lambda held: chaos_pb2.ReviveResponse(
        applied=_together(held), generation=held[0].generation, members=held
    ),
    "Disconnect": lambda held: chaos_pb2.DisconnectResponse(applied=_together(held), members=held),
    "Reconnect": lambda held: chaos_pb2.ReconnectResponse(applied=_together(held), members=held),
}


def _with_disk(request: chaos_pb2.ReviveRequest) -> bool:
    return request.with_disk if request.HasField("with_disk") else True


def _named(members: Sequence[str | MemberState], clients: Sequence[str]) -> list[MemberState]:
    """Plain addresses become master, slave-0, slave-1 …, as a job would name them."""
    named: list[MemberState] = []
    for index, member in enumerate(members):
        if isinstance(member, MemberState):
            named.append(member)
        elif index == 0:
            named.append(MemberState("master", Role.MASTER, member))
        else:
            named.append(MemberState(f"slave-{index - 1}", Role.SLAVE, member))
    named += [MemberState(f"client-{index}", Role.CLIENT, address) for index, address in enumerate(clients)]
    return named


def _to_wire(member: MemberState) -> chaos_pb2.MemberState:
    return chaos_pb2.MemberState(
        member=common_pb2.Member(
            task=member.task,
            role=common_pb2.Role.Value(f"ROLE_{member.role.name}"),
            address=member.address,
        ),
        state=common_pb2.TaskState.Value(f"TASK_STATE_{member.state.name}"),
        generation=member.generation,
        disconnected=member.disconnected,
    )
