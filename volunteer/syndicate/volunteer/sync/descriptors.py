"""How many files this process may open: as many as it can get, since each waiter over TCP is one."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Final

WANTED: Final = 65_536
RESERVED: Final = 64  # for all that is no waiter


def raise_limit(wanted: int = WANTED) -> int:
    """Raise the bound to `wanted` or as near as this process may; returns what it is then.

    Only root may go beyond the hard bound, and nobody beyond the kernel's own.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = min(wanted, int(Path("/proc/sys/fs/nr_open").read_text(encoding="ascii")))
    for bound in ((most, max(most, hard)), (min(most, hard), hard)):
        if bound[0] <= soft:
            break
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, bound)
        except (ValueError, PermissionError):
            continue  # not root: what the hard bound allows
        break
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
