"""The output of tasks: pieces as the volunteers read them, in files that are only appended to."""

from __future__ import annotations

from .reader import LogReader
from .store import LogKey, LogStore, Stored

__all__ = ["LogKey", "LogReader", "LogStore", "Stored"]
