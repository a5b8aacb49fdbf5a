"""What the slots of a keeper share with it, and with each other."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from ..clock import Clock
from ..local import Event
from .calm import Calm
from .epochs import Epochs
from .lease import Leases
from .pump import Pump
from .together import Together


@dataclass(frozen=True)
class Company:
    """What a slot needs of the keeper."""

    clock: Clock
    pump: Pump
    epochs: Epochs
    leases: Leases
    calm: Calm
    networks: Together
    tell: Callable[[Event], None]
    spawn: Callable[[Coroutine[Any, Any, None]], None]
    trouble: Callable[[int, str], None]  # for the keeper's log: what failed while nobody asked
