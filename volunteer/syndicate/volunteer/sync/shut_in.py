"""A server that was started by root shuts itself in: it needs nothing but the sockets that it is handed.

Before it stands by: a network of its own that leads nowhere, no way to gain anything by exec, an empty root
folder, and no further process. When it is handed its sockets: another user, without groups or
capabilities. Everything that is ever imported must be there before.
"""

from __future__ import annotations

import ctypes
import os
import resource
from typing import Final

_CLONE_NEWNET: Final = 0x4000_0000
_CLONE_NEWIPC: Final = 0x0800_0000
_PR_SET_NO_NEW_PRIVS: Final = 38


def shut_in(root: str) -> None:
    """See above; `root` is an empty folder that nobody writes to. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET | _CLONE_NEWIPC) or libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    os.chroot(root)
    os.chdir("/")
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def become(uid: int) -> None:
    """Be this user and group for good. Raises OSError, and ValueError for root, whom nothing shuts in."""
    if uid <= 0:
        raise ValueError("a server is not handed over to root")
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
