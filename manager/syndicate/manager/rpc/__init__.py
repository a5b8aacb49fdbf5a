"""The manager's face: one servicer for each proto, and the guard in front of them."""

from __future__ import annotations

from .chaos import ChaosControl
from .guard import Guard
from .registry import Registry
from .scheduler import Desk, Scheduler
from .server import Listener, PortInUse
from .upload import Uploads

__all__ = [
    "ChaosControl",
    "Desk",
    "Guard",
    "Listener",
    "PortInUse",
    "Registry",
    "Scheduler",
    "Uploads",
]
