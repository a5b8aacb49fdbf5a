"""What really happened on the machines, as an observer outside of the world sees it.

Every keeper's model tells it of what it does, at true time. It never speaks to the cores; the checks of
`invariants` compare what the cores say with what stands here, and some checks are made here, at the moment of
the deed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from syndicate.volunteer.local import WHOLE, NetworkState, TaskId

from .world import Violation, World

T = TypeVar("T")


@dataclass(slots=True)
class RunTruth:
    """One exec of make that really was. `ended_at` None: it runs. `killed`: it did not end by itself."""

    task: TaskId
    generation: int
    machine: str
    started_at: int
    good: bool = False
    ended_at: int | None = None
    killed: bool = False


@dataclass(slots=True)
class TaskTruth:
    """A task from its Prepare to its Release: its runs, and all that it suffered, with the time it began.

    `cuts` are those of `networks` in both directions. `sufferings` are (since, paused, disk full).
    """

    task: TaskId
    address: str
    runs: list[RunTruth] = field(default_factory=list)
    cuts: list[tuple[int, frozenset[str]]] = field(default_factory=list)
    networks: list[tuple[int, NetworkState]] = field(default_factory=list)
    sufferings: list[tuple[int, bool, bool]] = field(default_factory=list)
    signals: dict[str, tuple[int, int]] = field(default_factory=dict)  # by request: since, number
    gone_at: int | None = None

    def dead_between(self, since: int, until: int) -> bool:
        """Whether at some moment of the closed interval no process of it lived."""
        covered = (
            r for r in self.runs if r.started_at < since and (r.ended_at is None or r.ended_at > until)
        )
        return next(covered, None) is None

    def alive_between(self, generation: int, since: int, until: int) -> bool:
        """Whether that generation lived at some moment of the closed interval."""
        return any(
            run.generation == generation
            and run.started_at <= until
            and (run.ended_at is None or run.ended_at >= since)
            for run in self.runs
        )

    def cut_between(self, cut: frozenset[str], since: int, until: int) -> bool:
        """Whether that cut set held at some moment of the closed interval."""
        return any(held == cut for held in self._between(self.cuts, since, until))

    def off_between(self, others: frozenset[str], since: int, until: int) -> bool:
        """Whether it exchanged nothing with those at some moment of the closed interval, told or not."""
        networks = self._between(self.networks, since, until)
        return any(others <= {*network.cut, *network.reset} for network in networks)

    def whole_between(self, since: int, until: int) -> bool:
        """Whether it was cut off from nobody at some moment of the closed interval."""
        networks = self._between(self.networks, since, until)
        return any(not (network.cut or network.reset) for network in networks)

    def loses_between(self, percent: float, since: int, until: int) -> bool:
        """Whether so much or more of all that it exchanged was lost at some moment of the closed interval."""
        return any(
            link.peer == "" and min(link.sent.loss_percent, link.heard.loss_percent) >= percent
            for network in self._between(self.networks, since, until)
            for link in network.links
        )

    def suffered_between(self, since: int, until: int) -> list[tuple[bool, bool]]:
        """Whether it stood still, and whether its disk was full, at the moments of the closed interval."""
        return self._between([(at, (paused, full)) for at, paused, full in self.sufferings], since, until)

    def signalled_between(self, number: int, since: int, until: int) -> bool:
        """Whether it was sent that signal in the closed interval."""
        return any(since <= at <= until and number == sent for at, sent in self.signals.values())

    def _between(self, held: Sequence[tuple[int, T]], since: int, until: int) -> list[T]:
        """All that held at some moment of the closed interval, of what held each from a moment on."""
        ends = [*(began for began, _ in held[1:]), self.gone_at]
        return [
            what
            for (began, what), ended in zip(held, ends, strict=True)
            if began <= until and (ended is None or ended >= since)
        ]


class Truth:
    """All machines of the world."""

    def __init__(self, world: World, gang_size: Callable[[str, int], int]) -> None:
        self._world = world
        self._gang_size = gang_size
        self.domains: dict[str, str] = {}
        self.tasks: dict[tuple[TaskId, str], TaskTruth] = {}
        self._where: dict[tuple[TaskId, int], str] = {}
        self._prepared: defaultdict[tuple[str, int, int], dict[str, str]] = defaultdict(dict)
        self._running: defaultdict[tuple[str, int], dict[tuple[TaskId, int], int]] = defaultdict(dict)
        self._addresses: dict[str, tuple[TaskId, str]] = {}

    def prepared(self, task: TaskId, machine: str, address: str) -> TaskTruth:
        """A slot's disk and network stand."""
        holder = self._addresses.get(address)
        if holder is not None and holder != (task, machine):
            raise Violation(f"{address} of {task} on {machine} is {holder}'s too")
        self._addresses[address] = (task, machine)
        self._prepared[task.cluster_id, task.job_id, task.attempt][task.task] = self.domains[machine]
        truth = TaskTruth(task, address)
        truth.cuts.append((self._world.now, frozenset()))
        truth.networks.append((self._world.now, WHOLE))
        truth.sufferings.append((self._world.now, False, False))
        self.tasks[task, machine] = truth
        return truth

    def exec(
        self, truth: TaskTruth, generation: int, machine: str, members: frozenset[str], good: bool
    ) -> RunTruth:
        """make was exec'd. Checks: never twice; a gang is whole; no other attempt of the job runs."""
        task = truth.task
        if (task, generation) in self._where:
            raise Violation(f"{task} generation {generation} was exec'd twice, now on {machine}")
        self._where[task, generation] = machine
        gang = self._prepared[task.cluster_id, task.job_id, task.attempt]
        if missing := members - gang.keys():
            raise Violation(f"{task} started although {sorted(missing)} were never prepared")
        if len(set(gang.values())) > 1:
            raise Violation(f"the gang of {task} is spread over domains that cannot reach each other: {gang}")
        if len(members) != self._gang_size(task.cluster_id, task.job_id):
            raise Violation(f"{task} started in a gang of {sorted(members)}")
        running = self._running[task.cluster_id, task.job_id]
        for other, _ in running:
            if other.attempt != task.attempt:
                raise Violation(f"{task} started on {machine} while {other} of another attempt runs")
        run = RunTruth(task, generation, machine, self._world.now, good)
        running[task, generation] = self._world.now
        truth.runs.append(run)
        self._world.note(
            machine, "exec", f"{task.cluster_id}/{task.job_id}.{task.attempt} {task.task} #{generation}"
        )
        return run

    def ended(self, run: RunTruth, killed: bool, why: str) -> None:
        """Its processes are gone."""
        run.ended_at = self._world.now
        run.killed = killed
        task = run.task
        del self._running[task.cluster_id, task.job_id][task, run.generation]
        self._world.note(
            run.machine,
            "ended",
            f"{task.cluster_id}/{task.job_id}.{task.attempt} {task.task} #{run.generation} {why}",
        )

    def network(self, truth: TaskTruth, network: NetworkState) -> None:
        """The slot's network suffers exactly this."""
        truth.networks.append((self._world.now, network))
        truth.cuts.append((self._world.now, frozenset(network.cut)))

    def suffers(self, truth: TaskTruth, paused: bool, disk_full: bool) -> None:
        """The task suffers exactly this beside its network. Checks: only what runs stands still."""
        if paused and not (truth.runs and truth.runs[-1].ended_at is None):
            raise Violation(f"{truth.task} stands still and does not run")
        truth.sufferings.append((self._world.now, paused, disk_full))

    def signalled(self, truth: TaskTruth, name: str, number: int) -> None:
        """A signal was sent. Checks: never twice for one request."""
        if name in truth.signals:
            raise Violation(f"{truth.task} was sent signal {number} twice for {name}")
        truth.signals[name] = (self._world.now, number)

    def gone(self, truth: TaskTruth, machine: str) -> None:
        """Nothing of the task is left on the machine."""
        truth.gone_at = self._world.now
        if self._addresses.get(truth.address) == (truth.task, machine):
            del self._addresses[truth.address]

    @property
    def execs(self) -> int:
        """How many times make was exec'd."""
        return len(self._where)

    def gangs(self) -> list[list[str]]:
        """The machines of each gang that runs now."""
        found: dict[tuple[str, int, int], set[str]] = {}
        for running in self._running.values():
            for task, generation in running:
                machine = self._where[task, generation]
                found.setdefault((task.cluster_id, task.job_id, task.attempt), set()).add(machine)
        return [sorted(machines) for machines in found.values()]

    def of(self, cluster: str, job_id: int, attempt: int) -> list[TaskTruth]:
        """All tasks that were ever prepared for an attempt."""
        wanted = (cluster, job_id, attempt)
        return [
            t for t in self.tasks.values() if (t.task.cluster_id, t.task.job_id, t.task.attempt) == wanted
        ]
