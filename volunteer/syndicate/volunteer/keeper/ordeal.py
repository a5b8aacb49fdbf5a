"""What a slot's task suffers: its network, that it stands still, that its disk is full, signals."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from ..local import WHOLE, ErrorCode, NetworkState, SetNetwork, SetTask, Signal
from .cgroups import CgroupError
from .errors import KeeperError, failed
from .freezing import frozen
from .generation import Generation
from .ground import Ground
from .network import SlotNetwork
from .runs import Runs
from .together import Together
from .worker import Worker

_FREEZE_SECONDS = 2.0
_HOLD_SECONDS = 0.25  # for a signal, which goes out all the same
_MAX_SIGNALS = 1000  # of a task, of which it is known that they were sent; repeats come within moments


@dataclass(frozen=True)
class Undergone:
    """What became of a request; see local.Done."""

    already: bool
    processes: int = 0


class Ordeal:
    """Of one slot; used on the loop, in the slot's turn, but for `give_up`.

    What the network and the disk suffer stays over generations; what stands still ends with its generation.
    """

    def __init__(self, worker: Worker, ground: Ground, runs: Runs, networks: Together) -> None:
        self._worker = worker
        self._ground = ground
        self._runs = runs
        self._networks = networks
        self._stop: asyncio.Event | None = None  # while processes are being frozen
        self.forget()

    def forget(self) -> None:
        """The task is gone, or has just come; nothing of the last one is left."""
        self.network: NetworkState = WHOLE
        self.disk_full = False
        self._network_is_sure = self._disk_is_sure = True
        self._sent: OrderedDict[str, int] = OrderedDict()

    def give_up(self) -> None:
        """Wait no longer for processes to freeze: they are to be ended."""
        if self._stop is not None:
            self._stop.set()

    async def undergo(self, request: SetNetwork | SetTask | Signal) -> Undergone:
        """Do what is asked; raises KeeperError, CgroupError, OSError."""
        match request:
            case SetNetwork():
                return await self._set_network(request.network)
            case SetTask():
                return await self._set_task(request.paused, request.disk_full)
            case Signal():
                return await self._signal(request)

    def network_for(self, wanted: NetworkState) -> SlotNetwork | None:
        """The network, if it has to be changed to suffer this; None if it is known to do so."""
        if self._network_is_sure and wanted == self.network:
            return None
        return self._ground.network

    def doubt_network(self) -> None:
        """A change of it has begun, or failed: an error may come after the kernel took it."""
        self._network_is_sure = False

    def note_network(self, state: NetworkState) -> None:
        """The network was changed, and suffers this."""
        self.network, self._network_is_sure = state, True

    async def _set_network(self, wanted: NetworkState) -> Undergone:
        network = self.network_for(wanted)
        if network is None:
            return Undergone(already=True)
        self.doubt_network()  # now: the request may be given up while it is waited for
        await self._networks.set_state(self._worker, network, wanted)
        self.note_network(wanted)
        return Undergone(already=False)

    async def _set_task(self, paused: bool, disk_full: bool) -> Undergone:
        generation = self._runs.current
        was_paused = generation.stands_still
        disk_differs = disk_full != self.disk_full or not self._disk_is_sure
        if paused and not was_paused:
            await self._pause(generation)  # first, so that nothing is written meanwhile
        try:
            if disk_differs:
                await self._set_disk(disk_full)
        except BaseException:  # also where the request is given up: who asked is not told that it holds
            if paused and not was_paused:
                self._thaw(generation)
            raise
        if was_paused and not paused:
            await self._resume(generation)
        return Undergone(already=paused == was_paused and not disk_differs)

    async def _set_disk(self, full: bool) -> None:
        self._disk_is_sure = False
        await self._worker.run(lambda: self._ground.set_disk_full(full))
        self.disk_full, self._disk_is_sure = full, True

    # ---- standing still

    async def _pause(self, generation: Generation) -> None:
        _require_running(generation, generation.number)
        held = False
        try:
            held = await self._freeze(generation, _FREEZE_SECONDS)
        finally:
            if not held:
                self._thaw(generation)
        if generation.emptied_at is not None or generation.box.cgroup.is_empty():
            raise _ended(generation)
        if not held:
            raise failed(f"processes of generation {generation.number} do not freeze")
        generation.paused = True

    async def _freeze(self, generation: Generation, seconds: float) -> bool:
        stop = self._stop = asyncio.Event()
        try:
            generation.box.cgroup.set_frozen(True)
            return await frozen(generation.box.cgroup, seconds, stop)
        finally:
            self._stop = None

    async def _resume(self, generation: Generation) -> None:
        """Let it run again, with the signals that it was sent meanwhile."""
        numbers, generation.signals = list(generation.signals), {}

        def send() -> None:
            for number in numbers:
                generation.box.send(number)

        try:
            if numbers:
                await self._worker.run(send)
        finally:
            self._thaw(generation)

    def _thaw(self, generation: Generation) -> None:
        """Harmless where it has ended meanwhile, and its cgroup is gone with it."""
        try:
            generation.box.cgroup.set_frozen(False)
        except CgroupError:
            if not generation.box.cgroup.is_empty():
                raise
        generation.paused = False

    # ---- signals

    async def _signal(self, request: Signal) -> Undergone:
        if request.id in self._sent:
            return Undergone(already=True, processes=self._sent[request.id])
        generation, number = self._runs.current, request.number
        _require_running(generation, request.generation)
        if generation.stands_still:
            # The kernel would end at once what has no handler for it, frozen or not.
            count = await self._worker.run(generation.box.count_targets)
            generation.signals[number] = None
        else:
            count = await self._send(generation, lambda: generation.box.send(number))
        self._sent[request.id] = count
        if len(self._sent) > _MAX_SIGNALS:
            self._sent.popitem(last=False)
        return Undergone(already=False, processes=count)

    async def _send(self, generation: Generation, send: Callable[[], int]) -> int:
        """At one moment of the task: what a process starts when it got the signal does not get it too."""
        try:
            await self._freeze(generation, _HOLD_SECONDS)
            if generation.emptied_at is not None:
                raise _ended(generation)
            return await self._worker.run(send)
        finally:
            self._thaw(generation)


def _require_running(generation: Generation, number: int) -> None:
    if number != generation.number:
        raise KeeperError(ErrorCode.WRONG_STATE, f"generation {generation.number} is the last, not {number}")
    if not generation.runs:
        raise KeeperError(ErrorCode.WRONG_STATE, f"generation {number} does not run")


def _ended(generation: Generation) -> KeeperError:
    return KeeperError(ErrorCode.WRONG_STATE, f"generation {generation.number} has ended")
