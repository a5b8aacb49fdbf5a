"""Everything that a task can read about how it was made, searched for names of the host's folders."""

import glob
import os

from attacker import FACTS, attempt, got_it

SECRETS = [FACTS["run_dir"], FACTS["state_dir"], FACTS["cgroup"], os.path.dirname(FACTS["bait"])]
# /proc/net and /proc/*/net are of its own network.
PLACES = (
    *("mountinfo", "mounts", "mountstats", "environ", "cmdline", "maps", "smaps", "cgroup", "status", "comm"),
    *("stat", "auxv", "limits", "net/unix", "net/route", "numa_maps", "timers", "cpuset", "sched", "io"),
)


def search(what, text):
    """Claim what it gives away."""
    for secret in SECRETS:
        if secret in text:
            got_it(f"{what} names {secret}")


def read(path):
    """A file's text, or nothing."""

    def all_of():
        with open(path, errors="replace") as file:
            return file.read(4 << 20)

    return attempt(path, all_of) or ""


for process in glob.glob("/proc/[0-9]*"):
    for place in PLACES:
        search(f"{process}/{place}", read(f"{process}/{place}"))
    for link in (
        "root",
        "cwd",
        "exe",
        *(f"fd/{name}" for name in attempt("fd", os.listdir, f"{process}/fd") or []),
    ):
        search(f"{process}/{link}", attempt(link, os.readlink, f"{process}/{link}") or "")
    for link in attempt("map_files", os.listdir, f"{process}/map_files") or []:
        search(f"{process}/{link}", attempt(link, os.readlink, f"{process}/map_files/{link}") or "")
for path in ("/proc/keys", "/proc/locks", "/proc/swaps", "/proc/cmdline", "/proc/version", "/proc/cgroups"):
    search(path, read(path))
for folder, names, files in os.walk("/run"):
    for name in (*names, *files):
        path = f"{folder}/{name}"
        search(path, os.readlink(path) if os.path.islink(path) else path)
for path in glob.glob("/etc/**", recursive=True):
    if os.path.isfile(path):
        search(path, read(path))
search("the environment", repr(dict(os.environ)))
