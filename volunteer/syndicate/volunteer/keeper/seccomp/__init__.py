"""Which system calls a task may make: a seccomp filter, compiled once by libseccomp and kept in memory.

What libseccomp knows is allowed but for what `_policy` takes out; what it does not know is not there. The
kernel works out once which calls pass whatever their arguments: those cost the same however long it is.
"""

from __future__ import annotations

import fcntl
import os

from ..errors import failed
from ._library import Library
from ._policy import MACHINES, NEWEST, rules

__all__ = ["open_filter", "reopened", "supported", "write_filter"]

_INSTRUCTION_BYTES = 8
_MOST_INSTRUCTIONS = 4096  # the kernel's BPF_MAXINSNS
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def supported(machine: str) -> bool:
    """Whether there is a filter for this kind of machine, as `uname -m` names it."""
    return machine in MACHINES


def write_filter(machine: str, file: int) -> int:
    """Write the filter's program to a descriptor; how many instructions it has. Raises OSError.

    A program is an array of the kernel's struct sock_filter, in the byte order of `machine`.
    """
    library = Library()
    library.export(machine, rules(library.calls(machine, NEWEST)), file)
    return os.lseek(file, 0, os.SEEK_CUR) // _INSTRUCTION_BYTES


def open_filter(machine: str | None = None) -> int:
    """The filter for this machine as a sealed memory file, which the caller closes; raises KeeperError."""
    machine = machine or os.uname().machine
    if not supported(machine):
        raise failed(f"there is no filter of system calls for {machine}, but for {' and '.join(MACHINES)}")
    file = os.memfd_create("syndicate-filter", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        count = write_filter(machine, file)
        if not 0 < count <= _MOST_INSTRUCTIONS:
            raise failed(f"the filter of system calls has {count} instructions: the kernel takes 1 to 4096")
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
    except OSError as error:
        os.close(file)
        raise failed(f"cannot make the filter of system calls: {error.strerror or error}") from error
    except BaseException:
        os.close(file)
        raise
    return file


def reopened(file: int) -> int:
    """Another descriptor of a memory file, with a position of its own; the caller closes it."""
    return os.open(f"/proc/self/fd/{file}", os.O_RDONLY | os.O_CLOEXEC)
