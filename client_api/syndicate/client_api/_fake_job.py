"""A job in memory that obeys the rules of ChaosControl: what the fakes of ``testing`` stand on."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from google.protobuf.message import Message
from syndicate.client_api._errors import ChaosError, SchedulerError
from syndicate.client_api._fake_checks import (
    MOST_FAULTS_A_PAGE,
    Checks,
    degradation_text,
    lease_of,
    refusal,
    signal_of,
)
from syndicate.client_api._fake_histories import LONGEST_WAIT_S, FakeHistories
from syndicate.client_api._fake_ledger import BOOT_ID, CUTS, JOB_END, FakeLedger, Line
from syndicate.client_api._fake_wire import (
    Question,
    keeps_disk,
    named,
    question,
    response,
    to_wire,
    together,
)
from syndicate.client_api._results import Fault, FaultKind, MemberState, Role, TaskState
from syndicate.v1 import chaos_pb2, common_pb2

FAKE_BOOT_ID = BOOT_ID
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_OVER = frozenset({TaskState.KILLED, TaskState.EXITED, TaskState.RELEASED, TaskState.LOST})
_FAKE_PROCESSES = 2  # make and what it started
_FAULTS_A_PAGE = 1000
_KINDS = {
    "Kill": FaultKind.KILL,
    "Revive": FaultKind.REVIVE,
    "Disconnect": FaultKind.DISCONNECT,
    "Reconnect": FaultKind.RECONNECT,
    "Reset": FaultKind.RESET,
    "Partition": FaultKind.PARTITION,
    "Degrade": FaultKind.DEGRADE,
    "Pause": FaultKind.PAUSE,
    "Resume": FaultKind.RESUME,
    "DiskFull": FaultKind.DISK_FULL,
    "Signal": FaultKind.SIGNAL,
    "Heal": FaultKind.HEAL,
}
# What a machine must be able to do for a call, beside what each can; of Partition and Degrade it depends.
_NEEDS = {
    "Reset": ("reset",),
    "Pause": ("pause",),
    "DiskFull": ("disk-full",),
    "Signal": ("signal",),
}
# What is not taken back at the other members where it fails at one.
_STAYS = ("Kill", "Revive", "Reconnect", "Resume", "Signal", "Heal")


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


@dataclass(slots=True)
class _Doing:
    """One fault that is being done: who asked, and what became of it at each member so far."""

    rpc: str
    kind: FaultKind
    caller: str
    lease_s: float | None
    call_id: int = 0
    lines: list[Line] = field(default_factory=list)
    held: list[chaos_pb2.MemberApplied] = field(default_factory=list)


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
        self._checks = Checks(self._members)
        self._ledger = FakeLedger()
        # By request id: what was asked for, and what it was told.
        self._faults_told: dict[str, tuple[Question, Message | ChaosError | SchedulerError]] = {}
        self._finishes: dict[str, tuple[str, Message]] = {}
        self._failures: dict[str, deque[ChaosError | SchedulerError]] = {}
        self._failures_at: dict[tuple[str, str], deque[ChaosError | SchedulerError]] = {}
        self._stay: set[tuple[str, str]] = set()
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
        self._failures_at.setdefault((rpc, ip), deque()).append(refusal(reason, text))
        if stays:
            self._stay.add((rpc, ip))

    def cannot(self, capability: str, why: str, *ips: str) -> None:
        """Takes a capability (``delay``, ``pause``) from the machines of these members, or of all."""
        for ip in ips or self._members:
            self._checks.incapable[self._checks.member(ip).address, capability] = why

    def advance(self, seconds: float) -> None:
        """Lets time pass: leases that end by then have ended."""
        with self._lock:
            self._ledger.now_ns += round(seconds * 1e9)
            self._ledger.let_leases_end()

    def exit(self, ip: str) -> None:
        """Lets the task at an address end by itself."""
        with self._lock:
            member = self._checks.member(ip)
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
            told = self._fault(_Doing(rpc, _KINDS[rpc], caller, lease_of(request)), request)
        except (ChaosError, SchedulerError) as error:
            if error.reason == "FAULT_FAILED":
                self._faults_told[request.request_id] = (asked, error)
            raise
        self._faults_told[request.request_id] = (asked, told)
        return told

    def _fault(self, doing: _Doing, request: Any) -> Message:
        match doing.rpc:
            case "Heal":
                return self._heal(doing, request)
            case "Partition":
                return self._partition(doing, request)
            case "Degrade":
                return self._degrade(doing, request)
        members = self._checks.named(request)
        number = signal_of(request) if doing.rpc == "Signal" else 0
        self._checks.require_life(doing.rpc, members, with_disk=doing.rpc != "Revive" or keeps_disk(request))
        self._checks.require_able(members, _NEEDS.get(doing.rpc, ()))
        do = {
            "Kill": lambda member: self._kill(doing, member),
            "Revive": lambda member: self._revive(doing, member, keeps_disk(request)),
            "Reconnect": lambda member: self._take_back(doing, member, CUTS),
            "Resume": lambda member: self._take_back(doing, member, (FaultKind.PAUSE,)),
            "Signal": lambda member: self._signal(doing, member, number),
        }.get(doing.rpc, lambda member: self._last(doing, member))
        self._each(doing, members, do)
        if doing.rpc == "Kill":
            self._end_with_the_clients()
        return response(doing.rpc, doing.held)

    def _each(
        self,
        doing: _Doing,
        members: Sequence[MemberState],
        do: Callable[[MemberState], chaos_pb2.MemberApplied],
    ) -> None:
        """Does a fault at each member; where it fails at one, takes it back at the others, if it can be."""
        errors = {}
        stays = False
        for member in members:
            waiting = self._failures_at.get((doing.rpc, member.address))
            if waiting:
                errors[member.task] = waiting.popleft()
                stays |= (doing.rpc, member.address) in self._stay
                self._stay.discard((doing.rpc, member.address))
                if errors[member.task].reason == "FAULT_FAILED":
                    line = self._ledger.add_failed(
                        doing.kind, member.task, doing.caller, doing.call_id, str(errors[member.task])
                    )
                    doing.call_id = doing.call_id or line.wire.fault_id
            else:
                doing.held.append(do(member))
        if not errors:
            return
        (task, error), *_ = errors.items()
        lasts = error.reason == "FAULT_FAILED" and doing.rpc not in _STAYS
        of_call = {"call_id": str(doing.call_id)} if lasts else {}
        if len(members) == 1:
            raise refusal(error.reason, str(error), **of_call)
        held = [member.task for member in members if member.task not in errors]
        if doing.rpc in _STAYS:
            text = f"{doing.kind.name} holds at {', '.join(held)}, not at {', '.join(errors)}: {error}"
        else:
            back = f"; it was taken back at {', '.join(held)}" if held else ""
            if stays:
                names = ", ".join(held)
                back = f"; that it was taken back at {names} could not be confirmed: it may hold there"
            else:
                self._ledger.heal_by_itself(doing.lines, "rollback", "it failed elsewhere")
            text = f"{doing.kind.name} failed at {task}: {error}{back}"
        raise refusal(error.reason, text, **of_call)

    def _kill(self, doing: _Doing, member: MemberState) -> chaos_pb2.MemberApplied:
        if member.state is not TaskState.RUNNING:
            return self._applied(member, None)
        self._members[member.address] = replace(member, state=TaskState.KILLED)
        self._ledger.heal(self._ledger.in_force(FaultKind.PAUSE, task=member.task), "kill")
        line = self._line(doing, member, processes=_FAKE_PROCESSES)
        return self._applied(member, line, processes=_FAKE_PROCESSES)

    def _revive(self, doing: _Doing, member: MemberState, with_disk: bool) -> chaos_pb2.MemberApplied:
        if member.state is TaskState.RUNNING:
            return self._applied(member, None, generation=member.generation)
        generation = member.generation + 1
        self._members[member.address] = replace(member, state=TaskState.RUNNING, generation=generation)
        line = self._line(doing, member, generation=generation, with_disk=with_disk)
        return self._applied(member, line, generation=generation)

    def _signal(self, doing: _Doing, member: MemberState, number: int) -> chaos_pb2.MemberApplied:
        sent = _FAKE_PROCESSES - 1  # not to its make
        line = self._line(doing, member, signal=number, processes=sent, text=f"signal {number}")
        return self._applied(member, line, processes=sent)

    def _last(self, doing: _Doing, member: MemberState) -> chaos_pb2.MemberApplied:
        """What lasts, and has nothing to say but its kind."""
        if self._ledger.holds_for_good(doing.kind, member.task):
            return self._applied(member, None)
        return self._applied(member, self._line(doing, member))

    def _take_back(
        self, doing: _Doing, member: MemberState, kinds: tuple[FaultKind, ...]
    ) -> chaos_pb2.MemberApplied:
        if not self._ledger.heal(self._ledger.in_force(*kinds, task=member.task), doing.caller):
            return self._applied(member, None)
        return self._applied(member, self._line(doing, member))

    def _partition(self, doing: _Doing, request: chaos_pb2.PartitionRequest) -> Message:
        cuts = self._checks.partition(request)
        members = [member for member in self._members.values() if cuts.concerns(member.address)]
        self._checks.require_able(members, ("one-way",) if request.one_way else ())
        word = chaos_pb2.PartitionShape.Name(request.shape).removeprefix("PARTITION_SHAPE_").lower()
        shape = word.replace("_", "-") if request.shape else "groups"
        sides = " | ".join(", ".join(self._task(ip) for ip in group) for group in cuts.groups)
        text = shape if shape == "majority-ring" else sides + (", one way" if request.one_way else "")

        def cut(member: MemberState) -> chaos_pb2.MemberApplied:
            line = self._line(
                doing,
                member,
                cut_out=self._tasks(cuts.cut_out.get(member.address, frozenset())),
                cut_in=self._tasks(cuts.cut_in(member.address)),
                shape=shape,
                seed=request.seed if request.shape else 0,
                one_way=request.one_way,
                text=text,
            )
            return self._applied(member, line)

        self._each(doing, members, cut)
        groups = [chaos_pb2.PartitionGroup(ips=group) for group in cuts.groups]
        return chaos_pb2.PartitionResponse(applied=together(doing.held), members=doing.held, groups=groups)

    def _degrade(self, doing: _Doing, request: chaos_pb2.DegradeRequest) -> Message:
        members, peers = self._checks.named(request), self._checks.degradation(request)
        how = request.degradation
        needs = [name for name in _DEGRADATIONS if getattr(how, _DEGRADATIONS[name])]
        self._checks.require_able(members, needs)
        text = degradation_text(how) + (", only what it sends" if request.one_way else "")

        def degrade(member: MemberState) -> chaos_pb2.MemberApplied:
            names = [peer.task for peer in peers if peer.task != member.task]
            line = self._line(doing, member, degradation=how, peers=names, one_way=request.one_way, text=text)
            return self._applied(member, line)

        self._each(doing, members, degrade)
        return chaos_pb2.DegradeResponse(applied=together(doing.held), members=doing.held)

    def _heal(self, doing: _Doing, request: chaos_pb2.HealRequest) -> Message:
        calls = set()
        for fault_id in request.fault_ids:
            if not 1 <= fault_id <= len(self._ledger.lines):
                raise refusal("NO_SUCH_FAULT", f"the ledger has no line {fault_id}")
            calls.add(self._ledger.lines[fault_id - 1].wire.call_id)
        lines = [line for line in self._ledger.in_force() if not calls or line.wire.call_id in calls]
        healed = self._ledger.heal(lines, doing.caller)
        names = {line.wire.task for line in healed}
        text = f"faults {', '.join(map(str, request.fault_ids))}" if calls else ""
        for member in [member for member in self._members.values() if member.task in names]:
            doing.held.append(self._applied(member, self._line(doing, member, text=text)))
        nothing = chaos_pb2.FaultApplied(already=True, clock=_CLOCK)
        return chaos_pb2.HealResponse(
            applied=together(doing.held) if doing.held else nothing,
            members=doing.held,
            healed=[line.wire.fault_id for line in healed],
        )

    def _line(self, doing: _Doing, member: MemberState, **values: Any) -> Line:
        line = self._ledger.add(doing.kind, member.task, doing.caller, doing.call_id, doing.lease_s, **values)
        doing.call_id = line.wire.call_id
        doing.lines.append(line)
        return line

    def _applied(
        self, member: MemberState, line: Line | None, processes: int = 0, generation: int = 0
    ) -> chaos_pb2.MemberApplied:
        applied = chaos_pb2.FaultApplied(already=line is None, clock=_CLOCK)
        if line is not None:
            applied.fault_id = line.wire.fault_id
            applied.applied_at.CopyFrom(line.wire.applied_at)
        return chaos_pb2.MemberApplied(
            ip=member.address, applied=applied, processes=processes, generation=generation
        )

    def _tasks(self, addresses: frozenset[str]) -> list[str]:
        return [member.task for member in self._members.values() if member.address in addresses]

    def _task(self, address: str) -> str:
        return self._members[address].task

    def _as_it_is(self, member: MemberState) -> MemberState:
        lines = self._ledger.in_force(task=member.task)
        kinds = {line.kind for line in lines}
        other = tuple(line.wire.fault_id for line in lines if line.kind not in (*CUTS, FaultKind.PAUSE))
        return replace(
            member, disconnected=bool(kinds & set(CUTS)), paused=FaultKind.PAUSE in kinds, faults=other
        )


_CLOCK = common_pb2.ClockBound(boot_id=FAKE_BOOT_ID, offset_ns=0, error_ns=0)
# Capability and field of each way to make a network worse.
_DEGRADATIONS = {
    "loss": "loss_percent",
    "rate": "rate_bps",
    "delay": "delay_ms",
    "jitter": "jitter_ms",
    "duplicate": "duplicate_percent",
    "corrupt": "corrupt_percent",
    "reorder": "reorder_percent",
}
