"""The generations of a slot's task: their beginnings, their ends, and what is told about them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..local import Exit, Exited, GenerationInfo, Limits, LogGrew, Stamp, TaskId
from .box import Box
from .cgroups import CgroupError
from .company import Company
from .counters import Counts, Shortage
from .errors import KeeperError, failed, one_line
from .gauges import Gauges
from .generation import Generation
from .logs import LogStore
from .network import NetworkError
from .process import Ended
from .worker import Worker

_LEAST_LOG_BYTES = 64 << 10
_MAX_GENERATIONS = 1000
_TOLD_GENERATIONS = 20  # the last ones; Synced is one frame
_END_SECONDS = 10.0  # until the end of killed processes is recorded
_STRUCK_SECONDS = 0.25  # until struck processes are looked after one by one
_AGAIN_SECONDS = 1.0  # until processes that outlived their end are looked for once more
_LOOK_SECONDS = 1.0  # between looks at whether the disk is full: a tmpfs counts nothing by itself
_HEADS_OF_TASK = 4  # all generations of a task together keep at most so many heads


class Runs:
    """All generations of one slot's task, in order; none where the slot is empty. Used on the loop."""

    def __init__(
        self,
        slot: int,
        folder: Path,
        worker: Worker,
        company: Company,
        gauges: Gauges,
        ended: Callable[[], None],
    ) -> None:
        self._slot = slot
        self._folder = folder
        self._worker = worker
        self._company = company
        self._gauges = gauges
        self._ended = ended  # the slot's transition, right before the end is told
        self._all: dict[int, Generation] = {}
        self._watches: dict[asyncio.Task[None], Generation] = {}

    @property
    def current(self) -> Generation:
        """The newest."""
        return self._all[max(self._all)]

    @property
    def first(self) -> Generation:
        """The one that Start starts."""
        return self._all[1]

    @property
    def full(self) -> bool:
        """Whether there were as many as may be."""
        return len(self._all) >= _MAX_GENERATIONS

    def get(self, number: int) -> Generation | None:
        """The generation of this number, if there was one."""
        return self._all.get(number)

    def infos(self) -> tuple[GenerationInfo, ...]:
        """The last ones, as Synced tells them."""
        return tuple(each.info() for each in list(self._all.values())[-_TOLD_GENERATIONS:])

    def make_store(self, limits: Limits, number: int) -> LogStore:
        """Where the generation's output goes; raises OSError. In the worker, before any state changes."""
        kept = sum(generation.store.head_file_bytes for generation in self._all.values())
        room = max(
            min(limits.log_head_bytes, _HEADS_OF_TASK * limits.log_head_bytes - kept), _LEAST_LOG_BYTES
        )
        head_bytes = min(room, limits.log_head_bytes)
        boot_id = self._company.clock.boot_id
        return LogStore(self._folder, number, boot_id, head_bytes, limits.log_tail_bytes)

    def begin(self, task: TaskId, number: int, box: Box, store: LogStore) -> Generation:
        """Take over a sandbox as the newest generation."""
        generation = Generation(number, box, store, self._begin_count())
        self._all[number] = generation
        self._gauges.oom.forget()  # what unpacking met is not the generation's
        self._gauges.oom.listen(lambda: self._run_out(generation))
        generation.begin_logs(
            self._company.pump,
            lambda grown: self._company.tell(LogGrew(self._slot, task, grown.number, grown.store.total)),
        )
        # Not of the keeper's group itself: when that fails, the ends of the tasks must still be recorded.
        watch = asyncio.create_task(self._watch(generation, task))
        self._watches[watch] = generation
        watch.add_done_callback(self._watches.pop)
        self._company.spawn(_unless_cancelled(watch))
        return generation

    async def end(self, generation: Generation, cause: str) -> int:
        """End a generation's processes, and return once none is left; how many the task had.

        All that a request needs is done on the loop: kills of one moment are all ordered before the first
        of them is waited for. Its record follows: see `settle`. Raises KeeperError.
        """
        generation.cause = generation.cause or cause
        with expected():
            count = generation.box.strike()
        if generation.left:  # an earlier end came to nothing
            generation.emptied.clear()
            generation.again.set()
        try:
            async with asyncio.timeout(_END_SECONDS):
                await generation.emptied.wait()
        except TimeoutError:
            raise failed(f"the end of generation {generation.number} was not noticed") from None
        if generation.left:
            raise failed(generation.left)
        return count

    async def settle(self, generation: Generation) -> None:
        """Wait until the end of a generation of which no process is left is recorded; raises KeeperError."""
        if generation.emptied_at is None or generation.exit is not None:
            return
        generation.wanted.set()
        try:
            async with asyncio.timeout(_END_SECONDS):
                await generation.done.wait()
        except TimeoutError:
            raise failed(f"the end of generation {generation.number} was not recorded") from None

    async def finish(self, cause: str) -> None:
        """End all that have not ended, up to their records, and give back what they held.

        Raises KeeperError where a process or a cgroup stays; may be repeated.
        """
        for generation in self._all.values():
            if generation.emptied_at is None:
                await self.end(generation, cause)
            await self.settle(generation)
        boxes = [generation.box for generation in self._all.values()]

        def dispose() -> None:
            for box in boxes:  # again: the first time may have come to nothing
                box.dispose()

        with expected():
            await self._worker.run(dispose)

    async def settle_current(self) -> None:
        """`settle` the newest, if there is one."""
        if self._all:
            await self.settle(self.current)

    def stores(self) -> list[LogStore]:
        """The output of all of them."""
        return [generation.store for generation in self._all.values()]

    def forget(self) -> None:
        """Hold none any more, after their output was closed."""
        self._all.clear()

    async def close(self) -> None:
        """Wait until the last ends are told; what takes too long, or will not end, is cancelled."""
        ending = {watch for watch, generation in self._watches.items() if not generation.left}
        if ending:
            await asyncio.wait(ending, timeout=_END_SECONDS)
        late = list(self._watches)
        for watch in late:
            watch.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def _watch(self, generation: Generation, task: TaskId) -> None:
        """Record the end of a generation, whoever ended it."""
        ended = await self._first_end(generation)
        at = self._company.clock.stamp()
        await self._empty(generation)
        if generation.left:  # then the task lives, whatever its first process said
            self._company.trouble(self._slot, generation.left)
            await self._outlast(generation)
        await self._company.calm.wait(generation.wanted)
        await generation.drain_logs(self._company.pump)
        exit_record = await self._worker.run(lambda: self._record(generation, ended, at))
        self._gauges.oom.rest()
        self._ended()
        generation.exit = exit_record
        generation.done.set()
        self._company.tell(Exited(self._slot, task, exit_record))
        try:  # the worker does it before whatever is asked next
            with expected():
                await self._worker.run(generation.box.dispose)
        except KeeperError as error:
            self._company.trouble(self._slot, error.detail)

    async def _outlast(self, generation: Generation) -> None:
        """Return once none is left of processes that did not end when they were killed.

        They are looked for now and then, and killed anew whenever that is asked for.
        """
        while generation.left:
            asked = True
            try:
                async with asyncio.timeout(_AGAIN_SECONDS):
                    await generation.again.wait()
            except TimeoutError:
                asked = False
            if asked or _is_empty(generation.box):
                generation.again.clear()
                await self._empty(generation)

    async def _first_end(self, generation: Generation) -> Ended:
        """How its first process ended, once it has; meanwhile its disk is looked at now and then."""
        while True:
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    return await generation.box.process.ended()
            except TimeoutError:
                now = await self._worker.run(lambda: self._look(generation))
                self._end_for(generation, self._shortage(generation, now))

    def _end_for(self, generation: Generation, shortage: Shortage) -> None:
        """Where the kernel ended a process of it for want of memory: end all the others."""
        if shortage is Shortage.NONE or generation.emptied_at is not None:
            return
        generation.shortage = shortage
        generation.cause = generation.cause or str(shortage)
        try:
            with expected():
                generation.box.strike()
        except KeeperError as error:
            self._company.trouble(self._slot, error.detail)

    def _look(self, generation: Generation) -> Counts:
        """What was counted so far, and whether its disk is full; in the worker."""
        try:
            generation.disk_full = generation.disk_full or self._gauges.disk_full()
        except OSError as error:
            self._company.trouble(self._slot, f"cannot look at the disk: {error}")
        return self._count(generation.before)

    def _shortage(self, generation: Generation, now: Counts) -> Shortage:
        return now.shortage_since(generation.before, self._gauges.oom.was_told)

    def _begin_count(self) -> Counts:
        try:
            return self._gauges.meter.begin()
        except OSError as error:
            self._company.trouble(self._slot, f"cannot read what was counted: {error}")
            return Counts()

    def _count(self, otherwise: Counts) -> Counts:
        try:
            return self._gauges.meter.read()
        except OSError as error:
            self._company.trouble(self._slot, f"cannot read what was counted: {error}")
            return otherwise

    def _record(self, generation: Generation, ended: Ended, at: Stamp) -> Exit:
        """The record, with the bounds that it met; in the worker."""
        now = self._look(generation)
        if generation.shortage is Shortage.NONE:
            generation.shortage = self._shortage(generation, now)
        return generation.record(ended, at, now)

    def _run_out(self, generation: Generation) -> None:
        """The slot ran out of memory, or a cgroup above it."""
        if not self._gauges.oom.take():
            return
        shortage = self._shortage(generation, self._count(generation.before))
        try:
            if shortage is Shortage.NONE and self._gauges.oom.is_own():
                shortage = Shortage.OWN  # and the kernel has not ended anything yet
        except OSError as error:
            self._company.trouble(self._slot, f"cannot read what was counted: {error}")
        self._end_for(generation, shortage)

    async def _empty(self, generation: Generation) -> None:
        """End what its first process left, and note when none was left, or what is wrong."""
        box = generation.box
        try:
            with expected():
                if not generation.cause:  # else `end` has struck
                    box.strike()
                if not await box.vanished(_STRUCK_SECONDS):
                    await self._worker.run(box.kill)
        except KeeperError as error:
            generation.left = error.detail
        else:
            generation.left = ""
            generation.emptied_at = self._company.clock.stamp()
        generation.emptied.set()


def _is_empty(box: Box) -> bool:
    try:
        return box.cgroup.is_empty()
    except OSError:  # of descriptors, say: then the next look tells
        return False


@contextmanager
def expected() -> Iterator[None]:
    """What the machine may refuse at any time is a refusal, never the keeper's end."""
    try:
        yield
    except (OSError, CgroupError, NetworkError) as error:
        raise failed(one_line(str(error))) from error


async def _unless_cancelled(watch: asyncio.Task[None]) -> None:
    """Fail as `watch` does, but leave it running when cancelled."""
    await asyncio.shield(watch)
