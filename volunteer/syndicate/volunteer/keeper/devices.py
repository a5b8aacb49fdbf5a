"""What a sandbox sees at /dev, made ahead for each task: harmless devices, and terminals of its own.

    <folder>/null, zero, …    the devices; root's, on a mount that can only be read; others for each task
    <folder>/pts              an instance of devpts, another for each task
    <folder>/shm              where the generation's own folder is laid

Bubblewrap's own `--dev` makes the same anew for each sandbox, with a mount for each device: a tenth of the
time that a sandbox takes.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from . import mounts

_NODES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
_LINKS = {
    "core": "/proc/kcore",
    "fd": "/proc/self/fd",
    "ptmx": "pts/ptmx",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}
_PTS_FLAGS = mounts.NOSUID | mounts.NOEXEC
# All instances but the host's own share kernel.pty.max less what is kept for the host, 3072 by default.
MOST_TERMINALS = 64
_PTS_OPTIONS = f"newinstance,ptmxmode=0666,mode=620,max={MOST_TERMINALS}"


def devices_beside(view: Path) -> Path:
    """Where the devices of the slot lie that has this view."""
    return view.with_name("dev")


def make_devices(folder: Path) -> None:
    """Make and mount them in the calling thread's namespace, which they end with; raises OSError."""
    folder.mkdir()
    mounts.mount("syndicate", folder, "tmpfs", mounts.NOSUID, "size=4k,nr_inodes=20,mode=755")
    for name, target in _LINKS.items():
        (folder / name).symlink_to(target)
    for name in ("pts", "shm"):
        (folder / name).mkdir()
    _lay_devices(folder)


def renew_devices(folder: Path) -> None:
    """Give the next task devices and terminals that no other had; raises OSError. May be repeated."""
    terminals = folder / "pts"
    if os.path.ismount(terminals):
        mounts.unmount(terminals)
    mounts.mount("none", folder, "none", mounts.BIND | mounts.REMOUNT | mounts.NOSUID)
    _lay_devices(folder)


def _lay_devices(folder: Path) -> None:
    # A task can leave word in a device's times: the kernel sets those of /dev/tty even where none may write.
    for name, (major, minor) in _NODES.items():
        (folder / name).unlink(missing_ok=True)
        os.mknod(folder / name, stat.S_IFCHR, os.makedev(major, minor))
        (folder / name).chmod(0o666)
    # Who may write to a device may else set its times, which another generation sees.
    mounts.mount("none", folder, "none", mounts.BIND | mounts.REMOUNT | mounts.RDONLY | mounts.NOSUID)
    mounts.mount("devpts", folder / "pts", "devpts", _PTS_FLAGS, _PTS_OPTIONS)
