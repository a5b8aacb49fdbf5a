"""Giving memory back that only the start needed."""

from __future__ import annotations

import ctypes
import gc


def settle() -> None:
    """Return what the start has freed to the machine, and let later collections pass over what stays.

    The C library keeps it else; one without malloc_trim(3) is left alone.
    """
    gc.collect()
    gc.freeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))
