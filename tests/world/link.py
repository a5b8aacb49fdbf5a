"""Streams between two hosts, and the weather that they go through.

A stream keeps what TCP promises: in order, nothing twice, a prefix of what was sent. When it breaks, what is
under way in either direction is lost, and the two ends learn of it at different times; one of them perhaps
much later, so that the next stream of the same volunteer comes while the last one still seems to stand.

The *harsh* weather goes beyond that: single messages are lost, repeated or overtaken within one stream. The
commands are idempotent by design, so even then nothing may go wrong, only slower. A stream that did so
breaks sooner or later: that is when what has no answer (a drain, for instance) is told again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from .clock import MS, SECOND
from .world import World


@dataclass
class Weather:
    """What the network does now; the nemesis changes it. Durations in nanoseconds, chances in 0 to 1.

    `cut` parks everything until it is lifted, as a partition does to TCP.
    """

    slowest_ns: int = 2 * MS
    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    cut: bool = False


class End:
    """One end of a stream. The owner sets `on_message` and `on_closed` before it lets time pass."""

    def __init__(self, stream: Stream) -> None:
        self.on_message: Callable[[object], None] = lambda message: None
        self.on_closed: Callable[[], None] = lambda: None
        self.closed = False
        self._stream = stream
        self.last_due = 0
        self.carried = 0

    def send(self, message: object) -> None:
        """Sends to the other end; into the void once the stream is broken."""
        if not self.closed:
            self._stream.carry(self, message)

    def close(self) -> None:
        """Ends the stream from this side. `on_closed` of this end is not called."""
        self.closed = True
        self._stream.break_()


class Stream:
    """One bidirectional stream; `left` opened it."""

    def __init__(self, world: World, weather: Weather) -> None:
        self.left = End(self)
        self.right = End(self)
        self.broken = False
        self._doomed = False
        self._flushes = False
        self._world = world
        self._weather = weather
        self._parked: list[tuple[End, object]] = []

    def carry(self, sender: End, message: object) -> None:
        """Puts a message on its way from one end to the other."""
        if self.broken:
            return
        world, weather = self._world, self._weather
        receiver = self.right if sender is self.left else self.left
        sender.carried += 1
        due = max(sender.last_due, world.now + world.between(50_000, weather.slowest_ns))
        first = sender.carried == 1  # Hello and Welcome make the stream: without them there is none
        if first:
            sender.last_due = due
            world.at(due, lambda: self._arrive(receiver, message))
            return
        if world.chance(weather.drop):
            self._doom()
            return
        if world.chance(weather.reorder):
            self._doom()
            due += world.between(0, 20 * weather.slowest_ns)
        else:
            sender.last_due = due
        world.at(due, lambda: self._arrive(receiver, message))
        if world.chance(weather.duplicate):
            self._doom()
            world.at(due + world.between(0, 20 * weather.slowest_ns), lambda: self._arrive(receiver, message))

    def _doom(self) -> None:
        """It did what no stream does: sooner or later it breaks."""
        if not self._doomed:
            self._doomed = True
            self._world.after(self._world.between(SECOND, 60 * SECOND), self.break_)

    def lift(self) -> None:
        """Lets through what a partition held back, in its order."""
        parked, self._parked = self._parked, []
        for receiver, message in parked:
            self._arrive(receiver, message)

    def break_(self) -> None:
        """Breaks it: what is under way is lost, or half the time comes until the end learns of the break."""
        if self.broken:
            return
        self.broken = True
        self._flushes = self._world.chance(0.5)
        self._parked.clear()
        slow = self._world.random.choice((None, None, None, self.left, self.right))
        for end in (self.left, self.right):
            low, high = (5 * SECOND, 60 * SECOND) if end is slow else (100_000, 300 * MS)
            self._world.after(self._world.between(low, high), partial(self._tell, end))

    def _arrive(self, receiver: End, message: object) -> None:
        if receiver.closed or (self.broken and not self._flushes):
            return
        if self._weather.cut:
            self._parked.append((receiver, message))
        else:
            receiver.on_message(message)

    @staticmethod
    def _tell(end: End) -> None:
        if not end.closed:
            end.closed = True
            end.on_closed()
