"""`python without_nf_tables.py COMMAND…`: runs a command as on a kernel that has no netfilter netlink.

A seccomp filter answers `socket(AF_NETLINK, …, NETLINK_NETFILTER)` with EPROTONOSUPPORT, which is what such a
kernel says; all else is the kernel's own. It holds for every process that the command starts. Needs root.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

# AUDIT_ARCH_… and the number of socket(2): <linux/audit.h>, <asm/unistd.h>.
ARCHITECTURES = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
AF_NETLINK, NETLINK_NETFILTER = 16, 12
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
RET_ALLOW, RET_ERRNO = 0x7FFF0000, 0x00050000
LOAD, IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
NUMBER_AT, ARCHITECTURE_AT, ARGUMENTS_AT = 0, 4, 16  # in struct seccomp_data; little-endian, 8 bytes each


class Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def refuse_netfilter() -> None:
    """Installs the filter in this process, for good."""
    architecture, socket_number = ARCHITECTURES[platform.machine()]
    wanted = (
        (ARCHITECTURE_AT, architecture),
        (NUMBER_AT, socket_number),
        (ARGUMENTS_AT, AF_NETLINK),
        (ARGUMENTS_AT + 2 * 8, NETLINK_NETFILTER),
    )
    code, left = b"", 2 * len(wanted)
    for offset, value in wanted:
        left -= 2
        # Where it is another value, on to the last line, which allows.
        code += struct.pack("=HBBI", LOAD, 0, 0, offset) + struct.pack("=HBBI", IF_EQUAL, 0, left + 1, value)
    code += struct.pack("=HBBI", RETURN, 0, 0, RET_ERRNO | errno.EPROTONOSUPPORT)
    code += struct.pack("=HBBI", RETURN, 0, 0, RET_ALLOW)
    program = Program(len(code) // 8, code)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp filter")


if __name__ == "__main__":
    refuse_netfilter()
    os.execvp(sys.argv[1], sys.argv[1:])
