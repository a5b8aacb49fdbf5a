"""The memory of the bystander and the daemons: read, written, and stopped over it."""

import ctypes
import os

from attacker import FACTS, attempt, got_it, syscall

PTRACE, READV, WRITEV = (101, 117), (310, 270), (311, 271)
PIDFD_OPEN, PIDFD_GETFD, MADVISE, KCMP = 434, 438, 440, (312, 272)
ATTACH, DETACH, SEIZE = 16, 17, 0x4206


class Piece(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def first_mapping(pid):
    """Where something is mapped, as far as it is told."""
    maps = attempt(f"{pid}/maps", lambda: open(f"/proc/{pid}/maps").readline()) or "400000-"
    return int(maps.partition("-")[0], 16)


others = [pid for pids in FACTS["bystander_pids"].values() for pid in pids] + list(FACTS["daemons"].values())
here = ctypes.create_string_buffer(16)
for pid in others:
    for request in (ATTACH, SEIZE):
        if attempt(f"ptrace {pid}", syscall, PTRACE, request, pid, None, None) is not None:
            got_it(f"ptrace {pid}")
            attempt("detach", syscall, PTRACE, DETACH, pid, None, None)
    own = Piece(ctypes.addressof(here), 16)
    there = Piece(first_mapping(pid), 16)
    for what, number in (("process_vm_readv", READV), ("process_vm_writev", WRITEV)):
        count = ctypes.c_ulong(1)
        result = attempt(
            f"{what} {pid}", syscall, number, pid, ctypes.byref(own), count, ctypes.byref(there), count, 0
        )
        if result is not None:
            got_it(f"{what} {pid}")
    for name in ("environ", "maps", "mem", "root", "cwd", "fd", "stack", "syscall"):
        path = f"/proc/{pid}/{name}"
        if attempt(path, os.listdir if name in ("root", "cwd", "fd") else open, path) is not None:
            got_it(path)
    held = attempt(f"pidfd {pid}", syscall, PIDFD_OPEN, pid, 0)
    if held is not None:
        for number in (0, 1, 3):
            if attempt("pidfd_getfd", syscall, PIDFD_GETFD, held, number, 0) is not None:
                got_it(f"descriptor {number} of {pid}")
        attempt("process_madvise", syscall, MADVISE, held, ctypes.byref(there), 1, 20, 0)
    if attempt(f"kcmp {pid}", syscall, KCMP, os.getpid(), pid, 0, 0, 0) is not None:
        got_it(f"kcmp {pid}")
