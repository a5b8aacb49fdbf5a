"""The ledger of faults of the fake job: lines, what of them is in force, leases."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from syndicate.client_api._calls import read_fault
from syndicate.client_api._results import LASTING, Fault, FaultKind
from syndicate.v1 import common_pb2

BOOT_ID = "fake-boot"
FIRST_NS = 1_000_000_000
STEP_NS = 1_000_000
CUTS = (FaultKind.DISCONNECT, FaultKind.RESET)
JOB_END = "job end"


@dataclass(slots=True)
class Line:
    """One line, with when its lease ends."""

    wire: common_pb2.Fault
    kind: FaultKind
    ends_ns: int | None = None

    @property
    def in_force(self) -> bool:
        """Whether it lasts, holds, and was not taken back."""
        held = self.wire.HasField("applied_at") and not self.wire.HasField("healed_at_manager")
        return self.kind in LASTING and held


@dataclass(slots=True)
class FakeLedger:
    """All lines, and the clock that stamps them: 1 s after boot at first, a step more with each stamp."""

    lines: list[Line] = field(default_factory=list)
    now_ns: int = FIRST_NS
    step_ns: int = STEP_NS

    def stamp(self) -> common_pb2.Stamp:
        """Now, which takes a moment."""
        at = self._at(self.now_ns)
        self.now_ns += self.step_ns
        return at

    def add(
        self, kind: FaultKind, task: str, by: str, call_id: int, lease_s: float | None = None, **values: Any
    ) -> Line:
        """A line that holds; ``call_id`` 0 begins a call."""
        number, asked, held = len(self.lines) + 1, self._at(self.now_ns), self.stamp()
        wire = common_pb2.Fault(
            fault_id=number,
            call_id=call_id or number,
            kind=common_pb2.FaultKind.Value(f"FAULT_KIND_{kind.name}"),
            task=task,
            requested_by=by,
            requested_at=asked,
            applied_at=held,
            applied_at_manager=held,
            lease_s=lease_s or 0.0,
            **values,
        )
        ends = None if lease_s is None else held.monotonic_ns + round(lease_s * 1e9)
        line = Line(wire, kind, ends)
        self.lines.append(line)
        return line

    def add_failed(self, kind: FaultKind, task: str, by: str, call_id: int, error: str) -> Line:
        """A line of what could not be done."""
        line = self.add(kind, task, by, call_id, error=error)
        for name in ("applied_at", "applied_at_manager"):
            line.wire.ClearField(name)
        return line

    def in_force(self, *kinds: FaultKind, task: str = "") -> list[Line]:
        """Lines in force, of these kinds or of any, at one member or at all."""
        return [
            line
            for line in self.lines
            if line.in_force and line.kind in (kinds or LASTING) and task in ("", line.wire.task)
        ]

    def heal(self, lines: Iterable[Line], by: str, at_ns: int | None = None) -> list[Line]:
        """Takes lines back that are in force, and says which."""
        at = self._at(self.now_ns if at_ns is None else at_ns)
        healed = [line for line in lines if line.in_force]
        for line in healed:
            line.wire.healed_at_manager.CopyFrom(at)
            line.wire.healed_by = by
        return healed

    def heal_by_itself(self, lines: Iterable[Line], by: str, text: str = "") -> None:
        """Takes lines back that nobody was asked to, with a line for each member."""
        healed = self.heal(lines, by)
        of_call: dict[str, int] = {}
        for task in dict.fromkeys(line.wire.task for line in healed):
            cuts = all(line.kind in CUTS for line in healed if line.wire.task == task)
            kind = FaultKind.RECONNECT if cuts and by == JOB_END else FaultKind.HEAL
            line = self.add(kind, task, by, of_call.get(by, 0), text=text)
            of_call.setdefault(by, line.wire.fault_id)

    def let_leases_end(self) -> None:
        """Takes back what was to end by now."""
        for line in self.in_force():
            if line.ends_ns is not None and line.ends_ns <= self.now_ns:
                now, self.now_ns = self.now_ns, line.ends_ns
                self.heal_by_itself([line], "lease")
                self.now_ns = max(now, self.now_ns)

    def holds_for_good(self, kind: FaultKind, task: str) -> bool:
        """Whether such a fault is in force there that no lease ends: another one adds nothing."""
        return any(line.ends_ns is None for line in self.in_force(kind, task=task))

    def faults(self, chosen: Callable[[Line], bool] = lambda _: True) -> tuple[Fault, ...]:
        """Lines as values."""
        return tuple(read_fault(line.wire) for line in self.lines if chosen(line))

    def _at(self, ns: int) -> common_pb2.Stamp:
        return common_pb2.Stamp(boot_id=BOOT_ID, monotonic_ns=ns, utc_ns=ns)
