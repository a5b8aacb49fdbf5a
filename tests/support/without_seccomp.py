"""`python without_seccomp.py COMMAND…`: runs a command as on a kernel that cannot filter system calls.

A seccomp filter answers `prctl(PR_SET_SECCOMP, …)` with EINVAL and `seccomp(2)` with ENOSYS, which is what
such a kernel says; all else is the kernel's own. It holds for every process that the command starts. Needs
root.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

# The numbers of prctl(2) and seccomp(2), which differ between machines: <asm/unistd.h>.
CALLS = {"x86_64": (157, 317), "aarch64": (167, 277)}
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
RET_ALLOW, RET_ERRNO = 0x7FFF0000, 0x00050000
LOAD, IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
NUMBER_AT, ARGUMENTS_AT = 0, 16  # in struct seccomp_data


class Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def refuse_filters() -> None:
    """Installs the filter in this process, for good: the last that it and its children get."""
    prctl, seccomp = CALLS[platform.machine()]
    lines = (
        (LOAD, 0, 0, NUMBER_AT),
        (IF_EQUAL, 5, 0, seccomp),
        (IF_EQUAL, 0, 3, prctl),
        (LOAD, 0, 0, ARGUMENTS_AT),
        (IF_EQUAL, 0, 1, PR_SET_SECCOMP),
        (RETURN, 0, 0, RET_ERRNO | errno.EINVAL),
        (RETURN, 0, 0, RET_ALLOW),
        (RETURN, 0, 0, RET_ERRNO | errno.ENOSYS),
    )
    code = b"".join(struct.pack("=HBBI", *line) for line in lines)
    program = Program(len(lines), code)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp filter")


if __name__ == "__main__":
    refuse_filters()
    os.execvp(sys.argv[1], sys.argv[1:])
