"""Opens whatever can be opened, holds it, and puts more of it into letters that nobody reads."""

import os
import resource
import select
import socket

from attacker import attempt, end, got_it, note

BOUND, ENOUGH = 256, 4_000
try:
    resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 20, 1 << 20))
except (OSError, ValueError) as error:
    note(error)
WAYS = (
    lambda: os.open("/dev/null", os.O_RDONLY),
    lambda: os.dup(0),
    lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM).detach(),
    lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).detach(),
    lambda: os.eventfd(0),
    lambda: os.memfd_create("x"),
    lambda: os.pidfd_open(os.getpid()),
    lambda: os.pipe()[0],
    lambda: select.epoll(),
)
letters = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
letters[0].setblocking(False)


def post():
    """Descriptors that are on their way are held too, and count to nobody's table."""
    source = os.open("/dev/null", os.O_RDONLY)
    try:
        socket.send_fds(letters[0], [b"x"], [source] * 100)
        return 100
    finally:
        os.close(source)


held, sent = [], 0
for number in range(8):  # before the table is full: this takes a descriptor itself
    sent += attempt(f"letter {number}", post) or 0
for number in range(ENOUGH):
    opened = attempt(str(number), WAYS[number % len(WAYS)])
    if opened is None:
        break
    held.append(opened)
note(f"{len(held)} open, {sent} on their way")
if len(held) > BOUND:
    got_it(f"{len(held)} descriptors")
if sent > BOUND * 4:
    got_it(f"{sent} descriptors on their way")
end()
