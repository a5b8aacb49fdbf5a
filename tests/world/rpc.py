"""Unary calls to a manager through the weather: a request may be lost, or the answer to a heard one."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING

from syndicate.manager.core import effects, errors, events

from .clock import MS
from .link import Weather
from .world import World

if TYPE_CHECKING:
    from .manager_host import ManagerHost


class Failure(Enum):
    """What gRPC makes up by itself."""

    UNAVAILABLE = "unavailable"
    DEADLINE = "deadline exceeded"


Outcome = effects.Answer | errors.CoreError | Failure


class Call:
    """One call. `done` is called exactly once, unless the caller abandons it."""

    def __init__(
        self,
        world: World,
        weather: Weather,
        manager: ManagerHost,
        make: Callable[[int], events.Event],
        done: Callable[[Outcome], None],
        deadline_ns: int,
    ) -> None:
        self._world, self._weather, self._manager = world, weather, manager
        self._make = make
        self._done: Callable[[Outcome], None] | None = done
        self._number: int | None = None
        self._deadline = world.after(deadline_ns, lambda: self._end(Failure.DEADLINE))
        if weather.cut or world.chance(weather.drop):
            return  # the deadline will tell
        world.after(world.between(50_000, weather.slowest_ns), self._arrive)

    def abandon(self) -> None:
        """The caller died."""
        self._done = None
        self._deadline.cancel()
        self._hang_up()

    def _arrive(self) -> None:
        if self._done is None:
            return
        self._number = self._manager.call(self._make, self._answered)
        if self._number is None:
            self._world.after(self._world.between(50_000, 5 * MS), lambda: self._end(Failure.UNAVAILABLE))

    def _answered(self, value: Outcome) -> None:
        self._number = None
        if self._weather.cut or self._world.chance(self._weather.drop):
            return
        self._world.after(self._world.between(50_000, self._weather.slowest_ns), lambda: self._end(value))

    def _end(self, value: Outcome) -> None:
        done, self._done = self._done, None
        self._deadline.cancel()
        self._hang_up()
        if done is not None:
            done(value)

    def _hang_up(self) -> None:
        if self._number is not None:
            self._manager.gone(self._number)
            self._number = None
