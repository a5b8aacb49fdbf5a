"""What one keeper has to itself on a host: numbers in a file of the host's, locked while the keeper lives.

A record lock is the process's own: what it starts neither has it nor keeps it, and the kernel lets go of it
when the process ends, however it ends. Closing the file lets go of all of them, so it is opened once. See
fcntl(2).
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from .errors import failed

NAMES = Path("/run/syndicate-instances")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def open_file(path: Path) -> int:
    """The file with the numbers, which the caller closes; raises OSError."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def lock(descriptor: int, numbers: range) -> bool:
    """Take these numbers, unless another process has some of them; raises OSError."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, len(numbers), numbers.start)
    except (BlockingIOError, PermissionError):  # which of the two is the system's choice
        return False
    return True


def claim_name(instance: str, path: Path = NAMES) -> int:
    """Take an instance's name on this host, until what is returned is closed.

    Two keepers of one name would take each other's cgroups, networks and tasks for their own, whatever their
    folders. Raises KeeperError where another has it, OSError where the file cannot be had.
    """
    descriptor = open_file(path)
    try:
        if lock(descriptor, range(_number(instance), _number(instance) + 1)):
            return descriptor
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    raise failed(f"another keeper on this host is named {instance}: give this one another --instance")


def _number(name: str) -> int:
    """A number of its own for each name of at most six letters: no digit is 0, so that none is lost."""
    number = 0
    for letter in name:
        number = number * (len(_DIGITS) + 1) + 1 + _DIGITS.index(letter)
    return number
