"""System V and POSIX objects of others: memory, queues, semaphores, by the bystander's key and by listing."""

import ctypes
import os

from attacker import attempt, got_it

KEY = 0x53594E44  # the bystander's segment, which it lets everybody write
OVER = b"written by an attack"

libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
libc.shmat.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]


def called(function, *arguments):
    """A function of the C library that answers -1 for an error; raises OSError."""
    result = function(*arguments)
    if result == -1:
        raise OSError(ctypes.get_errno(), "")
    return result


for segment in {attempt("shmget", called, libc.shmget, KEY, 1, 0), *range(8), 32768, 65536} - {None}:
    address = attempt(f"shmat {segment}", called, libc.shmat, segment, None, 0)
    if address not in (None, ctypes.c_void_p(-1).value):
        got_it(f"segment {segment}: {ctypes.string_at(address, 20)!r}")
        ctypes.memmove(address, OVER, len(OVER))
for what, function in (("msgget", libc.msgget), ("semget", libc.semget)):
    arguments = (KEY, 0) if what == "msgget" else (KEY, 0, 0)
    if attempt(what, called, function, *arguments) is not None:
        got_it(what)
for kind in ("shm", "msg", "sem"):
    lines = attempt(kind, lambda kind=kind: open(f"/proc/sysvipc/{kind}").readlines()) or []
    for line in lines[1:]:
        got_it(f"{kind} of others: {line}")
for name in (b"/syndicate", b"/own", b"/bystander"):
    if attempt(f"mq_open {name}", called, libc.mq_open, name, os.O_RDWR) is not None:
        got_it(f"queue {name}")
found = os.listdir("/dev/shm")
if found:
    got_it(f"/dev/shm has {found}")
