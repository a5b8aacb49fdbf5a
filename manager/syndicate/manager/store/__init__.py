"""What must survive the manager, and how it is made durable."""

from __future__ import annotations

from .errors import CommitFailed, StateDirBusy, StoreBroken, StoreError, StoreTooNew
from .protocol import Store, Viewer
from .sqlite import SqliteStore

__all__ = [
    "CommitFailed",
    "SqliteStore",
    "StateDirBusy",
    "Store",
    "StoreBroken",
    "StoreError",
    "StoreTooNew",
    "Viewer",
]
