"""Histories that clients hand over: files that grow piece by piece, kept with their job."""

from __future__ import annotations

from .shelf import PIECE_BYTES, Bounds, Kept, Piece, Shelf, remove_job, sizes

__all__ = ["PIECE_BYTES", "Bounds", "Kept", "Piece", "Shelf", "remove_job", "sizes"]
