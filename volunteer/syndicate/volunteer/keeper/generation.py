"""One run of a task: from its sandbox to its exit record."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field

from ..local import Annotation, Done, Exit, GenerationInfo, LogStream, Stamp
from .box import Box
from .counters import Counts, Shortage
from .errors import failed
from .logs import LogStore
from .process import KILLED_STATUS, Ended
from .pump import Capture, Pump
from .waiting import readable

_DRAIN_SECONDS = 1.0
_EXEC_SECONDS = 10.0
_GREW_SECONDS = 0.004


@dataclass(eq=False)
class Generation:
    """A generation that has a sandbox, or had one. Used on the loop; `box` also by the slot's worker."""

    number: int
    box: Box
    store: LogStore
    before: Counts = field(default_factory=Counts)  # what was counted when it began
    shortage: Shortage = Shortage.NONE  # for which the kernel ended a process of it
    disk_full: bool = False  # at any time that was looked at
    paused: bool = False  # its processes are frozen
    signals: dict[int, None] = field(default_factory=dict)  # for when it runs again, in order
    capture: Capture | None = None
    started_at: Stamp | None = None
    answer: Done | None = None  # what Start or Revive was answered
    cause: str = ""  # why the keeper ends it, once it does
    emptied_at: Stamp | None = None  # when no process was left
    left: str = ""  # what is wrong where processes do not end
    emptied: asyncio.Event = field(default_factory=asyncio.Event)  # set with `emptied_at` or `left`
    again: asyncio.Event = field(default_factory=asyncio.Event)  # set to have `left` looked into once more
    exit: Exit | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)  # set with `exit`
    wanted: asyncio.Event = field(default_factory=asyncio.Event)  # somebody waits for `exit`
    _drained: asyncio.Event = field(default_factory=asyncio.Event)
    _growth_told: bool = False

    @property
    def runs(self) -> bool:
        """Whether make was exec'd, and some process of it is left."""
        return self.started_at is not None and self.emptied_at is None

    @property
    def stands_still(self) -> bool:
        """Whether it is there and frozen."""
        return self.paused and self.emptied_at is None

    def begin_logs(self, pump: Pump, told: Callable[[Generation], None]) -> None:
        """Read its output from now on, and call `told` on the loop when there is more."""
        loop = asyncio.get_running_loop()

        def tell() -> None:
            self._growth_told = False
            if self.exit is None:
                told(self)

        def grew() -> None:
            if not self._growth_told:
                self._growth_told = True
                loop.call_soon_threadsafe(loop.call_later, _GREW_SECONDS, tell)

        def ended() -> None:
            loop.call_soon_threadsafe(self._drained.set)

        self.capture = Capture(self.store, grew, ended)
        pump.attach(self.capture, self.box.pipes.release("stdout"), self.box.pipes.release("stderr"))

    def note(self, line: str, at: Stamp) -> None:
        """Put a line of the keeper's own into the output."""
        self.store.append(LogStream.STDERR, at, line.encode())

    async def become_make(self) -> None:
        """Let the waiting shell exec make, and return once it does; raises KeeperError."""
        try:
            self.box.go()
        except BrokenPipeError:
            raise failed("the sandbox ended before make could be started") from None
        try:
            async with asyncio.timeout(_EXEC_SECONDS):
                said = await _read_all(self.box.pipes.report)
        except TimeoutError:
            raise failed(f"make was not started within {_EXEC_SECONDS:.0f} s") from None
        if said:
            raise failed(said.decode(errors="replace"))
        for name in ("orders", "report", "source"):
            self.box.pipes.close(name)

    async def drain_logs(self, pump: Pump) -> None:
        """Wait until all output is read; what holds a pipe open longer than a second is not waited for."""
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                await self._drained.wait()
        except TimeoutError:
            if self.capture is not None:
                pump.detach(self.capture)

    def record(self, ended: Ended, at: Stamp, now: Counts) -> Exit:
        """The exit record; for after the last output."""
        excerpt = self.store.finish()
        self.cause = self.cause or str(self.shortage)
        # A make that ended by itself in the moment of the kill keeps its status; one that ended because the
        # kernel took its compiler away was killed all the same.
        killed = bool(self.cause) and (
            ended.by_signal or ended.status == KILLED_STATUS or self.cause == self.shortage
        )
        return Exit(
            self.number,
            ended.status,
            killed,
            self.cause if killed else "",
            at,
            excerpt.head,
            excerpt.tail,
            excerpt.total,
            self._annotations(now),
        )

    def _annotations(self, now: Counts) -> tuple[Annotation, ...]:
        met = {
            Annotation.DISK_FULL: self.disk_full,
            Annotation.PIDS_LIMIT: now.pid_denials > self.before.pid_denials,
            Annotation.LOG_LIMIT: self.store.dropped,
        }
        return tuple(annotation for annotation, was_met in met.items() if was_met)

    def info(self) -> GenerationInfo:
        """As Synced tells it."""
        return GenerationInfo(self.number, self.started_at, self.exit, self.store.total)


async def _read_all(descriptor: int) -> bytes:
    """Everything until the pipe's end."""
    os.set_blocking(descriptor, False)
    said = b""
    while True:
        await readable(descriptor)
        data = os.read(descriptor, 4096)
        if not data:
            return said
        said = (said + data)[-4096:]
