"""Makes as many names as there can be, of every kind, in every place."""

import os
import socket

from attacker import end, got_it, note

BOUND, ENOUGH = 2_000, 6_000
FOLDERS = ("/", "/tmp", "/dev/shm")


def listen(path):
    """A socket with a name."""
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(path)


WAYS = (
    lambda path: os.close(os.open(path, os.O_CREAT | os.O_WRONLY)),
    os.mkdir,
    os.mkfifo,
    lambda path: os.symlink("x", path),
    listen,
)
made = 0
for number in range(ENOUGH):
    failed = 0
    for folder in FOLDERS:
        try:
            WAYS[number % len(WAYS)](f"{folder}/{number}")
            made += 1
        except OSError:
            failed += 1
    if failed == len(FOLDERS) or made >= ENOUGH:
        break
note(f"{made} names")
if made > BOUND:
    got_it(f"{made} names")
end()
