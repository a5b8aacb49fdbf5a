"""The disks of tasks that were kept when their jobs ended, each a tar that gzip has compressed."""

from __future__ import annotations

from .store import DiskBounds, DiskStore, DiskUpload, Kept

__all__ = ["DiskBounds", "DiskStore", "DiskUpload", "Kept"]
