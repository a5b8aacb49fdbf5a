"""A keeper in memory: the protocol of `volunteer/local`, with scripts in the place of make.

It belongs to the machine, not to the volunteer process: tasks, epochs and the lease outlive a crash of the
volunteer. Requests about one slot are done one after the other, those of different slots side by side; a
request that was taken in is carried out although its connection breaks, only its answer is lost. So Sync,
which is answered at once, may tell of an empty slot that a Prepare of the last connection fills a moment
later.

Prepare makes generation 1, a sandbox that waits; Start lets it run. A start that fails uses its generation
up.

The lease: when the clock passes `until_ns`, every task of the cluster is ended, and no Prepare, Start or
Revive of that cluster is taken until it is renewed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from syndicate.volunteer import local
from syndicate.volunteer.local import ErrorCode, SlotState

from .clock import MS, SECOND, Clock
from .keeper_socket import Connection
from .truth import RunTruth, TaskTruth, Truth
from .world import World

CAPABILITIES = ("cut", "disk-full", "kill", "loss", "one-way", "pause", "rate", "reset", "signal")
CANNOT = (local.Incapability("delay", "the kernel has no netem"),)
_OF_A_TASK = local.Start | local.Kill | local.Revive | local.SetNetwork | local.SetTask | local.Signal


@dataclass
class Troubles:
    """How badly the machine behaves; the nemesis changes it. Chances in 0 to 1 for each request."""

    fail: float = 0.0
    stall: float = 0.0


@dataclass(frozen=True, slots=True)
class Machine:
    """What a machine is: `fixed_address` where its slot is on the host's own network, else empty."""

    name: str
    slots: int
    domain: str
    fixed_address: str = ""


class Process:
    """What runs in a slot; made by the host from the script. `kill` must end it at once and silently."""

    def kill(self) -> None:
        """It is gone."""


@dataclass
class Generation:
    """One generation as the keeper keeps it: a sandbox that waits, then make in it, then an end."""

    number: int
    started_at: local.Stamp | None = None
    truth: RunTruth | None = None
    process: Process | None = None
    exit: local.Exit | None = None


@dataclass
class Slot:
    """One slot, and the requests that wait for it."""

    number: int
    state: SlotState = SlotState.EMPTY
    prepared: local.Prepare | None = None
    truth: TaskTruth | None = None
    network: local.NetworkState = local.WHOLE
    paused: bool = False
    disk_full: bool = False
    signals: dict[str, int] = field(default_factory=dict)
    held_up: list[Callable[[], None]] = field(default_factory=list)  # ends that wait until it runs again
    generations: list[Generation] = field(default_factory=list)
    waiting: deque[tuple[Connection, int, local.Request]] = field(default_factory=deque)
    doing: local.Request | None = None
    preempted: bool = False

    @property
    def live(self) -> Generation | None:
        """The generation whose sandbox stands, started or not."""
        last = self.generations[-1] if self.generations else None
        return last if last is not None and last.exit is None else None


MakeProcess = Callable[[local.Prepare, int, Callable[[int, bytes], None]], tuple[Process, bool]]
"""(what was prepared, generation, what to call with status and output at its own end) → process, good."""


class Keeper:
    """One machine's keeper in one boot."""

    def __init__(self, world: World, truth: Truth, machine: Machine, clock: Clock, make: MakeProcess) -> None:
        self.troubles = Troubles()
        self.slots = [Slot(number) for number in range(machine.slots)]
        self.alive = True
        self.bad_sources: set[str] = set()
        self._world, self._truth, self._machine, self._clock = world, truth, machine.name, clock
        self._fixed_address = machine.fixed_address
        self._make = make
        self._epochs: dict[str, int] = {}
        self._leases: dict[str, int] = {}
        self._connection: Connection | None = None

    def connect(self) -> Connection:
        """A volunteer process connects; an older connection is dropped."""
        if self._connection is not None:
            self._connection.lose()
        self._connection = Connection(self._world, self)
        return self._connection

    def die(self) -> None:
        """The machine, or the keeper, is gone, and everything of the tasks with it."""
        self.alive = False
        if self._connection is not None:
            self._connection.lose()
        for slot in self.slots:
            self._end(slot, "machine gone", tell=False)
            self._forget(slot)

    # ---- requests ---------------------------------------------------------------------------------------

    def receive(self, connection: Connection, number: int, request: local.Request) -> None:
        """A request came in."""
        if not self.alive:
            return
        match request:
            case local.Sync():
                connection.reply(number, self._synced())
            case local.Renew():
                connection.reply(number, self._renew(request))
            case _:
                slot_number = getattr(request, "slot", None)
                if slot_number is None or not 0 <= slot_number < len(self.slots):
                    connection.reply(number, local.Refused(ErrorCode.NO_SUCH_SLOT, f"no slot {slot_number}"))
                    return
                slot = self.slots[slot_number]
                if isinstance(request, local.Release) and isinstance(
                    slot.doing, local.Prepare | local.Revive
                ):
                    slot.preempted = slot.doing.task == request.task
                slot.waiting.append((connection, number, request))
                self._next(slot)

    def _next(self, slot: Slot) -> None:
        if slot.doing is not None or not slot.waiting:
            return
        connection, number, request = slot.waiting.popleft()
        slot.doing, slot.preempted = request, False
        stalls = self._world.chance(self.troubles.stall)
        takes = self._world.between(SECOND, 20 * SECOND) if stalls else self._world.between(200_000, 8 * MS)
        begun = self._world.now
        self._world.after(takes, lambda: self._finish(slot, connection, number, begun))

    def _finish(self, slot: Slot, connection: Connection, number: int, begun: int) -> None:
        request, slot.doing = slot.doing, None
        if not self.alive or request is None:
            return
        exits: list[local.Exited] = []
        if slot.preempted:
            reply: local.Reply = local.Refused(ErrorCode.WRONG_STATE, "it was ended while it was being made")
        else:
            reply = self._do(slot, request, self._world.now - begun, exits)
        answered_first = self._world.chance(0.5)
        if answered_first:
            connection.reply(number, reply)
        for event in exits:
            self._tell(event)
        if not answered_first:
            connection.reply(number, reply)
        self._next(slot)

    def _do(self, slot: Slot, request: local.Request, took: int, exits: list[local.Exited]) -> local.Reply:
        done = local.Done(self.stamp(), took)
        if isinstance(request, local.Prepare):
            return self._prepare(slot, request, done)
        if isinstance(request, local.Release):
            return self._release(slot, request, done, exits)
        if not isinstance(request, _OF_A_TASK):
            return local.Refused(ErrorCode.MALFORMED, f"the model does not know {request!r}")
        if slot.prepared is None or slot.prepared.task != request.task:
            return local.Refused(ErrorCode.WRONG_TASK, f"slot {slot.number} does not hold {request.task}")
        if self._world.chance(self.troubles.fail / 2):
            return local.Refused(ErrorCode.FAILED, "the machine is in trouble")
        match request:
            case local.Start():
                return self._start(slot, request, done, exits)
            case local.Kill():
                return self._kill(slot, request, done, exits)
            case local.Revive():
                return self._revive(slot, request, done, exits)
            case local.SetNetwork():
                return self._set_network(slot, request, done)
            case local.SetTask():
                return self._set_task(slot, request, done)
            case local.Signal():
                return self._signal(slot, request, done)

    def _prepare(self, slot: Slot, request: local.Prepare, done: local.Done) -> local.Reply:
        cluster = request.task.cluster_id
        if request.epoch < self._epochs.get(cluster, 0):
            return local.Refused(ErrorCode.WRONG_STATE, "an older epoch")
        self._epochs[cluster] = request.epoch
        if slot.prepared is not None:
            if slot.prepared.task == request.task:
                return local.Done(done.at, done.took_ns, already=True)
            return local.Refused(ErrorCode.WRONG_TASK, f"slot {slot.number} holds {slot.prepared.task}")
        if not self._holds_lease(cluster):
            return local.Refused(ErrorCode.WRONG_STATE, f"there is no lease for {cluster}")
        if request.source in self.bad_sources:
            return local.Refused(ErrorCode.BAD_SOURCE, "not a tar")
        if self._world.chance(self.troubles.fail):
            return local.Refused(ErrorCode.FAILED, "no space left on device")
        slot.prepared, slot.state, slot.generations = request, SlotState.PREPARED, [Generation(1)]
        slot.truth = self._truth.prepared(request.task, self._machine, request.address)
        if self._world.chance(self.troubles.fail):
            self._world.after(self._world.between(0, SECOND), lambda: self._sandbox_dies(slot, request.task))
        return done

    def _start(
        self, slot: Slot, request: local.Start, done: local.Done, exits: list[local.Exited]
    ) -> local.Reply:
        first = slot.generations[0]
        if request.generation == 1 and first.started_at is not None:
            return local.Done(first.started_at, done.took_ns, already=True)
        if slot.state is not SlotState.PREPARED or request.generation != 1:
            return local.Refused(
                ErrorCode.WRONG_STATE, f"start of generation {request.generation} when {slot.state}"
            )
        return self._exec(slot, first, done, exits)

    def _revive(
        self, slot: Slot, request: local.Revive, done: local.Done, exits: list[local.Exited]
    ) -> local.Reply:
        last = slot.generations[-1]
        if request.generation == last.number > 1 and last.started_at is not None:
            return local.Done(last.started_at, done.took_ns, already=True)
        if slot.state is not SlotState.ENDED or request.generation <= last.number:
            return local.Refused(
                ErrorCode.WRONG_STATE, f"revival as {request.generation} when {slot.state}, {last.number}"
            )
        return self._exec(slot, Generation(request.generation), done, exits)

    def _exec(
        self, slot: Slot, generation: Generation, done: local.Done, exits: list[local.Exited]
    ) -> local.Reply:
        prepared, truth = slot.prepared, slot.truth
        assert prepared is not None
        assert truth is not None
        if not self._holds_lease(prepared.task.cluster_id):
            return local.Refused(ErrorCode.WRONG_STATE, f"there is no lease for {prepared.task.cluster_id}")
        if slot.generations[-1] is not generation:
            slot.generations.append(generation)
        slot.state = SlotState.RUNNING
        if self._world.chance(self.troubles.fail / 2):  # the generation is used up all the same
            self._end(slot, "release", exits=exits)
            return local.Refused(ErrorCode.FAILED, "make was not started within 5 s")

        def ends(status: int, output: bytes) -> None:
            self._exit(slot, generation, status, output)

        generation.process, good = self._make(prepared, generation.number, ends)
        names = frozenset(member.task for member in prepared.members)
        generation.truth = self._truth.exec(truth, generation.number, self._machine, names, good)
        generation.started_at = done.at
        return done

    def _sandbox_dies(self, slot: Slot, task: local.TaskId) -> None:
        """The sandbox that waits for its start is ended, by the kernel's OOM killer for instance."""
        held = slot.prepared is not None and slot.prepared.task == task
        if held and slot.state is SlotState.PREPARED and slot.doing is None:
            record = local.Exit(1, 137, False, "", self.stamp(), b"", b"", 0)
            self._record(slot, slot.generations[0], record)

    def _kill(
        self, slot: Slot, request: local.Kill, done: local.Done, exits: list[local.Exited]
    ) -> local.Reply:
        last = slot.generations[-1]
        if request.generation < last.number:
            return local.Refused(ErrorCode.WRONG_STATE, f"generation {last.number} was started since")
        if last.exit is not None:
            return local.Done(done.at, done.took_ns, already=True)
        if request.generation > last.number:
            return local.Refused(ErrorCode.WRONG_STATE, f"generation {last.number} is the last")
        self._end(slot, "kill", exits=exits)
        return local.Done(done.at, done.took_ns, processes=3)

    def _set_network(self, slot: Slot, request: local.SetNetwork, done: local.Done) -> local.Reply:
        assert slot.truth is not None
        already = slot.network == request.network
        slot.network = request.network
        self._truth.network(slot.truth, request.network)
        return local.Done(done.at, done.took_ns, already=already)

    def _set_task(self, slot: Slot, request: local.SetTask, done: local.Done) -> local.Reply:
        if request.paused and slot.state is not SlotState.RUNNING:
            return local.Refused(ErrorCode.WRONG_STATE, "the task does not run")
        already = (slot.paused, slot.disk_full) == (request.paused, request.disk_full)
        slot.disk_full = request.disk_full
        self._set_paused(slot, request.paused)
        return local.Done(done.at, done.took_ns, already=already)

    def _set_paused(self, slot: Slot, paused: bool) -> None:
        """What stands still does nothing; what it would have done comes when it runs again, or never."""
        assert slot.truth is not None
        slot.paused = paused
        self._truth.suffers(slot.truth, slot.paused, slot.disk_full)
        if not paused:
            held_up, slot.held_up = slot.held_up, []
            for end in held_up:
                self._world.after(self._world.between(0, MS), end)

    def _signal(self, slot: Slot, request: local.Signal, done: local.Done) -> local.Reply:
        if request.id in slot.signals:
            return local.Done(done.at, done.took_ns, slot.signals[request.id], already=True)
        if slot.state is not SlotState.RUNNING or request.generation != slot.generations[-1].number:
            return local.Refused(ErrorCode.WRONG_STATE, "that generation does not run")
        assert slot.truth is not None
        slot.signals[request.id] = 2
        self._truth.signalled(slot.truth, request.id, request.number)
        return local.Done(done.at, done.took_ns, processes=2)

    def _release(
        self, slot: Slot, request: local.Release, done: local.Done, exits: list[local.Exited]
    ) -> local.Reply:
        if slot.prepared is None:
            return local.Done(done.at, done.took_ns, already=True)
        if slot.prepared.task != request.task:
            return local.Refused(ErrorCode.WRONG_TASK, f"slot {slot.number} holds {slot.prepared.task}")
        if self._world.chance(self.troubles.fail):
            return local.Refused(ErrorCode.FAILED, "device or resource busy")
        self._end(slot, "release", exits=exits)
        self._forget(slot)
        return done

    # ---- ends -------------------------------------------------------------------------------------------

    def _exit(self, slot: Slot, generation: Generation, status: int, output: bytes) -> None:
        """It ended by itself."""
        if generation.exit is not None or generation.truth is None:
            return
        if slot.paused:
            slot.held_up.append(partial(self._exit, slot, generation, status, output))
            return
        self._truth.ended(generation.truth, killed=False, why=f"exit {status}")
        self._record(
            slot,
            generation,
            local.Exit(generation.number, status, False, "", self.stamp(), output, output, len(output)),
        )

    def _end(
        self, slot: Slot, cause: str, tell: bool = True, exits: list[local.Exited] | None = None
    ) -> None:
        """The keeper ends it, if it lives."""
        generation = slot.live
        if generation is None:
            return
        if generation.process is not None and generation.truth is not None:
            generation.process.kill()
            self._truth.ended(generation.truth, killed=True, why=cause)
        if slot.paused:
            self._set_paused(slot, False)  # the dead do not stand still; what it would have done is void
        record = local.Exit(generation.number, 137, True, cause, self.stamp(), b"", b"", 0)
        if exits is None:
            self._record(slot, generation, record, tell)
        else:
            assert slot.prepared is not None
            generation.exit, slot.state = record, SlotState.ENDED
            exits.append(local.Exited(slot.number, slot.prepared.task, record))

    def _record(self, slot: Slot, generation: Generation, record: local.Exit, tell: bool = True) -> None:
        generation.exit, slot.state = record, SlotState.ENDED
        if tell and slot.prepared is not None:
            self._tell(local.Exited(slot.number, slot.prepared.task, record))

    def _tell(self, event: local.Event) -> None:
        if self._connection is not None:
            self._connection.event(event)

    def _forget(self, slot: Slot) -> None:
        if slot.truth is not None:
            self._truth.gone(slot.truth, self._machine)
        slot.state, slot.prepared, slot.truth = SlotState.EMPTY, None, None
        slot.network, slot.paused, slot.disk_full = local.WHOLE, False, False
        slot.signals, slot.held_up, slot.generations = {}, [], []

    # ---- the lease --------------------------------------------------------------------------------------

    def _renew(self, request: local.Renew) -> local.Reply:
        self._leases[request.cluster_id] = request.until_ns
        self._world.at(self._clock.when(request.until_ns), lambda: self._expire(request.cluster_id))
        return local.Done(self.stamp(), 0)

    def _holds_lease(self, cluster: str) -> bool:
        return self._leases.get(cluster, 0) > self.monotonic()

    def _expire(self, cluster: str) -> None:
        if not self.alive or self.monotonic() < self._leases[cluster]:
            return
        for slot in self.slots:
            if slot.prepared is not None and slot.prepared.task.cluster_id == cluster:
                ends = partial(self._end_by_lease, slot, slot.prepared.task)
                self._world.after(self._world.between(0, 5 * MS), ends)

    def _end_by_lease(self, slot: Slot, task: local.TaskId) -> None:
        if slot.prepared is not None and slot.prepared.task == task:
            self._end(slot, "lease")

    # ---- telling ----------------------------------------------------------------------------------------

    def monotonic(self) -> int:
        """The machine's clock."""
        return self._clock.monotonic(self._world.now)

    def stamp(self) -> local.Stamp:
        """Now, on the machine's clock."""
        return local.Stamp(self._clock.boot_id, self.monotonic(), self._clock.utc(self._world.now))

    def _synced(self) -> local.Synced:
        return local.Synced(
            instance=self._machine,
            boot_id=self._clock.boot_id,
            network="host" if self._fixed_address else "fabric",
            fixed_address=self._fixed_address,
            capabilities=CAPABILITIES,
            epochs=dict(self._epochs),
            slots=tuple(_slot_info(slot) for slot in self.slots),
            cannot=CANNOT,
        )


def _slot_info(slot: Slot) -> local.SlotInfo:
    if slot.prepared is None:
        return local.SlotInfo(slot.number, slot.state)
    return local.SlotInfo(
        slot.number,
        slot.state,
        slot.prepared.task,
        slot.prepared.role,
        slot.prepared.address,
        slot.prepared.members,
        slot.network,
        slot.paused,
        slot.disk_full,
        tuple(
            local.GenerationInfo(g.number, g.started_at, g.exit, g.exit.log_bytes if g.exit else 0)
            for g in slot.generations
        ),
    )
