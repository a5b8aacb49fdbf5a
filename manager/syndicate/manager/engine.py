"""The loop: event → machine → store → effects.

Events are handled where they arise, in the coroutine of the RPC that brings them: one thread, no queue
between. What a step wants saved goes to the store's writer at once, and its effects wait until that is
durable, in the order of the steps. So nothing is acknowledged that a crash could take back. A step that
saves nothing, with nothing before it that waits, is performed before `handle` returns.

What nobody waits for is gathered for some milliseconds, or until somebody does wait: that a fault held goes
to the disk with the intent of the next one, and the writer is not woken while the answer is on its way.
Of calls that may wait for others those of a crowd are handled together; see `crowd`.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

from .clock import Clock
from .core.effects import (
    AccessChanged,
    AckEvent,
    Answer,
    Changed,
    Close,
    Effect,
    Reply,
    Send,
    SendDrain,
    SendWelcome,
)
from .core.errors import Away, CoreError, TooLate
from .core.events import CallGone, Event, Tick
from .core.machine import Machine
from .core.model import Config, Stamp
from .core.records import Record
from .crowd import Crowd
from .store import Store
from .wakers import Wakers

# How long a commit may wait for others: one that nobody waits for, since its replies overtake it and should
# have the processor first, and one whose command should take effect together with others on their way.
_NOBODY_WAITS_S: Final = 0.005
_TOGETHER_S: Final = 0.0004
# So many records are not gathered any longer.
_MOST_GATHERED: Final = 512

# A timer of the loop stands still while the machine sleeps, the machine's own clock does not: look this
# often.
_LONGEST_SLEEP_S: Final = 10.0


class Link(Protocol):
    """One volunteer's stream, as effects reach it. No method blocks or fails: one in trouble ends itself."""

    def send(self, effect: Send) -> None:
        """Push a command."""

    def prepare(self, effect: Send) -> Callable[[], None]:
        """Encode a command that is to be pushed soon; the push."""

    def welcome(self, effect: SendWelcome) -> None:
        """Accept the volunteer."""

    def drain(self, effect: SendDrain) -> None:
        """Take no new reservation, or take them again."""

    def ack_event(self, effect: AckEvent) -> None:
        """An event is written down."""

    def close(self, error: CoreError) -> None:
        """End the stream."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A command that waits for its commit, encoded."""

    push: Callable[[], None]


_Held = list[Effect | _Prepared]


class Engine:
    """Owns the machine, and is the only one who tells it anything. Made and used on one event loop."""

    def __init__(self, machine: Machine, config: Config, store: Store, clock: Clock) -> None:
        self.machine: Machine = machine
        self.config: Config = config
        self.clock: Clock = clock
        self.links: dict[str, Link] = {}
        self.changed: Wakers = Wakers()
        # Called when users or tokens changed.
        self.on_access_changed: Callable[[], None] = lambda: None
        # They see what each step saves, and when it was made.
        self.watchers: list[Callable[[Sequence[Record], Stamp], None]] = []
        # Kept, since to ask for it is a system call (getpid) each time.
        self._loop = asyncio.get_running_loop()
        # Set with what went wrong when the manager cannot go on.
        self.failed: asyncio.Future[BaseException] = self._loop.create_future()
        self._store = store
        self._stopping: CoreError | None = None
        self._call_ids = itertools.count(1)
        self._calls: dict[int, asyncio.Future[Answer | CoreError]] = {}
        # Both are in the order of their tickets. The store bounds what waits: see `full` there.
        self._held: deque[tuple[int, _Held]] = deque()
        self._barriers: deque[tuple[int, asyncio.Future[None]]] = deque()
        # What nobody waits for yet, and the timer that has it written.
        self._gathered: list[Record] = []
        self._gathering: asyncio.TimerHandle | None = None
        # Calls that wait for others; the ticket of those handled together last, until it is durable.
        self._crowd = Crowd(self._handle_together)
        self._crowds_ticket: int | None = None
        self._together = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_for: int | None = None
        self._perform: dict[type[Effect | _Prepared], Callable[..., None]] = {
            _Prepared: lambda e: e.push(),
            Send: lambda e: self._on_link(e.session, "send", e),
            SendWelcome: lambda e: self._on_link(e.session, "welcome", e),
            SendDrain: lambda e: self._on_link(e.session, "drain", e),
            AckEvent: lambda e: self._on_link(e.session, "ack_event", e),
            Close: lambda e: self._on_link(e.session, "close", e.error),
            Reply: self._reply,
            Changed: lambda e: self.changed.wake(e.job_id),
            AccessChanged: lambda _: self.on_access_changed(),
        }

    def start(self) -> None:
        """Begin to write and to keep time; a restored machine says first what it makes of its past."""
        self._store.start(self._on_durable, self._on_failure)
        self.handle(Tick())

    # ---- events -----------------------------------------------------------------------------------------

    def handle(self, event: Event) -> None:
        """Tell the machine, save what it wants saved, perform what may be performed.

        Raises Away once the machine has failed or the manager stops.
        """
        if self._stopping is not None:
            raise self._stopping
        try:
            now = self.clock.now()
            step = self.machine.handle(event, now)
            if step.saves or self._gathered:
                self._save(step.saves, step.effects)
        except Exception as error:
            # Half of a step may have happened: from here on the machine's word is worth nothing.
            self._on_failure(error)
            raise Away("MANAGER_AWAY", "the manager has failed and stops") from error
        if step.effects:
            ticket = self._ticket
            if ticket <= self._store.durable:
                self._do(step.effects)
            else:
                self._hold(ticket, step.effects)
        if self.machine.next_wake() != self._timer_for:
            self._set_timer()
        if step.saves:
            for watcher in self.watchers:
                watcher(step.saves, now)

    async def call(
        self, make: Callable[[int], Event], within_s: float | None = None, in_crowd: bool = False
    ) -> Answer:
        """Handle the event that `make` builds around a call's number, and wait for its reply.

        With `in_crowd` it may be handled some milliseconds later, together with others.

        Raises the CoreError that the machine replies; Away where the manager stops or has too much to write;
        TooLate (NO_ANSWER) where nothing is replied `within_s`.
        """
        if self._store.full:
            raise Away("MANAGER_BUSY", "the manager has more to write than its disk takes; try again shortly")
        call = next(self._call_ids)
        reply: asyncio.Future[Answer | CoreError] = self._loop.create_future()
        self._calls[call] = reply
        # Not `asyncio.timeout`, which takes a tenth of what is done here for a fault.
        timer = None if within_s is None else self._loop.call_later(within_s, self._no_answer, call, within_s)
        try:
            event = make(call)
            if not (in_crowd and self._stopping is None and self._crowd.takes(call, event)):
                self.handle(event)
            value = await reply
        except asyncio.CancelledError:
            if call in self._calls and self._stopping is None:
                self._gone(call)
            raise
        finally:
            self._calls.pop(call, None)
            if timer is not None:
                timer.cancel()
        if isinstance(value, CoreError):
            raise value
        return value

    async def durable(self) -> None:
        """Wait until what the machine knows now would survive a crash: readers see nothing else."""
        self._write_gathered()
        if self._stopping is not None and self.failed.done():
            raise self._stopping  # what could not be handed to the store has no ticket
        ticket = self._ticket
        if ticket <= self._store.durable:
            return
        if self._stopping is not None:
            raise self._stopping
        barrier = self._loop.create_future()
        self._barriers.append((ticket, barrier))
        await barrier

    async def room(self) -> None:
        """Wait while too much waits to be written: the back-pressure on volunteers."""
        while self._store.full:
            await self.durable()

    def stop(self) -> None:
        """Take no more events; who waits for a reply is told to try again, links are closed."""
        self._stop(Away("MANAGER_AWAY", "the manager is stopping; try again"))

    # ---- crowds -----------------------------------------------------------------------------------------

    def _handle_together(self, events: Sequence[Event]) -> None:
        self._together = True
        try:
            for event in events:
                self.handle(event)
        except Away:
            return  # the failure is reported already, and all of them are told
        except Exception as error:  # noqa: BLE001 - whatever it is, those behind would wait for ever
            self._on_failure(error)
            return
        finally:
            self._together = False
        self._write_late()
        self._crowds_ticket = self._ticket
        self._tell_crowd(self._store.durable)

    def _tell_crowd(self, durable: int) -> None:
        if self._crowds_ticket is not None and self._crowds_ticket <= durable:
            self._crowds_ticket = None
            self._crowd.answered()

    # ---- saving -----------------------------------------------------------------------------------------

    @property
    def _ticket(self) -> int:
        """That of the last save: what is gathered gets the next one that the store gives."""
        return self._store.submitted + bool(self._gathered)

    def _save(self, saves: Sequence[Record], effects: list[Effect]) -> None:
        self._gathered += saves
        patience = _NOBODY_WAITS_S if self._together else _patience_s(effects)
        if patience < _NOBODY_WAITS_S or len(self._gathered) >= _MOST_GATHERED:
            self._write_gathered(patience)
        elif self._gathering is None:
            self._gathering = self._loop.call_later(patience, self._write_late)

    def _write_gathered(self, patience_s: float = 0.0) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        if self._gathered:
            gathered, self._gathered = self._gathered, []
            try:
                self._store.submit(gathered, patience_s)
            except Exception as error:
                # A record that cannot be told as a row: what follows from it must not be told either.
                self._on_failure(error)
                raise Away("MANAGER_AWAY", "the manager has failed and stops") from error

    def _write_late(self) -> None:
        with suppress(Away):  # the failure is reported already
            self._write_gathered()

    # ---- effects ----------------------------------------------------------------------------------------

    def _hold(self, ticket: int, effects: list[Effect]) -> None:
        later: _Held = []
        for effect in effects:
            if isinstance(effect, Send | Reply) and effect.before_commit:
                self._do([effect])
            else:
                later.append(effect)
        if later:
            self._held.append((ticket, later))
            if any(isinstance(effect, Send) for effect in later):
                # While the writer has the disk make it durable; the writer begins first.
                self._loop.call_soon(self._prepare, later)

    def _prepare(self, held: _Held) -> None:
        for place, effect in enumerate(held):
            if isinstance(effect, Send) and (link := self.links.get(effect.session)) is not None:
                held[place] = _Prepared(link.prepare(effect))

    def _do(self, effects: Iterable[Effect | _Prepared]) -> None:
        try:
            for effect in effects:
                self._perform[type(effect)](effect)
        except Exception as error:  # noqa: BLE001 - whatever it is, what was to be told is lost: others must not go on
            self._on_failure(error)

    def _on_durable(self, ticket: int) -> None:
        while self._held and self._held[0][0] <= ticket and not self.failed.done():
            self._do(self._held.popleft()[1])
        while self._barriers and self._barriers[0][0] <= ticket:
            barrier = self._barriers.popleft()[1]
            if not barrier.done():
                barrier.set_result(None)
        self._tell_crowd(ticket)

    def _on_link(self, session: str, method: str, argument: object) -> None:
        link = self.links.get(session)
        if link is not None:
            getattr(link, method)(argument)

    def _reply(self, effect: Reply) -> None:
        reply = self._calls.pop(effect.call, None)
        if reply is not None and not reply.done():
            reply.set_result(effect.value)

    def _no_answer(self, call: int, within_s: float) -> None:
        if call in self._calls and self._stopping is None:
            late = TooLate("NO_ANSWER", f"no answer came within {within_s:g} s")
            self._reply(Reply(call, late))
            with suppress(Away):  # the failure is reported already
                self._gone(call)

    def _gone(self, call: int) -> None:
        if not self._crowd.leave(call):
            self.handle(CallGone(call))

    # ---- time and failure -------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_for = self.machine.next_wake()
        if self._timer_for is None or self._stopping is not None:
            return
        # Loops count milliseconds, and one that rounds down would come too early, and again until it is time.
        wait_ms = math.ceil((self._timer_for - self.clock.now().monotonic_ns) / 1e6)
        wait_s = min(max(wait_ms / 1e3, 0.0), _LONGEST_SLEEP_S)
        self._timer = self._loop.call_later(wait_s, self._on_timer)

    def _on_timer(self) -> None:
        due = self._timer_for
        self._timer_for = None
        if due is not None and self._stopping is None and due <= self.clock.now().monotonic_ns:
            try:
                self.handle(Tick())
            except Away:
                return  # the failure is reported already
        self._set_timer()

    def _on_failure(self, error: BaseException) -> None:
        if not self.failed.done():
            self.failed.set_result(error)
        self._stop(Away("MANAGER_AWAY", "the manager has failed and stops"))

    def _stop(self, why: CoreError) -> None:
        if self._stopping is not None:
            return
        self._stopping = why
        self._write_late()
        self._set_timer()
        for reply in self._calls.values():
            if not reply.done():
                reply.set_result(why)
        for _, barrier in self._barriers:
            if not barrier.done():
                barrier.set_exception(why)
        self._barriers.clear()
        for link in list(self.links.values()):
            link.close(why)
        self.changed.wake_all()

    @property
    def stopping(self) -> CoreError | None:
        """Why nothing is taken any more; None while all is well."""
        return self._stopping


def _patience_s(effects: list[Effect]) -> float:
    """How long what these effects wait for may be put off."""
    patience = _NOBODY_WAITS_S
    for effect in effects:
        if isinstance(effect, Send | Reply):
            if not effect.before_commit:
                if isinstance(effect, Reply) or not effect.together:
                    return 0.0
                patience = _TOGETHER_S
        elif not isinstance(effect, Changed):
            return 0.0
    return patience
