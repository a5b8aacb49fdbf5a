"""Which of the machine's mounts a thread with mounts of its own keeps."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from syndicate.volunteer.keeper import mounts


def _in_own_mounts(folder: Path) -> tuple[list[str], str]:
    """What is left of three mounts under `folder`, and of all in the thread's mountinfo."""
    mounts.unshare_mounts()
    for name, kind in (("outer", "tmpfs"), ("terminals", "devpts"), ("files", "tmpfs")):
        (folder / name).mkdir()
        mounts.mount("syndicate", folder / name, kind, 0)
    (folder / "outer/queue").mkdir()
    mounts.mount("syndicate", folder / "outer/queue", "mqueue", 0)

    mounts.drop_unused(["memory"])

    left = mounts.mounts_under(folder, threading.get_native_id())
    return left, Path("/proc/thread-self/mountinfo").read_text()


def test_kernels_interfaces_are_taken_away_from_the_thread_alone(tmp_path: Path) -> None:
    """What holds files stays, as do version 1 hierarchies of the controllers named, and all on the host."""
    before = Path("/proc/self/mountinfo").read_text()

    with ThreadPoolExecutor(1) as slot:
        left, listing = slot.submit(_in_own_mounts, tmp_path).result()

    assert left == [str(tmp_path / name) for name in ("outer", "files")]
    found = [line.partition(" - ")[2].split(" ") for line in listing.splitlines()]
    assert {"proc", "sysfs", "cgroup2"} <= {kind for kind, *_ in found}
    assert all("memory" in options.split(",") for kind, *_, options in found if kind == "cgroup")
    assert Path("/proc/self/mountinfo").read_text() == before
