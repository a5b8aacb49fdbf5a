"""All capabilities of a user namespace of its own, and the mounts that one may make there."""

import ctypes
import os
import subprocess

from attacker import attempt, got_it, note, syscall

UNSHARE, CLONE, CLONE3, SETNS, MOUNT = (272, 97), (56, 220), 435, (308, 268), (165, 40)
NEW_USER, NEW_MOUNTS, NEW_TIME, CHILD = 0x1000_0000, 0x2_0000, 0x80, 17


def look(how):
    """Claim what came of it: capabilities, and a mount made with them."""
    status = open("/proc/self/status").read()
    capable = int(status.partition("CapEff:")[2].split()[0], 16)
    if capable:
        got_it(f"{how} gave the capabilities {capable:x}")
    if attempt(f"{how}, mount", syscall, MOUNT, b"x", b"/tmp", b"tmpfs", 0, None) is not None:
        got_it(f"{how} let it mount")


def apart(how, steps):
    """In a process of its own, which may become somebody else."""
    pid = os.fork()
    if pid == 0:
        try:
            if steps() is not None:
                look(how)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def cloned(number, *arguments):
    """A child by a raw call; what comes of it is looked at there."""
    pid = attempt(f"clone {number}", syscall, number, *arguments)
    if pid == 0:
        look(f"call {number}")
        os._exit(0)
    if pid:
        os.waitpid(pid, 0)


for flags in (NEW_USER | NEW_MOUNTS, NEW_USER, NEW_MOUNTS, NEW_TIME, 0x400_0000, 0x800_0000, 0x200_0000):
    apart(f"unshare {flags:x}", lambda flags=flags: attempt(f"unshare {flags:x}", syscall, UNSHARE, flags))
upper = ctypes.c_ulong(NEW_USER | NEW_MOUNTS | 1 << 40)  # of a number that the kernel cuts to its lower half
apart("unshare with more bits", lambda: attempt("unshare with more bits", syscall, UNSHARE, upper))
for flags in (NEW_USER | CHILD, NEW_USER | NEW_MOUNTS | CHILD, 1 << 40 | NEW_USER | CHILD):
    cloned(CLONE, ctypes.c_ulong(flags), None, None, None, None)
arguments = (ctypes.c_ulonglong * 11)(NEW_USER | NEW_MOUNTS, 0, 0, 0, CHILD)
cloned(CLONE3, arguments, ctypes.c_size_t(88))
for pid in (1, os.getpid()):
    for kind in ("user", "mnt"):
        held = attempt(f"ns/{kind} of {pid}", os.open, f"/proc/{pid}/ns/{kind}", os.O_RDONLY)
        if held is not None:
            apart(f"setns {kind} of {pid}", lambda held=held: attempt("setns", syscall, SETNS, held, 0))
command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", "mount -t tmpfs x /tmp && echo in"]
told = subprocess.run(command, capture_output=True, text=True, check=False)
note(told.stderr)
if "in" in told.stdout:
    got_it("unshare(1) let it mount")
