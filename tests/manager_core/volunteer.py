"""A small model of a volunteer: it keeps slots, answers commands, remembers its answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from syndicate.manager.core import effects as fx
from syndicate.manager.core.model import (
    AnswerCode,
    HeldTask,
    Hello,
    Reason,
    Resources,
    Stamp,
    TaskExit,
    TaskRef,
    TaskState,
)

SECOND = 1_000_000_000
UTC_NS = 1_700_000_000 * SECOND
EVERYTHING = (
    *(
        "cut",
        "kill",
        "one-way",
        "reset",
        "loss",
        "rate",
        "delay",
        "jitter",
        "duplicate",
        "corrupt",
        "reorder",
    ),
    *("pause", "disk-full", "signal", "lose-unsynced"),
)


@dataclass
class Held:
    """What a slot holds."""

    ref: TaskRef
    state: TaskState
    address: str
    network: fx.SetNetwork = field(default_factory=fx.SetNetwork)
    paused: bool = False
    disk_full: bool = False
    signals: list[int] = field(default_factory=list)
    exit: TaskExit | None = None
    locked_until_ns: int = 0

    @property
    def cut(self) -> tuple[str, ...]:
        """What it exchanges nothing with, in silence."""
        return self.network.cut


@dataclass
class Volunteer:
    """A volunteer that does what it is told.

    `mute` names commands (`Prepare`, …) that it does, but does not answer.
    `refuse` answers a command with something else than DONE or READY; None means: go on as usual.
    """

    name: str
    slots: int = 4
    boot_id: str = ""
    domain: str = "lan"
    prefix: str = ""
    network: str = "fabric"
    fixed: dict[int, str] = field(default_factory=dict)
    mute: set[str] = field(default_factory=set)
    unsafe: tuple[str, ...] = ()
    instance: str = ""
    capabilities: tuple[str, ...] = EVERYTHING
    cannot: tuple[tuple[str, str], ...] = ()
    refuse: Callable[[fx.Command], tuple[AnswerCode, str] | None] = lambda command: None
    session: str = ""
    highest_epoch: int = 0
    cluster_id: str = ""
    clock_ahead_ns: int = 7 * SECOND
    held: dict[int, Held] = field(default_factory=dict)
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    received: list[fx.Command] = field(default_factory=list)
    starts: list[tuple[int, int, str, int]] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)  # barriers
    droppable: int | None = 1  # how many there are to drop
    made: int = 0
    net: int = 0
    # With a lease the volunteer ends its tasks when it was not heard for `orphan_after_s`, and locks lapse.
    lease_s: float = 0.0
    renewed_ns: int = 0

    def stamp(self, ns: int) -> Stamp:
        """Its own clock at the manager's `ns`."""
        return Stamp(self.boot_id, ns + self.clock_ahead_ns, UTC_NS + ns)

    def hello(self) -> Hello:
        """What it says first."""
        return Hello(
            volunteer_id=self.name,
            boot_id=self.boot_id,
            slots=tuple((n, self.fixed.get(n, "")) for n in range(self.slots)),
            resources=Resources(2, 1 << 30, 1 << 33),
            host_address="",
            prefix=self.prefix,
            capabilities=self.capabilities,
            cannot=self.cannot,
            held=tuple(HeldTask(h.ref, n, h.address, h.state, h.exit) for n, h in sorted(self.held.items())),
            highest_epoch=self.highest_epoch,
            cluster_id=self.cluster_id,
            network=self.network,
            reach_domain=self.domain,
            version="0.1.0",
            unsafe=self.unsafe,
            instance=self.instance,
        )

    def reboot(self) -> None:
        """It forgets everything, and has another boot id."""
        self.boot_id = self.boot_id.split("+")[0] + f"+{self.made}.{len(self.answers)}.{len(self.received)}"
        self.held.clear()
        self.answers.clear()
        self.session = ""

    def expire(self, ns: int) -> None:
        """What nobody renewed in time is over."""
        if not self.lease_s:
            return
        for number, held in list(self.held.items()):
            if held.state is TaskState.RESERVED and ns >= held.locked_until_ns:
                del self.held[number]
            elif held.state is TaskState.RUNNING and ns - self.renewed_ns > self.lease_s * SECOND:
                held.state, held.exit = TaskState.EXITED, TaskExit(Reason.LEASE_EXPIRED, 137)

    def carry_out(self, command: fx.Command, ns: int) -> dict[str, Any]:
        """Does a command, once, and says what became of it."""
        if command.command_id not in self.answers:
            code, fields = self._do(command, ns)
            self.answers[command.command_id] = {"code": code, "applied_at": self.stamp(ns), **fields}
        return self.answers[command.command_id]

    def _do(self, command: fx.Command, ns: int) -> tuple[AnswerCode, dict[str, Any]]:
        refused = self.refuse(command)
        if refused is not None:
            return refused[0], {"detail": refused[1]}
        if command.epoch < self.highest_epoch:
            return AnswerCode.STALE, {"detail": "an older epoch"}
        self.highest_epoch, self.cluster_id = command.epoch, command.ref.cluster_id
        held = self.held.get(command.slot)
        mine = held is not None and _same(held.ref, command.ref)
        if isinstance(command.action, fx.Reserve):
            return self._reserve(command, held if mine else None, held is not None, ns)
        if held is None or not mine:
            done = isinstance(command.action, fx.Release)
            return (AnswerCode.DONE if done else AnswerCode.UNKNOWN_TASK), {}
        return self._act(command, held, ns)

    def _reserve(
        self, command: fx.Command, mine: Held | None, taken: bool, ns: int
    ) -> tuple[AnswerCode, dict[str, Any]]:
        if mine is None and taken:
            return AnswerCode.BUSY, {}
        if mine is None:
            self.made += 1
            address = (
                self.fixed.get(command.slot) or f"10.{self.net}.{self.made // 250}.{self.made % 250 + 1}"
            )
            mine = self.held[command.slot] = Held(command.ref, TaskState.RESERVED, address)
            assert isinstance(command.action, fx.Reserve)
            mine.locked_until_ns = ns + int(command.action.ttl_s * SECOND)
        return AnswerCode.READY, {"address": mine.address}

    def _act(self, command: fx.Command, held: Held, ns: int) -> tuple[AnswerCode, dict[str, Any]]:
        fields: dict[str, Any] = {}
        match command.action:
            case fx.Prepare():
                held.state = TaskState.PREPARED
            case fx.Start() | fx.Revive():
                if command.ref.generation <= held.ref.generation:
                    return AnswerCode.STALE, {}
                held.ref, held.state, held.exit, held.paused = command.ref, TaskState.RUNNING, None, False
                self.starts.append(
                    (command.ref.job_id, command.ref.attempt, command.ref.task, command.ref.generation)
                )
            case fx.Kill():
                fields["processes"] = 3 if held.state is TaskState.RUNNING else 0
                if held.state is TaskState.RUNNING:
                    held.state, held.exit = TaskState.KILLED, TaskExit(Reason.KILLED_BY_FAULT)
                    held.paused = False
            case fx.SetNetwork():
                held.network = command.action
            case fx.SetTask(paused, disk_full):
                if paused and held.state is not TaskState.RUNNING:
                    return AnswerCode.FAILED, {"detail": "it does not run"}
                held.paused, held.disk_full = paused, disk_full
            case fx.Signal(number):
                if held.state is not TaskState.RUNNING or held.ref.generation != command.ref.generation:
                    return AnswerCode.FAILED, {"detail": "it does not run"}
                held.signals.append(number)
                fields["processes"] = 2
            case fx.DropBarriers(barrier):
                self.dropped.append(barrier)
                fields["dropped"] = self.droppable
            case fx.Release():
                del self.held[command.slot]
        return AnswerCode.DONE, fields


def _same(one: TaskRef, other: TaskRef) -> bool:
    return (one.cluster_id, one.job_id, one.attempt, one.task) == (
        other.cluster_id,
        other.job_id,
        other.attempt,
        other.task,
    )
