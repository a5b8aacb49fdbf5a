"""The manager's face: one servicer for each proto, and the guard in front of them."""

from __future__ import annotations

from .audit import AuditLog
from .chaos import ChaosControl
from .chaos_callers import ByUsers, Relayed, UsersChaosControl
from .desk import Desk
from .doors import CertifiedDoor, Door, UsersDoor, VolunteersDoor
from .guard import Guard, Watch
from .limits import Usage
from .registry import Registry
from .scheduler import Scheduler
from .server import Listener, PortInUse
from .shelves import Shelves
from .upload import Uploads

__all__ = [
    "AuditLog",
    "ByUsers",
    "CertifiedDoor",
    "ChaosControl",
    "Desk",
    "Door",
    "Guard",
    "Listener",
    "PortInUse",
    "Registry",
    "Relayed",
    "Scheduler",
    "Shelves",
    "Uploads",
    "Usage",
    "UsersChaosControl",
    "UsersDoor",
    "VolunteersDoor",
    "Watch",
]
