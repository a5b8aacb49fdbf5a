"""Input into a terminal that others read, the host's or its own."""

import fcntl
import os
import struct

from attacker import attempt, got_it

TIOCSCTTY, TIOCSTI, TIOCLINUX, TIOCSETD = 0x540E, 0x5412, 0x541C, 0x5423
N_TTY = 0  # the discipline that it has: nothing is loaded for it


def push(what, terminal):
    """Claim a character that was pushed."""
    for request in (TIOCSTI, TIOCLINUX):
        if attempt(f"{what}, {request:x}", fcntl.ioctl, terminal, request, b"x") is not None:
            got_it(f"{what}: input by request {request:x}")


for path in ("/dev/tty", "/dev/tty0", "/dev/tty1", "/dev/console", "/dev/ttyS0", "/dev/vcs", "/dev/pts/0"):
    held = attempt(path, os.open, path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    if held is not None:
        got_it(f"{path} is open")
        push(path, held)
for number in (0, 1, 2):
    push(f"descriptor {number}", number)
    if os.isatty(number):
        got_it(f"descriptor {number} is a terminal")
pid = os.fork()
if pid == 0:
    main, side = os.openpty()
    os.setsid()
    attempt("take a terminal", fcntl.ioctl, side, TIOCSCTTY, 0)
    push("its own terminal", side)
    if attempt("discipline", fcntl.ioctl, side, TIOCSETD, struct.pack("i", N_TTY)) is not None:
        got_it("a line discipline for its own terminal")
    os._exit(0)
os.waitpid(pid, 0)
