"""The client's source: its words in every file, process and place of the host that can be read."""

import hashlib
import os

from attacker import FACTS, attempt, got_it, note
from told import tell

MARK = "9e5f7a43 skrow tneilc eht woh"[::-1].encode()
LARGEST, read = 8 << 20, 0


def look(path, said=None):
    """Whether the words are in a file."""
    global read
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST)
    except (OSError, ValueError):
        return
    read += 1
    if MARK in data:
        got_it(f"the client's words are in {said or path}")


def walk(top):
    """Every file below, but for the toolchain's and the kernel's."""
    for folder, names, files in os.walk(top, onerror=None):
        if folder == "/":
            names[:] = [name for name in names if name not in ("usr", "proc", "sys", "dev")]
        for name in files:
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                look(path)


walk("/")
walk("/dev/shm")
for process in (name for name in os.listdir("/proc") if name.isdecimal()):
    for name in ("environ", "cmdline", "maps", "mountinfo", "comm"):
        look(f"/proc/{process}/{name}")
    for folder in (f"/proc/{process}/root", f"/proc/{process}/cwd"):
        for name in attempt(folder, os.listdir, folder) or []:
            if name.startswith("client"):
                got_it(f"{folder} holds {name}")
    for number in attempt("fd", os.listdir, f"/proc/{process}/fd") or []:
        path = f"/proc/{process}/fd/{number}"
        if process != str(os.getpid()) and attempt(path, os.stat, path) and os.path.isfile(path):
            look(path)
state, run = FACTS["state_dir"], FACTS["run_dir"]
for top in (
    state,
    run,
    "/var/lib/syndicate",
    "/var/cache/syndicate",
    "/run/syndicate",
    "/proc/1/root" + state,
):
    if attempt(top, os.listdir, top) is not None:
        walk(top)
digest = hashlib.sha256(MARK).hexdigest()
for name in ("sources", "cache", "volunteer/cache", "volunteer/sources", "manager/blobs"):
    look(f"{state}/{name}/{digest}")
note(f"{read} files read")
tell()
