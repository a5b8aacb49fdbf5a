"""What faults do to the members of a fake job, and what they leave in its ledger."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from google.protobuf.message import Message
from syndicate.client_api._errors import ChaosError, SchedulerError
from syndicate.client_api._fake_checks import Checks, degradation_text, lease_of, refusal, signal_of
from syndicate.client_api._fake_ledger import BOOT_ID, CUTS, FakeLedger, Line
from syndicate.client_api._fake_wire import keeps_disk, response, together
from syndicate.client_api._results import FaultKind, MemberState, TaskState
from syndicate.v1 import chaos_pb2, common_pb2

_FAKE_PROCESSES = 2  # make and what it started
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
_CLOCK = common_pb2.ClockBound(boot_id=BOOT_ID, offset_ns=0, error_ns=0)


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


class FakeFaults:
    """Faults at ``members``, by address, which are changed with them; their lines go into ``ledger``."""

    def __init__(self, members: dict[str, MemberState], ledger: FakeLedger) -> None:
        self.checks = Checks(members)
        self._members = members
        self._ledger = ledger
        self._failures_at: dict[tuple[str, str], deque[ChaosError | SchedulerError]] = {}
        self._stay: set[tuple[str, str]] = set()

    def fail_at(self, rpc: str, ip: str, error: ChaosError | SchedulerError, stays: bool) -> None:
        """The next ``rpc`` fails at one member; at the others it is taken back, unless it ``stays``."""
        self._failures_at.setdefault((rpc, ip), deque()).append(error)
        if stays:
            self._stay.add((rpc, ip))

    def do(self, caller: str, rpc: str, request: Any) -> Message:
        """Does one call as the manager would. Raises ChaosError."""
        doing = _Doing(rpc, _KINDS[rpc], caller, lease_of(request))
        match doing.rpc:
            case "Heal":
                return self._heal(doing, request)
            case "Partition":
                return self._partition(doing, request)
            case "Degrade":
                return self._degrade(doing, request)
        members = self.checks.named(request)
        number = signal_of(request) if doing.rpc == "Signal" else 0
        self.checks.require_life(doing.rpc, members, with_disk=doing.rpc != "Revive" or keeps_disk(request))
        self.checks.require_able(members, _NEEDS.get(doing.rpc, ()))
        do = {
            "Kill": lambda member: self._kill(doing, member),
            "Revive": lambda member: self._revive(doing, member, keeps_disk(request)),
            "Reconnect": lambda member: self._take_back(doing, member, CUTS),
            "Resume": lambda member: self._take_back(doing, member, (FaultKind.PAUSE,)),
            "Signal": lambda member: self._signal(doing, member, number),
        }.get(doing.rpc, lambda member: self._last(doing, member))
        self._each(doing, members, do)
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
        cuts = self.checks.partition(request)
        members = [member for member in self._members.values() if cuts.concerns(member.address)]
        self.checks.require_able(members, ("one-way",) if request.one_way else ())
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
        members, peers = self.checks.named(request), self.checks.degradation(request)
        how = request.degradation
        needs = [name for name in _DEGRADATIONS if getattr(how, _DEGRADATIONS[name])]
        self.checks.require_able(members, needs)
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
