"""Which addresses each volunteer's slots have: the operator's own prefix, or a part of the manager's pool.

A volunteer gets four addresses for each slot, so that the next job on a slot has a fresh one, and a /26 at
least: a /16 is enough for a thousand volunteers of up to 15 slots.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from .errors import BadRequest, Exhausted

ADDRESSES_PER_SLOT = 4
SMALLEST_BITS = 6
# The network's own address, the gateway's and the broadcast address are no slot's.
_RESERVED = 3


def normal(prefix: str) -> str:
    """The prefix in its usual form. Raises BadRequest where it is none."""
    try:
        return str(ipaddress.IPv4Network(prefix))
    except ValueError as error:
        raise BadRequest("BAD_FIELD", f"prefix {prefix!r:.80}: {error}", field="prefix") from None


def is_address(text: str) -> bool:
    """Whether it is an IPv4 address in its usual form."""
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def overlap(one: str, other: str) -> bool:
    """Whether two prefixes share an address."""
    (first, last), (other_first, other_last) = _range(one), _range(other)
    return first <= other_last and other_first <= last


def has_room(prefix: str, slots: int) -> bool:
    """Whether each slot can have an address of it."""
    first, last = _range(prefix)
    return last - first + 1 >= slots + _RESERVED


def choose(pool: str, taken: Iterable[str], slots: int = 1) -> str:
    """The first part of the pool for so many slots that overlaps none of `taken`.

    Raises Exhausted where there is none.
    """
    network = ipaddress.IPv4Network(pool)
    bits = max(SMALLEST_BITS, (ADDRESSES_PER_SLOT * slots + _RESERVED - 1).bit_length())
    length = max(32 - bits, network.prefixlen)
    size = 1 << (32 - length)
    at, end = _range(str(network))
    for first, last in sorted(map(_range, taken)):
        if first >= at + size:
            break  # a gap that is wide enough
        if last >= at:
            at = -(-(last + 1) // size) * size
    if at + size - 1 > end:
        raise Exhausted(
            "PREFIXES_EXHAUSTED",
            f"every /{length} of {pool} is given away; give the manager a larger pool (prefixes)",
        )
    return f"{ipaddress.IPv4Address(at)}/{length}"


# A thousand volunteers that come at once are each compared with all others: 10 us for each text otherwise.
@lru_cache(maxsize=4096)
def _range(prefix: str) -> tuple[int, int]:
    network = ipaddress.IPv4Network(prefix)
    return int(network.network_address), int(network.broadcast_address)
