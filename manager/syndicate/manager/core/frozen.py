"""What values are made with: events, effects, records and their parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def frozen(kind: type[T]) -> type[T]:
    """A frozen dataclass with slots, compared and hashed by its fields.

    It is the type checker that holds it frozen. At run time that would cost a call of `object.__setattr__`
    for each field, five times what it takes to store it, and each step of the machine makes dozens of values.
    """
    return dataclass(slots=True, unsafe_hash=True)(kind)
