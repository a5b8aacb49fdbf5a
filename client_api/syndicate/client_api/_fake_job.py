"""A job in memory that obeys the rules of ChaosControl: what the fakes of ``testing`` stand on."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from google.protobuf.message import Message
from syndicate.client_api._errors import ChaosError, SchedulerError
from syndicate.client_api._fake_checks import MOST_FAULTS_A_PAGE, refusal
from syndicate.client_api._fake_faults import FakeFaults
from syndicate.client_api._fake_histories import LONGEST_WAIT_S, FakeHistories
from syndicate.client_api._fake_ledger import CUTS, JOB_END, FakeLedger
from syndicate.client_api._fake_wire import Question, named, question, to_wire
from syndicate.client_api._results import Fault, FaultKind, MemberState, Role, TaskState
from syndicate.v1 import chaos_pb2, common_pb2

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_OVER = frozenset({TaskState.KILLED, TaskState.EXITED, TaskState.RELEASED, TaskState.LOST})
_FAULTS_A_PAGE = 1000


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """One call that the fake was asked for."""

    caller: str
    """The client task that called."""
    rpc: str
    """The name of chaos.proto: ``Kill``, ``Partition``, ``ListMembers``."""
    request: Message
    """As it was sent."""
    error: str
    """The reason it was refused for; empty where it was not."""


class FakeJob:
    """The members of one job, the ledger of its faults, and every call that was made.

    Stamps are deterministic: the first is 1 s after boot, each later one 1 ms more, and ``advance`` lets time
    pass, so that leases end. Thread-safe.
    """

    def __init__(
        self, members: Sequence[str | MemberState], clients: Sequence[str] = ("10.77.0.250",)
    ) -> None:
        self.calls: list[RecordedCall] = []
        self.results: dict[str, common_pb2.Result] = {}
        self._members = {member.address: member for member in named(members, clients)}
        self._ledger = FakeLedger()
        self._faults = FakeFaults(self._members, self._ledger)
        # By request id: what was asked for, and what it was told.
        self._faults_told: dict[str, tuple[Question, Message | ChaosError | SchedulerError]] = {}
        self._finishes: dict[str, tuple[str, Message]] = {}
        self._failures: dict[str, deque[ChaosError | SchedulerError]] = {}
        self._running = True
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._histories = FakeHistories()
        for member in self._members.values():
            if member.disconnected:
                self._ledger.add(FaultKind.DISCONNECT, member.task, "before", 0)

    @property
    def members(self) -> tuple[MemberState, ...]:
        """All members as they are now."""
        return tuple(self._as_it_is(member) for member in self._members.values())

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The whole ledger."""
        return self._ledger.faults()

    def fail_next(self, rpc: str, reason: str, text: str = "asked for by the test") -> None:
        """Makes the next call of ``rpc`` that is not answered yet fail for a reason of chaos.proto."""
        self._failures.setdefault(rpc, deque()).append(refusal(reason, text))

    def fail_at(
        self,
        rpc: str,
        ip: str,
        reason: str = "FAULT_FAILED",
        text: str = "asked for by the test",
        *,
        stays: bool = False,
    ) -> None:
        """Makes the next fault of ``rpc`` fail at one member; what can be is taken back at the others.

        ``stays``: at the others it cannot be, and holds there until it is healed.
        """
        self._faults.fail_at(rpc, ip, refusal(reason, text), stays)

    def cannot(self, capability: str, why: str, *ips: str) -> None:
        """Takes a capability (``delay``, ``pause``) from the machines of these members, or of all."""
        for ip in ips or self._members:
            self._faults.checks.incapable[self._faults.checks.member(ip).address, capability] = why

    def advance(self, seconds: float) -> None:
        """Lets time pass: leases that end by then have ended."""
        with self._lock:
            self._ledger.now_ns += round(seconds * 1e9)
            self._ledger.let_leases_end()

    def exit(self, ip: str) -> None:
        """Lets the task at an address end by itself."""
        with self._lock:
            member = self._faults.checks.member(ip)
            self._members[member.address] = replace(member, state=TaskState.EXITED)
            self._ledger.heal(self._ledger.in_force(FaultKind.PAUSE, task=member.task), "exit")

    def end(self) -> None:
        """Lets the job leave RUNNING, as a time limit or a cancellation does; the last Finish does it too."""
        self._running = False
        self._ledger.heal_by_itself(self._ledger.in_force(), JOB_END)

    def answer(self, caller: str, rpc: str, request: Any) -> Message:
        """Does one call as the manager would. Raises ChaosError."""
        with self._lock:
            self._ledger.let_leases_end()
            try:
                response = self._answer(caller, rpc, request)
            except (ChaosError, SchedulerError) as error:
                self.calls.append(RecordedCall(caller, rpc, request, error.reason))
                raise
            finally:
                self._changed.notify_all()
            self.calls.append(RecordedCall(caller, rpc, request, ""))
            return response

    def _answer(self, caller: str, rpc: str, request: Any) -> Message:
        reads: dict[str, Callable[[Any], Message]] = {
            "ListMembers": self._list_members,
            "ListFaults": self._list_faults,
            "Ping": self._ping,
            "PutHistory": lambda request: self._put_history(caller, request),
            "GatherHistories": lambda request: self._gather_histories(caller, request),
            "ReadHistory": self._histories.read,
        }
        if rpc in reads:
            self._fail_as_told(rpc)
            return reads[rpc](request)
        if _UUID.fullmatch(request.request_id) is None:
            raise refusal("BAD_FIELD", f"request_id is {request.request_id!r:.64}, not a UUID")
        return self._finish(caller, request) if rpc == "Finish" else self._once(caller, rpc, request)

    def history(self, task: str, name: str = "history") -> bytes:
        """What a client handed over; empty for nothing."""
        return self._histories.data(task, name)

    def _put_history(self, caller: str, request: chaos_pb2.PutHistoryRequest) -> Message:
        self._require_running(caller)
        return self._histories.put(caller, self._generation(caller), request)

    def _gather_histories(self, caller: str, request: chaos_pb2.GatherHistoriesRequest) -> Message:
        """Waits by the real clock: for other threads of the test, which play the other clients."""
        if not 0 <= request.wait_s <= LONGEST_WAIT_S:
            raise refusal("BAD_FIELD", f"wait_s is {request.wait_s:g}")
        until = time.monotonic() + request.wait_s
        while True:
            self._require_running(caller)
            owing = [
                member
                for member in self._members.values()
                if member.role is Role.CLIENT
                and not self._histories.has_all_of(member.task, member.generation)
            ]
            over = [one.task for one in owing if one.task in self.results or one.state in _OVER]
            running = [one.task for one in owing if one.task not in over and one.task != caller]
            if not running:
                return self._histories.listed(over)
            if not self._changed.wait(until - time.monotonic()):
                raise refusal(
                    "HISTORIES_MISSING", f"{', '.join(running)}: not handed over yet, and still running"
                )

    def _generation(self, task: str) -> int:
        return next((one.generation for one in self._members.values() if one.task == task), 1)

    def _ping(self, _: chaos_pb2.PingRequest) -> Message:
        return chaos_pb2.PingResponse(manager_at=self._ledger.stamp())

    def _list_members(self, _: chaos_pb2.ListMembersRequest) -> Message:
        return chaos_pb2.ListMembersResponse(members=[to_wire(member) for member in self.members])

    def _list_faults(self, request: chaos_pb2.ListFaultsRequest) -> Message:
        if not 0 <= request.page_size <= MOST_FAULTS_A_PAGE or not (request.page_token or "0").isdecimal():
            raise refusal("BAD_FIELD", "page_size must be 0 to 10,000, page_token from the last answer")
        after, most = int(request.page_token or 0), request.page_size or _FAULTS_A_PAGE
        found = [line for line in self._ledger.lines if not request.in_force or line.in_force]
        rest = [line.wire for line in found if line.wire.fault_id > after]
        more = str(rest[most - 1].fault_id) if len(rest) > most else ""
        return chaos_pb2.ListFaultsResponse(faults=rest[:most], next_page_token=more)

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
        clients = [member for member in self._members.values() if member.role is Role.CLIENT]
        left = sum(member.task not in self.results and member.state not in _OVER for member in clients)
        if clients and not left:
            self.end()
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
        finished_at = self._ledger.stamp()
        response = chaos_pb2.FinishResponse(
            finished_at=finished_at, clients_left=self._end_with_the_clients()
        )
        self._finishes[caller] = (request.request_id, response)
        return response

    def _once(self, caller: str, rpc: str, request: Any) -> Message:
        """A fault, once for each request id. What was only refused is looked at afresh if repeated."""
        asked = question(rpc, request)
        first, told = self._faults_told.get(request.request_id, (asked, None))
        if first != asked:
            raise refusal("BAD_FIELD", "request_id was used for another call")
        if isinstance(told, (ChaosError, SchedulerError)):
            raise told
        if told is not None:
            return told
        try:
            self._fail_as_told(rpc)
            self._require_running(caller)
            told = self._faults.do(caller, rpc, request)
        except (ChaosError, SchedulerError) as error:
            if error.reason == "FAULT_FAILED":
                self._faults_told[request.request_id] = (asked, error)
            raise
        if rpc == "Kill":
            self._end_with_the_clients()
        self._faults_told[request.request_id] = (asked, told)
        return told

    def _as_it_is(self, member: MemberState) -> MemberState:
        lines = self._ledger.in_force(task=member.task)
        kinds = {line.kind for line in lines}
        other = tuple(line.wire.fault_id for line in lines if line.kind not in (*CUTS, FaultKind.PAUSE))
        return replace(
            member, disconnected=bool(kinds & set(CUTS)), paused=FaultKind.PAUSE in kinds, faults=other
        )
