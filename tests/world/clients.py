"""Client tasks: they call ChaosControl through their volunteer's relay, and the answers they get are checked.

An answer says that something holds. It is compared with the truth over the whole interval from the first call
to the answer, and exactly at the answer when nobody else did anything to the same member meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from syndicate.manager.core import effects, errors, events, model
from syndicate.volunteer import local

from . import convert
from .clock import MS, SECOND
from .keeper_model import Process
from .rpc import Call, Failure, Outcome
from .scripts import ChaosStep, ClientRun
from .truth import TaskTruth, Truth
from .volunteer_host import VolunteerHost
from .world import Timer, Violation, World

RETRY_WITHIN_NS = 30 * SECOND
CALL_DEADLINE_NS = 8 * SECOND
LOSS = 10.0  # percent
SIGNAL = 10

_PLAIN: dict[str, Callable[[int, str, events.ChaosCaller, tuple[str, ...]], events.Event]] = {
    "kill": events.KillRequested,
    "reconnect": events.ReconnectRequested,
    "resume": events.ResumeRequested,
}
_LEASED: dict[str, Callable[[int, str, events.ChaosCaller, tuple[str, ...], float | None], events.Event]] = {
    "disconnect": events.DisconnectRequested,
    "reset": events.ResetRequested,
    "pause": events.PauseRequested,
    "fill": events.DiskFullRequested,
}
# Of these the answers name other members than the call; `invariants` sees whether they did what they should.
_OF_THE_LEDGER = frozenset({"partition", "heal"})


@dataclass(slots=True)
class Operation:
    """One fault asked for; `ended_at` None while it may still take effect."""

    kind: str
    target: str
    began_at: int
    ended_at: int | None = None
    leased: bool = False


@dataclass
class Reports:
    """What the clients of one attempt did and said; the verdict is checked against it."""

    operations: list[Operation] = field(default_factory=list)
    tried: dict[str, set[int]] = field(default_factory=dict)
    acknowledged: dict[str, int] = field(default_factory=dict)
    answered: int = 0


Book = dict[tuple[str, int, int], Reports]
"""Reports by cluster, job and attempt."""


Make = Callable[[int, str, events.ChaosCaller], events.Event]
"""(call, request id, who calls) → the manager's event."""


class ClientProcess(Process):
    """One generation of a client."""

    def __init__(
        self,
        world: World,
        truth: Truth,
        host: VolunteerHost,
        prepared: local.Prepare,
        generation: int,
        run: ClientRun,
        reports: Reports,
        ends: Callable[[int, bytes], None],
    ) -> None:
        self._world, self._truth, self._host = world, truth, host
        self._task, self._generation = prepared.task, generation
        self._members = {member.task: member for member in prepared.members}
        self._steps = list(run.steps)
        self._run, self._reports, self._ends = run, reports, ends
        self._alive = True
        self._call: Call | None = None
        self._timer: Timer | None = None
        self._requests = 0
        self._next()

    def kill(self) -> None:
        """It is gone, and whatever it was about to hear."""
        self._alive = False
        if self._call is not None:
            self._call.abandon()
        if self._timer is not None:
            self._timer.cancel()

    # ---- the script -------------------------------------------------------------------------------------

    def _wait(self, delay_ns: int, do: Callable[[], None]) -> None:
        self._timer = self._world.after(delay_ns, lambda: do() if self._alive else None)

    def _next(self) -> None:
        if self._steps:
            step = self._steps.pop(0)
            self._wait(step.wait_ns, lambda: self._fault(step))
        elif self._run.outcome is None:
            self._wait(MS, lambda: self._exit(0))
        else:
            self._wait(MS, self._finish)

    def _exit(self, status: int) -> None:
        self._alive = False
        self._ends(status, b"")

    def _fault(self, step: ChaosStep) -> None:
        leased = step.lease_s is not None
        operations = [Operation(step.kind, target, self._world.now, None, leased) for target in step.targets]
        self._reports.operations += operations
        ips = tuple(self._members[target].address for target in step.targets)

        def make(call: int, request: str, caller: events.ChaosCaller) -> events.Event:
            return _request(step, call, request, caller, ips)

        def done(value: Outcome) -> None:
            replies = value.members if isinstance(value, effects.FaultsReply) else (value,)
            for operation in operations:
                if not isinstance(value, Failure | errors.TooLate):
                    operation.ended_at = self._world.now
            if step.kind in _OF_THE_LEDGER:
                self._reports.answered += isinstance(value, effects.FaultsReply)
            elif len(replies) == len(operations):
                for operation, reply in zip(operations, replies, strict=True):
                    if isinstance(reply, effects.FaultReply):
                        self._reports.answered += 1
                        self._check(operation, reply)
            elif isinstance(value, effects.FaultReply):
                raise Violation(f"{step} was answered for one member only: {value}")
            self._next()

        self._ask(make, done)

    def _finish(self) -> None:
        assert self._run.outcome is not None
        outcome = model.Outcome(self._run.outcome)
        self._reports.tried.setdefault(self._task.task, set()).add(int(outcome))

        def make(call: int, request: str, caller: events.ChaosCaller) -> events.Event:
            return events.FinishRequested(call, request, caller, model.Result(outcome))

        def done(value: Outcome) -> None:
            if isinstance(value, effects.FinishReply):
                self._reports.acknowledged.setdefault(self._task.task, int(outcome))
            if not self._run.lingers:
                self._wait(MS, lambda: self._exit(0))

        self._ask(make, done)

    # ---- calls ------------------------------------------------------------------------------------------

    def _ask(self, make: Make, done: Callable[[Outcome], None]) -> None:
        """Asks until something else than gRPC's own failures comes, under one request id, for a while."""
        self._requests += 1
        task = self._task
        request = f"{task.job_id}.{task.attempt}-{task.task}-{self._generation}-{self._requests}"
        give_up = self._world.now + RETRY_WITHIN_NS

        def answered(value: Outcome) -> None:
            self._call = None
            if not self._alive:
                return
            again = isinstance(value, Failure | errors.Away | errors.TooLate)
            if again and self._world.now < give_up:
                self._wait(self._world.between(20 * MS, 2 * SECOND), ask)
            else:
                self._world.note(self._task.task, "heard", f"{request}: {value!r}")
                done(value)

        def ask() -> None:
            host = self._host
            relayed = host.relayed(self._task)
            if relayed is None or host.managers[relayed[0]].address != relayed[0]:
                answered(Failure.UNAVAILABLE)
                return
            link, ref = relayed
            caller = events.ChaosCaller(host.name, convert.ref(ref))
            self._call = Call(
                self._world,
                host.weather[link],
                host.managers[link],
                lambda call: make(call, request, caller),
                answered,
                CALL_DEADLINE_NS,
            )

        ask()

    # ---- what an answer must mean -----------------------------------------------------------------------

    def _check(self, operation: Operation, reply: effects.FaultReply) -> None:
        task = self._task
        since, until = operation.began_at, self._world.now
        targets = [
            truth
            for truth in self._truth.of(task.cluster_id, task.job_id, task.attempt)
            if truth.task.task == operation.target
        ]
        if not targets:
            raise Violation(f"{operation} was answered OK, but {operation.target} was never there")
        target = targets[-1]
        job = self._host.managers[task.cluster_id].store.jobs[task.job_id]
        if job.spec.replay_of:
            return  # it stands for a recorded call, which may have held long ago; `invariants` sees to those
        lasts = not operation.leased and target.gone_at is None
        if lasts and self._alone(operation) and job.state is model.JobState.RUNNING:
            since = until  # nobody changed it since: it must hold at this moment
        if not self._holds(operation, reply, target, since, until):
            raise Violation(
                f"job {task.job_id}.{task.attempt}: {operation} was answered OK ({reply}), but it did not "
                f"hold between {since / SECOND:.6f} and {until / SECOND:.6f}: {target}"
            )

    def _holds(
        self, operation: Operation, reply: effects.FaultReply, target: TaskTruth, since: int, until: int
    ) -> bool:
        if reply.already and target.gone_at is not None:
            return True  # its machine is gone, and the manager cannot know it yet
        others = frozenset(m.address for m in self._members.values() if m.role is not local.Role.CLIENT)
        match operation.kind:
            case "kill":
                return target.dead_between(since, until)
            case "revive":
                # It may have ended by itself since; that one lives already is the manager's knowledge, which
                # is as old as the last word of its volunteer may be.
                lag = int(self._host.managers[target.task.cluster_id].config.lost_after_s * SECOND)
                began = operation.began_at - (lag if reply.already else 0)
                return target.alive_between(reply.generation, began, until)
            case "disconnect":
                own = frozenset({target.address})
                return target.cut_between(others - own, since, until) or target.cut_between(
                    others | own, since, until
                )
            case "reset":
                return target.off_between(others - {target.address}, since, until)
            case "degrade":
                return target.loses_between(LOSS, since, until)
            case "reconnect":
                parted = any(other.kind == "partition" for other in self._reports.operations)
                return parted or target.whole_between(since, until)
            case _:
                return self._suffers(operation, reply, target, since, until)

    def _suffers(
        self, operation: Operation, reply: effects.FaultReply, target: TaskTruth, since: int, until: int
    ) -> bool:
        """The same of what a task suffers beside its network."""
        if operation.kind == "fill":
            return any(full for _, full in target.suffered_between(since, until))
        if operation.kind == "resume":
            return any(not paused for paused, _ in target.suffered_between(since, until))
        # It may have ended since, and with it what stood still: as with a revival.
        lag = int(self._host.managers[target.task.cluster_id].config.lost_after_s * SECOND)
        began = operation.began_at - (lag if reply.already else 0)
        if operation.kind == "pause":
            return any(paused for paused, _ in target.suffered_between(began, until))
        return target.signalled_between(SIGNAL, began, until)

    def _alone(self, operation: Operation) -> bool:
        return not any(
            other is not operation
            and other.target == operation.target
            and (other.ended_at is None or other.ended_at > operation.began_at)
            for other in self._reports.operations
        )


def _request(
    step: ChaosStep, call: int, request: str, caller: events.ChaosCaller, ips: tuple[str, ...]
) -> events.Event:
    """What a step asks of the manager."""
    match step.kind:
        case "revive":
            return events.ReviveRequested(call, request, caller, ips, step.with_disk)
        case "degrade":
            loss = model.Degradation(loss_percent=LOSS)
            return events.DegradeRequested(call, request, caller, ips, loss, lease_s=step.lease_s)
        case "partition":
            shape, one_way = step.draw % 5 + 1, step.draw % 2 == 0
            one_way &= shape != model.PartitionShape.MAJORITY_RING
            return events.PartitionRequested(
                call, request, caller, (), shape, "", one_way, step.draw, step.lease_s
            )
        case "heal":
            return events.HealRequested(call, request, caller, (1,) if step.draw % 3 == 0 else ())
        case "signal":
            return events.SignalRequested(call, request, caller, ips, SIGNAL)
    if step.kind in _LEASED:
        return _LEASED[step.kind](call, request, caller, ips, step.lease_s)
    return _PLAIN[step.kind](call, request, caller, ips)
