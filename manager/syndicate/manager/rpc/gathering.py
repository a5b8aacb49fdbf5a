"""Who of a job's clients still owes its histories, known once for all who wait for that.

Thousands of clients may gather at once. A client that hands its last history over is taken off a list, and
nobody is woken by it before at most one is left; when the job changes, one of those who wait asks for all of
them. So what a closing piece costs does not grow with the clients, and what a change costs grows with them
once, not with their square.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice

from ..core.effects import ClientView
from ..wakers import Wakers
from .shelves import Shelves

Ask = Callable[[], Awaitable[tuple[ClientView, ...]]]


class Gathering:
    """One attempt of a job, as long as anybody gathers."""

    def __init__(self, finals: Callable[[], Awaitable[dict[str, int]]]) -> None:
        self.stale = asyncio.Event()
        """Set when the job changed since its clients were asked for."""
        self.stale.set()
        self.users = 0
        self._read_finals = finals
        self._known = False
        self._finals: dict[str, int] = {}
        self._clients: dict[str, ClientView] = {}
        # In the clients' order: those that run, and have not handed everything over.
        self._left: dict[str, None] = {}
        self._waiting: set[asyncio.Event] = set()
        self._lock = asyncio.Lock()

    async def look(self, ask: Ask) -> None:
        """Knows the job as it is. One of all who wait asks; what that raises is told to it alone."""
        async with self._lock:
            if not self.stale.is_set():
                return
            self.stale.clear()
            try:
                if not self._known:
                    self._remember(await self._read_finals())
                clients = await ask()
            except BaseException:
                self.stale.set()
                raise
            self._clients = {one.task: one for one in clients}
            self._left = {one.task: None for one in clients if self._owes(one) and not one.over}

    def handed_over(self, task: str, generation: int) -> None:
        """A client says that it hands nothing more over."""
        self._finals[task] = max(generation, self._finals.get(task, -1))
        one = self._clients.get(task)
        if one is None or self._owes(one) or task not in self._left:
            return
        del self._left[task]
        if len(self._left) <= 1:  # nobody waits for itself
            for event in self._waiting:
                event.set()

    def acts(self, task: str, generation: int) -> bool:
        """Whether this client was one that may still act when the clients were asked for."""
        one = self._clients.get(task)
        return one is not None and one.generation == generation and not one.over

    def is_complete(self, besides: str) -> bool:
        """Whether nobody else is left."""
        return not self._left or (len(self._left) == 1 and besides in self._left)

    def left(self, besides: str, most: int) -> tuple[list[str], int]:
        """Some of those that are left, and how many there are."""
        number = len(self._left) - (besides in self._left)
        return list(islice((task for task in self._left if task != besides), most)), number

    def missing(self) -> list[str]:
        """Those that ended, and did not hand everything over."""
        return [one.task for one in self._clients.values() if one.over and self._owes(one)]

    @contextmanager
    def waits(self, event: asyncio.Event) -> Iterator[None]:
        """Sets the event once at most one is left."""
        self._waiting.add(event)
        try:
            yield
        finally:
            self._waiting.discard(event)

    def _owes(self, one: ClientView) -> bool:
        # What an earlier generation said does not count for one that was started since.
        return self._finals.get(one.task, -1) < one.generation

    def _remember(self, finals: dict[str, int]) -> None:
        for task, generation in finals.items():
            self._finals[task] = max(generation, self._finals.get(task, -1))
        self._known = True


class Gatherings:
    """One for each attempt of which anybody gathers. `changed` tells of the jobs."""

    def __init__(self, changed: Wakers, shelves: Shelves) -> None:
        self._changed = changed
        self._shelves = shelves
        self._open: dict[tuple[int, int], tuple[Gathering, ExitStack]] = {}

    @contextmanager
    def of(self, job_id: int, attempt: int) -> Iterator[tuple[Gathering, asyncio.Event]]:
        """The attempt's, and an event that is set when there is something to look at."""
        key = (job_id, attempt)
        gathering, held = self._open.get(key) or self._begin(key)
        gathering.users += 1
        try:
            with self._changed.watch(job_id) as changed, gathering.waits(changed):
                yield gathering, changed
        finally:
            gathering.users -= 1
            if not gathering.users:
                del self._open[key]
                held.close()

    def _begin(self, key: tuple[int, int]) -> tuple[Gathering, ExitStack]:
        gathering, held = Gathering(lambda: self._shelves.finals(*key)), ExitStack()
        held.enter_context(self._changed.watch(key[0], gathering.stale))
        held.enter_context(self._shelves.watch(*key, gathering.handed_over))
        self._open[key] = gathering, held
        return gathering, held
