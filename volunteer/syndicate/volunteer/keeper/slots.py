"""One slot on the loop: requests in order, the table's transitions, and what is told about them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from ..local import (
    DiskRead,
    Done,
    DropBarriers,
    ErrorCode,
    Kill,
    LogRead,
    Prepare,
    ReadDisk,
    ReadLog,
    Release,
    Reply,
    Revive,
    SetNetwork,
    SetTask,
    Signal,
    SlotInfo,
    SlotState,
    Stamp,
    Start,
    TaskId,
)
from ..sync.doors import Doors
from .box import Box, Cancelled
from .company import Company
from .counters import Meter
from .errors import KeeperError, failed
from .gauges import Gauges
from .generation import Generation
from .ground import Ground, Prepared
from .limits import Limiter
from .logs import LogStore
from .network import SlotNetwork
from .oom import OomWatch
from .ordeal import Ordeal
from .runs import Runs, expected
from .states import Step, after
from .sync_server import SyncServer
from .worker import Worker

_AGAIN_SECONDS = 1.0  # after an end by the lease that came to nothing


class Slot:
    """One slot; all methods run on the loop."""

    def __init__(
        self, number: int, folder: Path, ground: Ground, cancel: int, limiter: Limiter, company: Company
    ) -> None:
        self.number = number
        self._ground = ground
        self._cancel = cancel
        self._company = company
        self._worker = Worker(f"syn-slot-{number}")
        self._order = asyncio.Lock()  # first come, first served
        self._working: tuple[TaskId, int] | None = None  # what is being prepared or revived
        self._state = SlotState.EMPTY
        self._request: Prepare | None = None
        self._prepared: Done | None = None
        self._sync: SyncServer | None = None
        self._closing = False
        self._oom = OomWatch.open(limiter, number)
        self._gauges = Gauges(Meter.of(limiter, number), self._oom, ground.disk_full)
        self._runs = Runs(number, folder, self._worker, company, self._gauges, lambda: self._step(Step.END))
        self._ordeal = Ordeal(self._worker, ground, self._runs, company.networks)

    # ---- what it holds

    @property
    def task(self) -> TaskId | None:
        """The task that it holds, or that is being prepared."""
        if self._request is not None:
            return self._request.task
        return self._working[0] if self._working is not None else None

    @property
    def holds_task(self) -> bool:
        """Whether a task is there, or being prepared."""
        return self._request is not None or self._working is not None

    def info(self) -> SlotInfo:
        """As Synced tells it."""
        request = self._request
        if request is None:
            return SlotInfo(self.number, SlotState.EMPTY)
        return SlotInfo(
            self.number,
            self._state,
            request.task,
            request.role,
            request.address,
            request.members,
            self._ordeal.network,
            self._runs.current.stands_still,
            self._ordeal.disk_full,
            self._runs.infos(),
        )

    def _require(self, task: TaskId) -> Prepare:
        if self._request is None or self._request.task != task:
            held = f"holds {_named(self._request.task)}" if self._request else "is empty"
            raise KeeperError(ErrorCode.WRONG_TASK, f"slot {self.number} {held}, not {_named(task)}")
        return self._request

    def _require_whole(self, task: TaskId) -> Prepare:
        """`_require`, and all of the task is there: after a Release that failed some of it may be gone."""
        held = self._require(task)
        if not self._ground.occupied:
            half = f"slot {self.number} is released by half: a release of {_named(task)} failed"
            raise KeeperError(ErrorCode.WRONG_STATE, half)
        return held

    def _require_lease(self, cluster: str) -> None:
        if not self._company.leases.holds(cluster):
            raise KeeperError(ErrorCode.WRONG_STATE, f"there is no lease for {cluster}")

    def _step(self, step: Step) -> None:
        self._state = after(self._state, step)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """First come, first served; whose turn comes after the keeper's end began is refused."""
        async with self._order:
            self._require_open()
            yield

    def _require_open(self) -> None:
        if self._closing:
            raise KeeperError(ErrorCode.SHUTTING_DOWN, "the keeper is ending")

    @asynccontextmanager
    async def _in_order(self) -> AsyncIterator[None]:
        """`_turn`, and behind the record of an end that a Kill was answered with."""
        async with self._turn():
            await self._runs.settle_current()
            yield

    # ---- requests

    async def stop_work(self) -> None:
        """Stop what is being prepared or revived, and return once all that was asked before is over."""
        if self._working is not None:
            os.eventfd_write(self._cancel, 1)
        async with self._in_order():
            with expected():
                await self._worker.run(self._ground.drop_packing)

    async def prepare(self, request: Prepare) -> Done:
        """See local.Prepare."""
        began = self._company.clock.now_ns()
        async with self._turn():
            self._company.epochs.admit(request.task.cluster_id, request.epoch)
            if self._request is not None:
                self._require_whole(request.task)
                return _again(self._prepared)
            self._require_lease(request.task.cluster_id)
            try:
                with self._work_on(request.task, 1), expected():
                    prepared, store = await self._worker.run(lambda: self._lay_down(request))
            except KeeperError:
                self._company.spawn(self.stand_by())
                raise
            self._request = request
            self._step(Step.PREPARE)
            generation = self._runs.begin(request.task, 1, prepared.box, store)
            if prepared.doors is not None:
                self._serve_sync(request, prepared.doors)
            if prepared.note:
                generation.note(prepared.note, self._company.clock.stamp())
            self._prepared = self._done(began)
            return self._prepared

    def _serve_sync(self, request: Prepare, doors: Doors) -> None:
        company = self._company
        self._sync = SyncServer(self.number, request, self._ground.uid, doors, company.syncs, company)
        self._sync.open()

    def _lay_down(self, request: Prepare) -> tuple[Prepared, LogStore]:
        self._company.epochs.save()
        prepared = self._ground.prepare(request, self._gauges)
        try:
            return prepared, self._runs.make_store(request.limits, 1)
        except OSError:
            try:
                if prepared.doors is not None:
                    prepared.doors.close()
                prepared.box.destroy()
            finally:
                self._ground.clear()
            raise

    def _lay_again(self, held: Prepare, request: Revive) -> tuple[Box, LogStore]:
        with self._gauges.blaming(held.limits.memory_bytes):
            box = self._ground.revive(request.generation, request.with_disk)
        try:
            return box, self._runs.make_store(held.limits, request.generation)
        except OSError:
            box.destroy()
            raise

    async def start(self, request: Start) -> Done:
        """See local.Start."""
        began = self._company.clock.now_ns()
        async with self._in_order():
            self._require(request.task)
            generation = self._runs.first
            if request.generation == 1 and generation.answer is not None:
                return _again(generation.answer)
            if request.generation != 1 or self._state is not SlotState.PREPARED:
                what = f"generation {request.generation} of slot {self.number}"
                raise KeeperError(ErrorCode.WRONG_STATE, f"{what} cannot start: the slot is {self._state}")
            self._require_lease(request.task.cluster_id)
            return await self._become(generation, Step.START, began)

    async def revive(self, request: Revive) -> Done:
        """See local.Revive."""
        began = self._company.clock.now_ns()
        async with self._in_order():
            held = self._require_whole(request.task)
            current = self._runs.current
            if request.generation == current.number and current.answer is not None and current.number > 1:
                return _again(current.answer)
            if request.generation <= current.number:
                raise KeeperError(ErrorCode.WRONG_STATE, f"generation {current.number} was there already")
            if self._state is not SlotState.ENDED:
                raise KeeperError(
                    ErrorCode.WRONG_STATE, f"the task lives: slot {self.number} is {self._state}"
                )
            if self._runs.full:
                raise failed("the task had as many generations as may be")
            self._require_lease(held.task.cluster_id)
            try:
                with self._work_on(held.task, request.generation), expected():
                    box, store = await self._worker.run(lambda: self._lay_again(held, request))
                generation = self._runs.begin(held.task, request.generation, box, store)
                return await self._become(generation, Step.REVIVE, began)
            finally:
                self._ground.bury()

    async def kill(self, request: Kill) -> Done:
        """See local.Kill; the record of the end follows the answer."""
        began = self._company.clock.now_ns()
        with self._company.calm.kill():
            self._preempt(request.task, request.generation)
            async with self._turn():
                self._require(request.task)
                generation = self._runs.current
                if request.generation < generation.number:
                    raise KeeperError(
                        ErrorCode.WRONG_STATE, f"generation {generation.number} was started since"
                    )
                if generation.emptied_at is not None:
                    await self._lose_unsynced()
                    return replace(self._done(began), already=True)
                if request.generation > generation.number:
                    raise KeeperError(ErrorCode.WRONG_STATE, f"generation {generation.number} is the last")
                count = await self._runs.end(generation, "kill")
                await self._lose_unsynced()
                return replace(self._done(began, generation.emptied_at), processes=count)

    async def _lose_unsynced(self) -> None:
        """A kill is a loss of power to a task that asked for that, also to what has ended by itself."""
        if self._request is not None and self._request.lose_unsynced:
            await self._worker.run(self._ground.lose_unsynced)

    async def suffer(self, request: SetNetwork | SetTask | Signal) -> Done:
        """See local.SetNetwork, local.SetTask, local.Signal."""
        began = self._company.clock.now_ns()
        async with self._order:  # `_turn` without a generator: who asks for a cut waits for every step
            self._require_open()
            self._require_whole(request.task)
            with expected():
                undergone = await self._ordeal.undergo(request)
            done = self._done(began)
            return Done(done.at, done.took_ns, undergone.processes, undergone.already)

    def network_at_once(self, request: SetNetwork) -> SlotNetwork | None:
        """The network, if nothing is before its change; None if `suffer` would wait, refuse or do nothing.

        Nothing is noted: the change may yet be left to `suffer`. Who makes it calls `changed` in the same
        turn of the loop.
        """
        if self._closing or self._order.locked():
            return None
        try:
            self._require_whole(request.task)
        except KeeperError:
            return None
        return self._ordeal.network_for(request.network)

    def changed(self, request: SetNetwork, refusal: KeeperError | None, began: int) -> Reply:
        """The answer to what was to be changed at once."""
        if refusal is not None:
            self._ordeal.doubt_network()
            return refusal.refused()
        self._ordeal.note_network(request.network)
        return self._done(began)

    async def drop_barriers(self, request: DropBarriers) -> Done:
        """See local.DropBarriers; not in order with the others, which a barrier is no part of."""
        began = self._company.clock.now_ns()
        self._require(request.task)
        if self._sync is None:
            raise KeeperError(ErrorCode.WRONG_STATE, f"slot {self.number} has no sync server")
        dropped = await self._sync.drop(request.barrier, request.id)
        return replace(self._done(began), dropped=dropped)

    async def release(self, request: Release) -> Done:
        """See local.Release."""
        began = self._company.clock.now_ns()
        self._preempt(request.task, None)
        async with self._in_order():
            if self._request is None:
                return replace(self._done(began), already=True)
            self._require(request.task)
            await self._clear("release")
            self._company.spawn(self.stand_by())
            return self._done(began)

    async def read_log(self, request: ReadLog) -> LogRead:
        """See local.ReadLog; not in order with the others, so that it never waits for them."""
        self._require(request.task)
        generation = self._runs.get(request.generation)
        if generation is None:
            raise KeeperError(ErrorCode.WRONG_STATE, f"there was no generation {request.generation}")
        await self._runs.settle(generation)  # its output is whole then
        with expected():
            return await asyncio.to_thread(generation.store.read, request.offset, request.limit)

    async def read_disk(self, request: ReadDisk) -> DiskRead:
        """See local.ReadDisk; a kill, a release and a new connection end it."""
        async with self._in_order():
            held = self._require_whole(request.task)
            generation = self._runs.current
            if self._state is not SlotState.ENDED or generation.emptied_at is None:
                raise KeeperError(
                    ErrorCode.WRONG_STATE, f"the task lives: slot {self.number} is {self._state}"
                )
            with self._work_on(held.task, generation.number), expected():
                return await self._worker.run(lambda: self._ground.read_disk(request.offset, request.limit))

    # ---- what the keeper does by itself

    async def stand_by(self) -> None:
        """Make the next task's network, disk and sandbox ahead."""
        if self.holds_task or self._closing:
            return
        try:
            with expected():
                await self._worker.run(self._ground.stand_by)
        except KeeperError as error:
            self._company.trouble(self.number, error.detail)

    def retell(self) -> None:
        """Tell what is known of its barriers once more."""
        if self._sync is not None:
            self._sync.retell()

    async def things(self, look: Callable[[], tuple[bool, list[str]]]) -> tuple[bool, list[str]]:
        """What `look` finds while no work on the slot is half done."""
        return await self._worker.run(look)

    async def expire(self, task: TaskId) -> None:
        """End this task, whose lease ran out; where that fails, again while the lease is gone."""
        while True:
            self._preempt(task, None)
            async with self._order:
                if self._closing or self.task != task or self._runs.current.emptied_at is not None:
                    return
                try:
                    await self._runs.end(self._runs.current, "lease")
                    return
                except KeeperError as error:
                    self._company.trouble(self.number, error.detail)
            await asyncio.sleep(_AGAIN_SECONDS)
            if self._company.leases.holds(task.cluster_id):
                return

    async def close(self) -> None:
        """End everything on the slot and leave nothing; raises KeeperError."""
        self._closing = True
        if self._working is not None:
            os.eventfd_write(self._cancel, 1)
        self._ordeal.give_up()
        try:
            async with self._order:
                if self._request is None:
                    await self._worker.run(self._ground.clear)
                else:
                    try:
                        await self._clear("release")
                    except KeeperError:
                        await self._worker.run(self._ground.clear)
                        raise
        finally:
            await self._runs.close()
            self._worker.close()
            self._oom.close()
            os.close(self._cancel)

    # ---- steps

    @contextmanager
    def _work_on(self, task: TaskId, generation: int) -> Iterator[None]:
        """Work that a kill or a release of the same may stop."""
        self._working = (task, generation)
        try:
            yield
        except Cancelled:
            raise KeeperError(ErrorCode.WRONG_STATE, "it was ended while it was being made") from None
        finally:
            self._working = None
            with suppress(BlockingIOError):  # nobody asked to stop it
                os.eventfd_read(self._cancel)

    def _preempt(self, task: TaskId, generation: int | None) -> None:
        """Whatever waits for the task's processes is not to be waited for: they are to be ended."""
        if self._working is not None and self._working[0] == task and generation in (None, self._working[1]):
            os.eventfd_write(self._cancel, 1)
        held = self._request
        if held is not None and held.task == task and generation in (None, self._runs.current.number):
            self._ordeal.give_up()

    async def _become(self, generation: Generation, step: Step, began: int) -> Done:
        # Before the exec: an end told while it is awaited must find the state that it ends.
        self._step(step)
        try:
            await generation.become_make()
        except KeeperError:
            await self._runs.end(generation, "release")
            await self._runs.settle(generation)
            raise
        generation.started_at = self._company.clock.stamp()
        generation.answer = Done(generation.started_at, generation.started_at.monotonic_ns - began)
        return generation.answer

    async def _clear(self, cause: str) -> None:
        """End the task's processes and leave nothing of it."""
        await self._runs.finish(cause)
        if self._sync is not None:
            await self._sync.close()  # before its network, in which its sockets are
            self._sync = None
        stores = self._runs.stores()

        def clear() -> None:
            for store in stores:
                store.close()
            self._ground.clear()

        try:
            await self._worker.run(clear)
        except OSError as error:
            raise failed(f"cannot clear slot {self.number}: {error}") from error
        self._step(Step.RELEASE)
        self._request, self._prepared = None, None
        self._runs.forget()
        self._ordeal.forget()

    def _done(self, began: int, since: Stamp | None = None) -> Done:
        """An answer to what began then and holds since `since`, or now."""
        at = since or self._company.clock.stamp()
        return Done(at, max(at.monotonic_ns - began, 0))


def _again(answer: Done | None) -> Done:
    if answer is None:
        raise RuntimeError("a repeated request has a first answer")
    return replace(answer, already=True)


def _named(task: TaskId) -> str:
    return f"{task.task} of job {task.job_id} (attempt {task.attempt}, {task.cluster_id})"
