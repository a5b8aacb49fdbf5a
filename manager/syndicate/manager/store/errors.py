"""The store's error tree.

StoreError
├── StateDirBusy          another manager has this state directory
├── StoreTooNew           made by a newer version of the software
├── StoreBroken           the database cannot be read
└── CommitFailed          records could not be made durable: the manager must stop
"""

from __future__ import annotations


class StoreError(Exception):
    """The store cannot do its work; the text is one line for the operator."""


class StateDirBusy(StoreError):
    """Another manager runs on this state directory."""


class StoreTooNew(StoreError):
    """The database was made by a newer version of the software."""


class StoreBroken(StoreError):
    """The database cannot be opened or read."""


class CommitFailed(StoreError):
    """Records could not be made durable."""
