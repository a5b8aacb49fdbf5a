"""One slot on the loop: requests in order, the table's transitions, and what is told about them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..local import (
    Done,
    ErrorCode,
    Event,
    Exited,
    Kill,
    LogGrew,
    LogRead,
    Prepare,
    ReadLog,
    Release,
    Revive,
    SetCut,
    SlotInfo,
    SlotState,
    Start,
    TaskId,
)
from .box import Box, Cancelled
from .cgroups import CgroupError
from .clock import Clock
from .epochs import Epochs
from .errors import KeeperError, failed, one_line
from .generation import Generation
from .ground import Ground, Prepared
from .lease import Leases
from .logs import LogStore
from .network import NetworkError
from .pump import Pump
from .states import Step, after
from .worker import Worker

_LEAST_LOG_BYTES = 64 << 10
_MAX_GENERATIONS = 1000
_TOLD_GENERATIONS = 20  # the last ones; Synced is one frame
_END_SECONDS = 10.0  # until the end of killed processes is recorded
_HEADS_OF_TASK = 4  # all generations of a task together keep at most so many heads


@dataclass(frozen=True)
class Company:
    """What a slot needs of the keeper."""

    clock: Clock
    pump: Pump
    epochs: Epochs
    leases: Leases
    tell: Callable[[Event], None]
    spawn: Callable[[Coroutine[Any, Any, None]], None]
    trouble: Callable[[int, str], None]  # for the keeper's log: what failed while nobody asked


class Slot:
    """One slot; all methods run on the loop."""

    def __init__(self, number: int, folder: Path, ground: Ground, cancel: int, company: Company) -> None:
        self.number = number
        self._folder = folder
        self._ground = ground
        self._cancel = cancel
        self._company = company
        self._worker = Worker(f"syn-slot-{number}")
        self._order = asyncio.Lock()  # first come, first served
        self._working: tuple[TaskId, int] | None = None  # what is being prepared or revived
        self._state = SlotState.EMPTY
        self._request: Prepare | None = None
        self._prepared: Done | None = None
        self._cut: tuple[str, ...] = ()
        self._cut_is_sure = True
        self._generations: dict[int, Generation] = {}
        self._watches: set[asyncio.Task[None]] = set()

    # ---- what it holds

    @property
    def cluster(self) -> str | None:
        """Whose task it holds."""
        return self._request.task.cluster_id if self._request else None

    @property
    def holds_task(self) -> bool:
        """Whether a task is there, or being prepared."""
        return self._request is not None or self._working is not None

    def info(self) -> SlotInfo:
        """As Synced tells it."""
        request = self._request
        if request is None:
            return SlotInfo(self.number, SlotState.EMPTY)
        generations = tuple(each.info() for each in list(self._generations.values())[-_TOLD_GENERATIONS:])
        return SlotInfo(
            self.number,
            self._state,
            request.task,
            request.role,
            request.address,
            request.members,
            self._cut,
            generations,
        )

    @property
    def _current(self) -> Generation:
        return self._generations[max(self._generations)]

    def _require(self, task: TaskId) -> Prepare:
        if self._request is None or self._request.task != task:
            held = f"holds {_named(self._request.task)}" if self._request else "is empty"
            raise KeeperError(ErrorCode.WRONG_TASK, f"slot {self.number} {held}, not {_named(task)}")
        return self._request

    def _require_lease(self, cluster: str) -> None:
        if not self._company.leases.holds(cluster):
            raise KeeperError(ErrorCode.WRONG_STATE, f"there is no lease for {cluster}")

    def _step(self, step: Step) -> None:
        self._state = after(self._state, step)

    # ---- requests

    async def prepare(self, request: Prepare) -> Done:
        """See local.Prepare."""
        began = self._company.clock.now_ns()
        async with self._order:
            self._company.epochs.admit(request.task.cluster_id, request.epoch)
            if self._request is not None:
                self._require(request.task)
                return _again(self._prepared)
            self._require_lease(request.task.cluster_id)
            try:
                with self._work_on(request.task, 1), _expected():
                    prepared, store = await self._worker.run(lambda: self._lay_down(request))
            except KeeperError:
                self._company.spawn(self.stand_by())
                raise
            self._request, self._cut, self._cut_is_sure = request, (), True
            self._step(Step.PREPARE)
            generation = self._begin(1, prepared.box, store)
            if prepared.note:
                generation.note(prepared.note, self._company.clock.stamp())
            self._prepared = self._done(began)
            return self._prepared

    def _lay_down(self, request: Prepare) -> tuple[Prepared, LogStore]:
        self._company.epochs.save()
        prepared = self._ground.prepare(request)
        try:
            return prepared, self._make_store(request, 1)
        except OSError:
            try:
                prepared.box.destroy()
            finally:
                self._ground.clear()
            raise

    def _lay_again(self, held: Prepare, request: Revive) -> tuple[Box, LogStore]:
        box = self._ground.revive(request.generation, request.with_disk)
        try:
            return box, self._make_store(held, request.generation)
        except OSError:
            box.destroy()
            raise

    async def start(self, request: Start) -> Done:
        """See local.Start."""
        began = self._company.clock.now_ns()
        async with self._order:
            self._require(request.task)
            generation = self._generations[1]
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
        async with self._order:
            held = self._require(request.task)
            current = self._current
            if request.generation == current.number and current.answer is not None and current.number > 1:
                return _again(current.answer)
            if request.generation <= current.number:
                raise KeeperError(ErrorCode.WRONG_STATE, f"generation {current.number} was there already")
            if self._state is not SlotState.ENDED:
                raise KeeperError(
                    ErrorCode.WRONG_STATE, f"the task lives: slot {self.number} is {self._state}"
                )
            if len(self._generations) >= _MAX_GENERATIONS:
                raise failed(f"the task had {_MAX_GENERATIONS} generations, which is the most")
            self._require_lease(held.task.cluster_id)
            with self._work_on(held.task, request.generation), _expected():
                box, store = await self._worker.run(lambda: self._lay_again(held, request))
            return await self._become(self._begin(request.generation, box, store), Step.REVIVE, began)

    async def kill(self, request: Kill) -> Done:
        """See local.Kill."""
        began = self._company.clock.now_ns()
        self._preempt(request.task, request.generation)
        async with self._order:
            self._require(request.task)
            generation = self._current
            if request.generation < generation.number:
                raise KeeperError(ErrorCode.WRONG_STATE, f"generation {generation.number} was started since")
            if generation.exit is not None:
                return replace(self._done(began), already=True)
            if request.generation > generation.number:
                raise KeeperError(ErrorCode.WRONG_STATE, f"generation {generation.number} is the last")
            return await self._end(generation, "kill", began)

    async def set_cut(self, request: SetCut) -> Done:
        """See local.SetCut."""
        began = self._company.clock.now_ns()
        async with self._order:
            self._require(request.task)
            wanted = tuple(sorted(set(request.cut)))
            if wanted == self._cut and self._cut_is_sure:
                return replace(self._done(began), already=True)
            self._cut_is_sure = False  # an error may come after the kernel took it
            with _expected():
                await self._worker.run(lambda: self._ground.set_cut(wanted))
            self._cut, self._cut_is_sure = wanted, True
            return self._done(began)

    async def release(self, request: Release) -> Done:
        """See local.Release."""
        began = self._company.clock.now_ns()
        self._preempt(request.task, None)
        async with self._order:
            if self._request is None:
                return replace(self._done(began), already=True)
            self._require(request.task)
            await self._clear("release")
            self._company.spawn(self.stand_by())
            return self._done(began)

    async def read_log(self, request: ReadLog) -> LogRead:
        """See local.ReadLog; not in order with the others, so that it never waits for them."""
        self._require(request.task)
        generation = self._generations.get(request.generation)
        if generation is None:
            raise KeeperError(ErrorCode.WRONG_STATE, f"there was no generation {request.generation}")
        return await asyncio.to_thread(generation.store.read, request.offset, request.limit)

    # ---- what the keeper does by itself

    async def stand_by(self) -> None:
        """Make the next task's network, disk and sandbox ahead."""
        if self.holds_task:
            return
        try:
            with _expected():
                await self._worker.run(self._ground.stand_by)
        except KeeperError as error:
            self._company.trouble(self.number, error.detail)

    async def things(self, look: Callable[[], list[str]]) -> list[str]:
        """What `look` finds while no work on the slot is half done."""
        return await self._worker.run(look)

    async def expire(self, cluster: str) -> None:
        """End the task if it is this cluster's: its lease ran out."""
        if self._working is not None and self._working[0].cluster_id == cluster:
            os.eventfd_write(self._cancel, 1)
        async with self._order:
            if self.cluster == cluster and self._current.exit is None:
                await self._end(self._current, "lease", self._company.clock.now_ns())

    async def close(self) -> None:
        """End everything on the slot and leave nothing; raises KeeperError."""
        if self._working is not None:
            os.eventfd_write(self._cancel, 1)
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
            await self._end_watches()
            self._worker.close()
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
        if self._working is not None and self._working[0] == task and generation in (None, self._working[1]):
            os.eventfd_write(self._cancel, 1)

    def _make_store(self, request: Prepare, number: int) -> LogStore:
        """Where the generation's output goes; raises OSError. In the worker, before any state changes."""
        limits = request.limits
        kept = sum(generation.store.head_file_bytes for generation in self._generations.values())
        room = max(
            min(limits.log_head_bytes, _HEADS_OF_TASK * limits.log_head_bytes - kept), _LEAST_LOG_BYTES
        )
        head_bytes = min(room, limits.log_head_bytes)
        boot_id = self._company.clock.boot_id
        return LogStore(self._folder, number, boot_id, head_bytes, limits.log_tail_bytes)

    def _begin(self, number: int, box: Box, store: LogStore) -> Generation:
        """Take over a sandbox as the newest generation."""
        if self._request is None:
            raise RuntimeError("a generation belongs to a task")
        generation = Generation(number, box, store)
        self._generations[number] = generation
        task = self._request.task
        generation.begin_logs(
            self._company.pump,
            lambda grown: self._company.tell(LogGrew(self.number, task, grown.number, grown.store.total)),
        )
        # Not of the keeper's group itself: when that fails, the ends of the tasks must still be recorded.
        watch = asyncio.create_task(self._watch(generation, task))
        self._watches.add(watch)
        watch.add_done_callback(self._watches.discard)
        self._company.spawn(_unless_cancelled(watch))
        return generation

    async def _end_watches(self) -> None:
        """Wait until the last ends are told; what takes too long is cancelled."""
        if self._watches:
            _, late = await asyncio.wait(set(self._watches), timeout=_END_SECONDS)
            for watch in late:
                watch.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _become(self, generation: Generation, step: Step, began: int) -> Done:
        # Before the exec: an end told while it is awaited must find the state that it ends.
        self._step(step)
        try:
            await generation.become_make()
        except KeeperError:
            await self._end(generation, "release", began)
            raise
        generation.started_at = self._company.clock.stamp()
        generation.answer = Done(generation.started_at, generation.started_at.monotonic_ns - began)
        return generation.answer

    async def _end(self, generation: Generation, cause: str, began: int) -> Done:
        """End a generation's processes and wait until its end is recorded."""
        generation.cause = generation.cause or cause

        def end() -> tuple[int, Done]:
            count = generation.box.count()
            generation.box.kill()
            return count, self._done(began)

        with _expected():
            count, done = await self._worker.run(end)
        try:
            async with asyncio.timeout(_END_SECONDS):
                await generation.done.wait()
        except TimeoutError:
            raise failed(f"the end of generation {generation.number} was not recorded") from None
        return replace(done, processes=count)

    async def _watch(self, generation: Generation, task: TaskId) -> None:
        """Record the end of a generation, whoever ended it."""
        ended = await generation.box.process.ended()
        at = self._company.clock.stamp()
        try:
            with _expected():
                await self._worker.run(generation.box.kill)
        except KeeperError as error:
            self._company.trouble(self.number, error.detail)
        await generation.drain_logs(self._company.pump)
        exit_record = await self._worker.run(lambda: generation.record(ended, at))
        self._step(Step.END)
        generation.exit = exit_record
        generation.done.set()
        self._company.tell(Exited(self.number, task, exit_record))
        try:  # the worker does it before whatever is asked next
            with _expected():
                await self._worker.run(generation.box.dispose)
        except KeeperError as error:
            self._company.trouble(self.number, error.detail)

    async def _clear(self, cause: str) -> None:
        """End the task's processes and leave nothing of it."""
        if self._generations:
            current = self._current
            if current.exit is None:
                await self._end(current, cause, self._company.clock.now_ns())
        stores = [generation.store for generation in self._generations.values()]

        def clear() -> None:
            for store in stores:
                store.close()
            self._ground.clear()

        try:
            await self._worker.run(clear)
        except OSError as error:
            raise failed(f"cannot clear slot {self.number}: {error}") from error
        self._step(Step.RELEASE)
        self._request, self._prepared, self._cut = None, None, ()
        self._generations.clear()

    def _done(self, began: int) -> Done:
        at = self._company.clock.stamp()
        return Done(at, at.monotonic_ns - began)


@contextmanager
def _expected() -> Iterator[None]:
    """What the machine may refuse at any time is a refusal, never the keeper's end."""
    try:
        yield
    except (OSError, CgroupError, NetworkError) as error:
        raise failed(one_line(str(error))) from error


async def _unless_cancelled(watch: asyncio.Task[None]) -> None:
    """Fail as `watch` does, but leave it running when cancelled."""
    await asyncio.shield(watch)


def _again(answer: Done | None) -> Done:
    if answer is None:
        raise RuntimeError("a repeated request has a first answer")
    return replace(answer, already=True)


def _named(task: TaskId) -> str:
    return f"{task.task} of job {task.job_id} (attempt {task.attempt}, {task.cluster_id})"
