"""Takes memory of its own until there is no more: several processes, plain, locked, grown, forked."""

import mmap
import os
import resource
import time

from attacker import attempt, end, got_it

STEP, MOST = 4 << 20, 320 << 20
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
counter = mmap.mmap(-1, 4096)


def total():
    """Bytes that all have touched."""
    return int.from_bytes(counter[:8], "little")


def take():
    """Touch one piece after the other and hold it."""
    held = []
    while total() < MOST:
        piece = mmap.mmap(-1, STEP, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for at in range(0, STEP, 4096):
            piece[at] = 1
        held.append(piece)
        counter[:8] = (total() + STEP).to_bytes(8, "little")
    time.sleep(5)


attempt("oom_score_adj", lambda: open("/proc/self/oom_score_adj", "w").write("-1000"))
for _ in range(2):
    if os.fork() == 0:
        os.setsid()
        take()
        end()
while total() < MOST:
    time.sleep(0.01)
got_it(f"{total() >> 20} MiB")
end()
