"""Which addresses each volunteer's slots have: the operator's own prefix, or a /24 of the manager's pool."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection

from .errors import BadRequest, Exhausted

NEW_PREFIX = 24


def normal(prefix: str) -> str:
    """The prefix in its usual form. Raises BadRequest where it is none."""
    try:
        return str(ipaddress.IPv4Network(prefix))
    except ValueError as error:
        raise BadRequest("BAD_FIELD", f"prefix {prefix!r:.80}: {error}", field="prefix") from None


def overlap(one: str, other: str) -> bool:
    """Whether two prefixes share an address."""
    return ipaddress.IPv4Network(one).overlaps(ipaddress.IPv4Network(other))


def choose(pool: str, taken: Collection[str]) -> str:
    """The first /24 of the pool that overlaps none of `taken`. Raises Exhausted where there is none."""
    network = ipaddress.IPv4Network(pool)
    others = [ipaddress.IPv4Network(prefix) for prefix in taken]
    small = {str(other) for other in others if other.prefixlen == NEW_PREFIX}
    large = [other for other in others if other.prefixlen != NEW_PREFIX]
    for candidate in network.subnets(new_prefix=max(NEW_PREFIX, network.prefixlen)):
        if str(candidate) not in small and not any(candidate.overlaps(other) for other in large):
            return str(candidate)
    raise Exhausted(
        "PREFIXES_EXHAUSTED", f"every /{NEW_PREFIX} of {pool} is given away; give the manager a larger pool"
    )
