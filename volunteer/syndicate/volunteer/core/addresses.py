"""Which address a slot gets: a fresh one for each job, from the prefix of its volunteer."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv4Network

_RESERVED_BELOW = 2  # the network's own address, and .1 for a gateway


def parse_prefix(text: str) -> IPv4Network:
    """A prefix with room for at least one slot. Raises ValueError with one line for people."""
    network = IPv4Network(text)
    if network.num_addresses <= _RESERVED_BELOW + 1:
        raise ValueError(f"{text} has no room for a slot: it must be a /30 or larger")
    return network


def room_in(network: IPv4Network) -> int:
    """How many slots can have an address of it at a time."""
    return max(network.num_addresses - _RESERVED_BELOW - 1, 0)  # the last one is the broadcast address


def pick(network: IPv4Network, cursor: int, in_use: Collection[str]) -> tuple[str, int] | None:
    """The next address after `cursor` that is not in use, and the cursor after it; None where all are in use.

    Going round keeps an address out of use for as long as the prefix allows, so that what a job left behind
    in another machine's tables does not meet the next job.
    """
    usable = room_in(network)
    base = int(network.network_address) + _RESERVED_BELOW
    for step in range(min(usable, len(in_use) + 1)):
        index = (cursor + step) % usable
        address = str(type(network.network_address)(base + index))
        if address not in in_use:
            return address, (index + 1) % usable
    return None
