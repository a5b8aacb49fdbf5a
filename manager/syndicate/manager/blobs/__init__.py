"""Sources, addressed by their SHA-256, in a directory."""

from __future__ import annotations

from .directory import BlobDirectory, Upload
from .source import check_source

__all__ = ["BlobDirectory", "Upload", "check_source"]
