"""What can happen to the barriers.

A party is whoever waits: the caller's own value, of which nothing is asked but that it can be a key.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from .wire import Request

Party = TypeVar("Party", bound=Hashable)


class Why(StrEnum):
    """Why a party left before its barrier opened."""

    CLOSED = "closed"  # it ended the connection, or said that it leaves
    LOST = "lost"  # the connection broke, or its machine was not heard of
    TIMED_OUT = "timed out"
    ABANDONED = "abandoned"  # it was told that an init's owner went away
    NO_ROOM = "no room"  # over UDP without an id: a later one has its place


@dataclass(frozen=True, slots=True)
class Arrived(Generic[Party]):
    """A request came. `source` is the address that it came from, by which a task is known."""

    party: Party
    source: str
    request: Request


@dataclass(frozen=True, slots=True)
class Gone(Generic[Party]):
    """A party went away; it cannot be answered any more. One that does not wait is no news."""

    party: Party
    why: Why


@dataclass(frozen=True, slots=True)
class Expired(Generic[Party]):
    """A party's time-out ran out (see Watch). One that does not wait is no news."""

    party: Party


@dataclass(frozen=True, slots=True)
class DropAll:
    """Drop all barriers and let their waiters go."""


@dataclass(frozen=True, slots=True)
class DropOne:
    """Drop one barrier, as DropAll does with all. One that is not there is no news."""

    barrier: bytes


Event = Arrived[Party] | Gone[Party] | Expired[Party] | DropAll | DropOne
