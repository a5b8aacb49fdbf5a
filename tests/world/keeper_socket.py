"""The Unix socket between one volunteer process and its keeper: whole and in order until it is gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from syndicate.volunteer import local

from .world import World

if TYPE_CHECKING:
    from .keeper_model import Keeper


class Connection:
    """One connection; the owner sets the three callbacks before it lets time pass."""

    def __init__(self, world: World, keeper: Keeper) -> None:
        self.on_reply: Callable[[int, local.Reply], None] = lambda number, reply: None
        self.on_event: Callable[[local.Event], None] = lambda event: None
        self.on_lost: Callable[[], None] = lambda: None
        self.open = True
        self._world, self._keeper = world, keeper
        self._down = self._up = 0

    def call(self, number: int, request: local.Request) -> None:
        """Sends a request."""
        self._down = max(self._down, self._world.now + self._world.between(20_000, 200_000))
        self._world.at(self._down, lambda: self._keeper.receive(self, number, request) if self.open else None)

    def reply(self, number: int, reply: local.Reply) -> None:
        """The keeper answers."""
        self._tell(lambda: self.on_reply(number, reply))

    def event(self, event: local.Event) -> None:
        """The keeper tells something."""
        self._tell(lambda: self.on_event(event))

    def lose(self) -> None:
        """The keeper's side is gone; the volunteer learns of it."""
        if self.open:
            self.open = False
            self._world.after(50_000, self.on_lost)

    def close(self) -> None:
        """The volunteer's side is gone."""
        self.open = False

    def _tell(self, do: Callable[[], None]) -> None:
        self._up = max(self._up, self._world.now + self._world.between(20_000, 200_000))
        self._world.at(self._up, lambda: do() if self.open else None)
