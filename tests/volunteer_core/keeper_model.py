"""A keeper without a host: it answers as `syndicate.volunteer.local` says, from a few dictionaries."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from syndicate.volunteer import local
from syndicate.volunteer.local import ErrorCode, SlotState

PROCESSES = 3


@dataclass
class Held:
    """What the model has on one slot."""

    state: SlotState = SlotState.EMPTY
    prepared: local.Prepare | None = None
    network: local.NetworkState = local.WHOLE
    paused: bool = False
    disk_full: bool = False
    signals: dict[str, int] = field(default_factory=dict)
    generations: dict[int, local.GenerationInfo] = field(default_factory=dict)
    logs: dict[int, bytes] = field(default_factory=dict)


class KeeperModel:
    """Holds slots. Every start made is in `starts`; what was wanted twice in one connection in `asked_twice`.

    A keeper starts a generation once however often it is asked; the core must not rest on that, except after
    a reconnect, when it cannot know whether its question had arrived.
    """

    def __init__(self, slots: int = 2, boot_id: str = "boot", fixed_address: str = "") -> None:
        self.slots = {number: Held() for number in range(slots)}
        self.boot_id = boot_id
        self.fixed_address = fixed_address
        self.capabilities: tuple[str, ...] = ("cut", "kill")
        self.cannot: tuple[local.Incapability, ...] = ()
        self.epochs: dict[str, int] = {}
        self.leases: dict[str, int] = {}
        self.starts: list[tuple[local.TaskId, int]] = []
        self.signals: list[tuple[local.TaskId, str]] = []  # every one that was sent
        self.asked: set[tuple[local.TaskId, int]] = set()
        self.asked_twice: list[tuple[local.TaskId, int]] = []
        self.refuse: dict[type, local.Refused] = {}
        self.requests: list[local.Request] = []
        self.events: list[local.Event] = []
        self.droppable = 1  # barriers at a slot's sync server
        self.now_ns = 0
        self.reboots = self.used = False
        self.reboots_asked = 0

    def stamp(self) -> local.Stamp:
        """The model's idea of now."""
        return local.Stamp(self.boot_id, self.now_ns, self.now_ns)

    def done(self, processes: int = 0, already: bool = False, at: local.Stamp | None = None) -> local.Done:
        """A Done of a thousandth of a second."""
        return local.Done(at or self.stamp(), 1_000_000, processes, already)

    def ask(self, request: local.Request) -> local.Reply:
        """Answers a request as a keeper would."""
        self.requests.append(request)
        if type(request) in self.refuse:
            return self.refuse[type(request)]
        match request:
            case local.Sync():
                return self.synced()
            case local.Renew():
                self.leases[request.cluster_id] = request.until_ns
                return self.done()
            case local.Audit():
                in_use = (f"slot {n}" for n, held in self.slots.items() if held.state is not SlotState.EMPTY)
                return local.Audited(tuple(in_use), ())
            case local.Reboot():
                self.reboots_asked += 1
                return self.done()
            case local.Prepare():
                self.used = True
                return self._prepare(request)
            case local.Release():
                return self._release(request)
        held = self.slots.get(request.slot)
        if held is None:
            return local.Refused(ErrorCode.NO_SUCH_SLOT, "no such slot")
        if held.prepared is None or held.prepared.task != request.task:
            return local.Refused(ErrorCode.WRONG_TASK, "the slot holds another task, or none")
        match request:
            case local.Start():
                return self._start(held, request.task, request.generation)
            case local.Revive():
                return self._revive(held, request)
            case local.Kill():
                return self._kill(held, request)
            case local.SetNetwork():
                held.network = request.network
                return self.done()
            case local.SetTask():
                return self._set_task(held, request)
            case local.Signal():
                return self._signal(held, request)
            case local.DropBarriers():
                if not held.prepared.serve_sync:
                    return local.Refused(ErrorCode.WRONG_STATE, "the slot has no sync server")
                return replace(self.done(), dropped=self.droppable)
            case local.ReadLog():
                return self._read(held, request)

    def _prepare(self, request: local.Prepare) -> local.Reply:
        held = self.slots[request.slot]
        if held.prepared is not None and held.prepared.task != request.task:
            return local.Refused(ErrorCode.WRONG_TASK, "the slot holds another task")
        if request.epoch < self.epochs.get(request.task.cluster_id, 0):
            return local.Refused(ErrorCode.WRONG_STATE, "an older epoch")
        self.epochs[request.task.cluster_id] = request.epoch
        if held.prepared is None:
            first = local.GenerationInfo(1, None, None, 0)  # its sandbox stands ready
            self.slots[request.slot] = Held(
                SlotState.PREPARED, request, generations={1: first}, logs={1: b""}
            )
        return self.done(already=held.prepared is not None)

    def _start(self, held: Held, task: local.TaskId, generation: int) -> local.Reply:
        if (task, generation) in self.asked:
            self.asked_twice.append((task, generation))
        self.asked.add((task, generation))
        known = held.generations.get(generation)
        if known is not None and known.started_at is not None:
            return self.done(already=True, at=known.started_at)
        if held.state is SlotState.ENDED and known is not None:
            return local.Refused(ErrorCode.WRONG_STATE, "its sandbox has ended")
        if generation < max(held.generations):
            return local.Refused(ErrorCode.WRONG_STATE, "an older generation")
        self.starts.append((task, generation))
        held.generations[generation] = local.GenerationInfo(generation, self.stamp(), None, 0)
        held.logs[generation] = b""
        held.state = SlotState.RUNNING
        return self.done()

    def _revive(self, held: Held, request: local.Revive) -> local.Reply:
        if held.state is SlotState.RUNNING and request.generation not in held.generations:
            return local.Refused(ErrorCode.WRONG_STATE, "it runs")
        return self._start(held, request.task, request.generation)

    def _kill(self, held: Held, request: local.Kill) -> local.Reply:
        info = held.generations.get(request.generation)
        if info is None:
            return local.Refused(ErrorCode.WRONG_STATE, "there is no such generation")
        if info.exit is not None:
            return self.done(already=True)
        self.end(request.slot, 137, killed=True, cause="kill")
        return self.done(PROCESSES)

    def _set_task(self, held: Held, request: local.SetTask) -> local.Reply:
        if request.paused and held.state is not SlotState.RUNNING:
            return local.Refused(ErrorCode.WRONG_STATE, "nothing runs")
        held.paused, held.disk_full = request.paused, request.disk_full
        return self.done()

    def _signal(self, held: Held, request: local.Signal) -> local.Reply:
        if request.id in held.signals:
            return self.done(PROCESSES, already=True)
        if held.state is not SlotState.RUNNING or request.generation != max(held.generations):
            return local.Refused(ErrorCode.WRONG_STATE, "that generation does not run")
        held.signals[request.id] = request.number
        self.signals.append((request.task, request.id))
        return self.done(PROCESSES)

    def _release(self, request: local.Release) -> local.Reply:
        held = self.slots[request.slot]
        if held.prepared is None:
            return self.done(already=True)
        if held.prepared.task != request.task:
            return local.Refused(ErrorCode.WRONG_TASK, "the slot holds another task")
        if held.state is SlotState.RUNNING:
            self.end(request.slot, 137, killed=True, cause="release")
        self.slots[request.slot] = Held()
        self.asked = {(task, generation) for task, generation in self.asked if task != request.task}
        return self.done()

    def _read(self, held: Held, request: local.ReadLog) -> local.Reply:
        info = held.generations.get(request.generation)
        if info is None:
            return local.Refused(ErrorCode.WRONG_STATE, "no such generation")
        output = held.logs[request.generation]
        data = output[request.offset : request.offset + request.limit]
        piece = local.LogPiece(request.offset, local.LogStream.STDOUT, self.stamp(), data)
        after = request.offset + len(data)
        ended = info.exit is not None and after == len(output)
        return local.LogRead((piece,) if data else (), after, ended)

    # ---- what happens on the host ----------------------------------------------------------------------

    def end(
        self, slot: int, status: int, *, killed: bool = False, cause: str = "", output: bytes = b""
    ) -> None:
        """The running generation ends."""
        held = self.slots[slot]
        assert held.prepared is not None
        last = max(held.generations)
        held.logs[last] += output
        whole = held.logs[last]
        ended = local.Exit(last, status, killed, cause, self.stamp(), whole[:4096], whole[-4096:], len(whole))
        held.generations[last] = replace(held.generations[last], exit=ended, log_bytes=len(whole))
        held.state, held.paused = SlotState.ENDED, False
        self.events.append(local.Exited(slot, held.prepared.task, ended))

    def write(self, slot: int, output: bytes) -> None:
        """The running generation writes something."""
        held = self.slots[slot]
        assert held.prepared is not None
        last = max(held.generations)
        held.logs[last] += output
        held.generations[last] = replace(held.generations[last], log_bytes=len(held.logs[last]))
        self.events.append(local.LogGrew(slot, held.prepared.task, last, len(held.logs[last])))

    def lose_all(self) -> None:
        """As after a restart of the keeper: nothing is held."""
        self.slots = {number: Held() for number in self.slots}

    def synced(self) -> local.Synced:
        """What there is, told to a new connection."""
        self.asked.clear()
        infos = []
        for number, held in self.slots.items():
            asked = held.prepared
            if asked is None:
                infos.append(local.SlotInfo(number, SlotState.EMPTY))
                continue
            infos.append(
                local.SlotInfo(
                    number,
                    held.state,
                    asked.task,
                    asked.role,
                    asked.address,
                    asked.members,
                    held.network,
                    held.paused,
                    held.disk_full,
                    tuple(held.generations.values()),
                )
            )
        network = "host" if self.fixed_address else "fabric"
        return local.Synced(
            "test",
            self.boot_id,
            network,
            self.fixed_address,
            self.capabilities,
            dict(self.epochs),
            tuple(infos),
            cannot=self.cannot,
            reboots=self.reboots,
            used=self.used,
        )
