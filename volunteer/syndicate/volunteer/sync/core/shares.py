"""What each address has of a room that all of them share, so that none takes the whole of it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)

_LOOPBACK = "127."


class Shares(Generic[Item]):
    """Items by the address that they came from; of each address the oldest first.

    All of 127.0.0.0/8 is one address here: a process of this machine may come from any of them.
    """

    def __init__(self) -> None:
        self._of: dict[str, dict[Item, None]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def of(self, address: str) -> int:
        """How many this address has."""
        return len(self._of.get(_house(address), ()))

    def add(self, address: str, item: Item) -> None:
        """The item is new."""
        self._of.setdefault(_house(address), {})[item] = None
        self._size += 1

    def remove(self, address: str, item: Item) -> None:
        """The item was added with this address."""
        house = _house(address)
        items = self._of[house]
        del items[item]
        if not items:
            del self._of[house]
        self._size -= 1

    def oldest(self, address: str) -> Item:
        """The oldest of an address that has any."""
        return next(iter(self._of[_house(address)]))

    def oldest_of_most(self) -> Item:
        """The oldest of the address that has most; there are items."""
        most = max(self._of, key=lambda house: len(self._of[house]))
        return next(iter(self._of[most]))


def _house(address: str) -> str:
    return _LOOPBACK if address.startswith(_LOOPBACK) else address
