"""What the services for users work with."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from ..disks import DiskStore
from ..engine import Engine
from ..logs import LogStore
from ..store import Store
from ..wakers import Wakers
from .audit import AuditLog
from .shelves import Shelves
from .upload import Uploads


@dataclass(frozen=True, slots=True)
class Desk:
    """What the Scheduler works with. `files` runs what would block the loop.

    With `publish_client_logs` students see what clients print of each job that they see.
    """

    engine: Engine
    store: Store
    max_source_bytes: int
    uploads: Uploads
    logs: LogStore
    logs_changed: Wakers
    shelves: Shelves
    disks: DiskStore
    files: Executor
    version: str
    audit: AuditLog
    publish_client_logs: bool = False
    expires: Callable[[str], int] = lambda volunteer_id: 0
    """When a volunteer's certificate does, in seconds since 1970; 0 where it has none."""
