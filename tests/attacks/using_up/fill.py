"""Fills all that can be written to, together: /, /tmp, /dev/shm, with bytes behind names and without."""

import os

from attacker import attempt, end, got_it, note

MOST = 96 << 20
FOLDERS = ("/", "/tmp", "/dev/shm", "/job", "/var/tmp", "/run", "/dev", "/etc", "/run/syndicate", "/proc")
PIECE = b"x" * (1 << 20)
total, held = 0, []


def write(folder, number):
    """A file of one piece."""
    with open(f"{folder}/filler-{number}", "wb") as file:
        return file.write(PIECE)


def unlinked(folder, number):
    """A file without a name."""
    file = os.open(folder, os.O_TMPFILE | os.O_RDWR)
    held.append(file)
    os.posix_fallocate(file, 0, len(PIECE))
    return len(PIECE)


for number in range(200):
    ways = (write, unlinked)
    wrote = sum(attempt(where, way, where, number) or 0 for where in FOLDERS for way in ways)
    total += wrote
    if not wrote or total >= MOST:
        break
note(f"{total >> 20} MiB")
if total >= MOST:
    got_it(f"wrote {total >> 20} MiB")
    end()
for file in held:  # they are gone with this process, and the disk is to be full when that has ended
    os.close(file)
for folder in FOLDERS:
    for number in range(200):
        if attempt(f"{folder} once more", write, folder, f"more-{number}") is None:
            break
end()
