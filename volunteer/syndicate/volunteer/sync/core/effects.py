"""What the barriers want done, and what they tell of themselves."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Generic

from .events import Party, Why


@dataclass(frozen=True, slots=True)
class Release(Generic[Party]):
    """Answer these with `value`: their waiting is over."""

    parties: tuple[Party, ...]
    value: int


@dataclass(frozen=True, slots=True)
class Refuse(Generic[Party]):
    """Send this one away: its request counts nothing."""

    party: Party
    why: str


@dataclass(frozen=True, slots=True)
class Watch(Generic[Party]):
    """Say Expired of this one after `timeout_ms`, unless its waiting is over before."""

    party: Party
    timeout_ms: int


# ---- told -----------------------------------------------------------------------------------------------
# `tasks` counts by source who was at a barrier when it ended, inits that waited included.


@dataclass(frozen=True, slots=True)
class Initialised:
    """An init came: `count` waiters more. `waits`: its owner waits, too."""

    barrier: bytes
    source: str
    count: int
    waits: bool
    remaining: int


@dataclass(frozen=True, slots=True)
class Came:
    """A waiter came."""

    barrier: bytes
    source: str
    remaining: int


@dataclass(frozen=True, slots=True)
class Left:
    """A waiter, or an init's owner, left before the barrier opened, and was un-counted."""

    barrier: bytes
    source: str
    why: Why
    owner: bool
    remaining: int


@dataclass(frozen=True, slots=True)
class Opened:
    """A barrier opened with the largest error that anyone gave."""

    barrier: bytes
    error: int
    tasks: dict[str, int]


@dataclass(frozen=True, slots=True)
class Abandoned:
    """An init's owner went away; `told` waiters had asked to be told."""

    barrier: bytes
    source: str
    told: int


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """Who asked to be told came to an abandoned barrier, was told so, and was never counted."""

    barrier: bytes
    source: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """A barrier was dropped with all others."""

    barrier: bytes
    tasks: dict[str, int]


class Room(StrEnum):
    """What a server may have no room for."""

    TCP = "tcp"  # more who wait
    UDP = "udp"
    BARRIERS = "barriers"


@dataclass(frozen=True, slots=True)
class Refused:
    """A request was sent away, or not heard at all; `room` is what it lacked."""

    source: str
    why: str
    room: Room | None = None


Notice = Initialised | Came | Left | Opened | Abandoned | TurnedAway | Dropped | Refused


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell it to whoever owns the server."""

    notice: Notice


Effect = Release[Party] | Refuse[Party] | Watch[Party] | Tell
