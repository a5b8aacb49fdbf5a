"""Takes memory in files without a name, in segments, in pipes and sockets: the kernel's, for a task."""

import ctypes
import fcntl
import os
import socket

from attacker import attempt, end, got_it, note

STEP, MOST = 4 << 20, 320 << 20
PIECE = b"x" * STEP
total, held = 0, []
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p


def segment():
    """A System V segment, full."""
    number = libc.shmget(0, STEP, 0o1600)
    if number < 0:
        raise OSError(ctypes.get_errno(), "shmget")
    ctypes.memset(libc.shmat(number, None, 0), 1, STEP)
    return STEP


def nameless():
    """A file that has no place, full."""
    file = os.memfd_create("x")
    held.append(file)
    return os.write(file, PIECE)


def pipe():
    """A pipe that is made as large as it may be, full."""
    _, end_in = ends = os.pipe()
    held.append(ends)
    attempt("F_SETPIPE_SZ", fcntl.fcntl, end_in, 1031, 1 << 20)
    os.set_blocking(end_in, False)
    return os.write(end_in, PIECE)


def datagrams():
    """A pair of sockets with unread letters."""
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    held.append(pair)
    pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    pair[0].setblocking(False)
    sent = 0
    try:
        while sent < STEP:
            sent += pair[0].send(b"x" * 60_000)
    except BlockingIOError:
        pass
    return sent


while total < MOST:
    taken = sum(attempt(way.__name__, way) or 0 for way in (segment, nameless, pipe, datagrams))
    total += taken
    if not taken:
        break
note(f"{total >> 20} MiB")
if total >= MOST:
    got_it(f"{total >> 20} MiB")
end()
