"""Which of the machine's mounts a thread with mounts of its own keeps."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from syndicate.volunteer.keeper import mounts

# Whoever may mount chooses names: lines are ended by none of these, and it is no UTF-8.
ODD = "a b\\c\r\f\x85\u2028d\udcffä"


def _in_own_mounts(folder: Path) -> tuple[list[str], str]:
    """What is left of three mounts under `folder`, and of all in the thread's mountinfo."""
    mounts.unshare_mounts()
    for name, kind in (("outer", "tmpfs"), ("terminals", "devpts"), ("files", "tmpfs")):
        (folder / name).mkdir()
        mounts.mount("syndicate", folder / name, kind, 0)
    (folder / "outer/queue").mkdir()
    mounts.mount("syndicate", folder / "outer/queue", "mqueue", 0)
    (folder / ODD).mkdir()
    mounts.mount("syndicate", folder / ODD, "tmpfs", 0)
    (folder / "hidden").mkdir()
    for kind in ("devpts", "tmpfs"):  # the one over the other
        mounts.mount("syndicate", folder / "hidden", kind, 0)

    mounts.drop_unused(["memory"])

    left = mounts.mounts_under(folder, threading.get_native_id())
    return left, os.fsdecode(Path("/proc/thread-self/mountinfo").read_bytes())


def test_kernels_interfaces_are_taken_away_from_the_thread_alone(tmp_path: Path) -> None:
    """What holds files stays, as do version 1 hierarchies of the controllers named, and all on the host."""
    before = Path("/proc/self/mountinfo").read_text()

    with ThreadPoolExecutor(1) as slot:
        left, listing = slot.submit(_in_own_mounts, tmp_path).result()

    assert left == [str(tmp_path / name) for name in ("outer", "files", ODD, "hidden", "hidden")]
    found = [line.partition(" - ")[2].split(" ") for line in listing.split("\n")[:-1]]
    assert {"proc", "sysfs", "cgroup2"} <= {kind for kind, *_ in found}
    assert all("memory" in options.split(",") for kind, *_, options in found if kind == "cgroup")
    assert Path("/proc/self/mountinfo").read_text() == before
