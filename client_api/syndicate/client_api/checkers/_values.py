"""JSON values as hashable ones, which models keep as states."""

from __future__ import annotations

import sys
from collections.abc import Hashable
from enum import Enum
from typing import Any


class _Bool(Enum):
    """True and false of JSON, which equal 1 and 0 in Python."""

    TRUE = True
    FALSE = False


def freeze(value: Any) -> Hashable:
    """A hashable value that equals another's just where the JSON values are equal."""
    if value is None or type(value) is str or type(value) is int:
        return value
    if isinstance(value, bool):
        return _Bool(value)
    if isinstance(value, (list, tuple)):
        return tuple([freeze(one) for one in value])
    if isinstance(value, dict):
        return frozenset((name, freeze(one)) for name, one in value.items())
    return value if isinstance(value, Hashable) else repr(value)


def size(state: object) -> int:
    """Bytes of a state with the containers in it; numbers and text in these are taken to be the history's."""
    own = sys.getsizeof(state)
    if isinstance(state, (tuple, frozenset)):
        own += sum(size(one) for one in state if isinstance(one, (tuple, frozenset)))
    return own
