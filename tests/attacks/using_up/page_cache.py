"""Reads all the toolchain, by read and by map, as often as there is time: the machine's page cache fills."""

import mmap
import os
import time

from attacker import attempt, end, note


def read(path):
    """One file, whole, in both ways."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size:
            with mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED | mmap.MAP_POPULATE, mmap.PROT_READ):
                pass
        while file.read(1 << 20):
            pass
    return size


total, until = 0, time.monotonic() + 1.0
with open("/tmp/own", "wb") as own:
    own.write(b"x" * (8 << 20))
for folder, _, names in os.walk("/usr/lib"):
    for name in names:
        path = os.path.join(folder, name)
        if not os.path.islink(path) and time.monotonic() < until:
            total += attempt(path, read, path) or 0
            total += read("/tmp/own")
note(f"read {total >> 20} MiB")
end()
