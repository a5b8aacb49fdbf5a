"""Mounts, namespaces and orphans: system calls that Python 3.11 does not have.

The keeper lives in a mount namespace of its own: nothing it mounts shows on the host, and all of it vanishes
with the keeper's last process. So does the thread of each slot, in one beside the keeper's: a sandbox starts
with a copy of all mounts of where it is started, and what that costs must not grow with the number of slots.
"""

from __future__ import annotations

import ctypes
import os
import re
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

CLONE_NEWNS = 0x0002_0000
CLONE_NEWUTS = 0x0400_0000

RDONLY, NOSUID, NODEV, NOEXEC, REMOUNT, BIND = 1, 2, 4, 8, 32, 4096
_REC, _PRIVATE, _SHARED = 16384, 1 << 18, 1 << 20
_DETACH, _NOFOLLOW = 2, 8
_PR_SET_CHILD_SUBREAPER = 36

# Through these the kernel shows and sets what neither the keeper nor a sandbox asks for. Not autofs: what is
# mounted below it would go with it.
_INTERFACES = frozenset(
    {
        *("binfmt_misc", "bpf", "configfs", "debugfs", "devpts", "efivarfs", "fusectl", "hugetlbfs"),
        *("mqueue", "nsfs", "pstore", "rpc_pipefs", "securityfs", "tracefs"),
    }
)

_ESCAPED = re.compile(rb"\\([0-7]{3})")

_libc = ctypes.CDLL(None, use_errno=True)


def _call(what: str, function: Callable[..., int], *arguments: object) -> None:
    if function(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def unshare_mounts() -> None:
    """Give the calling thread mounts of its own: a copy that nobody else sees, and that follows nobody.

    What it starts shares them, threads included; those that run already do not. Raises OSError.
    """
    _call("unshare mounts", _libc.unshare, CLONE_NEWNS)
    _call("make / private", _libc.mount, b"none", b"/", None, _REC | _PRIVATE, None)


def drop_unused(controllers: Iterable[str]) -> None:
    """Take away from the calling thread's own mounts what no sandbox needs; what may not be, stays.

    That is the kernel's interfaces, and the version 1 hierarchies of other controllers than these. A sandbox
    copies all mounts of where it is started, and bubblewrap reads their list anew for each that it makes.
    """
    for found in reversed(_mounted(threading.get_native_id())):
        unused = found.kind == "cgroup" and found.options.isdisjoint(controllers)
        if unused or found.kind in _INTERFACES:
            with suppress(OSError):
                if os.lstat(found.point).st_dev == found.device:  # else another one lies over it
                    unmount(Path(found.point))


def become_subreaper() -> None:
    """Become the parent of every orphan among what this process starts."""
    _call("become subreaper", _libc.prctl, _PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def mount(source: str, target: Path, kind: str, flags: int, data: str = "") -> None:
    """mount(2); raises OSError that names the target."""
    _call(
        f"mount {kind} on {target}",
        _libc.mount,
        os.fsencode(source),
        os.fsencode(target),
        os.fsencode(kind),
        ctypes.c_ulong(flags),
        os.fsencode(data) or None,
    )


def bind(source: Path, target: Path, flags: int = 0) -> None:
    """Show `source` at `target`; with flags such as RDONLY the new mount is bound by them."""
    mount(str(source), target, "none", BIND)
    if flags:
        mount("none", target, "none", BIND | REMOUNT | flags)


def share(target: Path) -> None:
    """What is mounted under `target` from now on shows in the copies that sandboxes hold of it."""
    mount("none", target, "none", _SHARED)


def resize(target: Path, size_bytes: int, inodes: int, flags: int) -> None:
    """Give a tmpfs other bounds; raises OSError if it holds more than that."""
    mount("none", target, "tmpfs", REMOUNT | flags, f"size={size_bytes},nr_inodes={inodes}")


def unmount(target: Path) -> None:
    """Take the mount away from this namespace at once; what still uses it keeps it until it ends."""
    _call(f"unmount {target}", _libc.umount2, os.fsencode(target), _DETACH | _NOFOLLOW)


def hold_namespace() -> int:
    """A descriptor of the calling thread's mount namespace; the caller closes it. Raises OSError."""
    return os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)


def mounts_under(folder: Path, thread: int) -> list[str]:
    """Mount points below `folder` as this thread of the process sees them, the innermost last."""
    return [found.point for found in _mounted(thread) if found.point.startswith(f"{folder}/")]


class _Mount(NamedTuple):
    """Where it is, its device's number, what kind of file system it is and with which options."""

    point: str
    device: int
    kind: str
    options: set[str]


def _mounted(thread: int) -> list[_Mount]:
    """The mounts that this thread of the process sees. See proc_pid_mountinfo(5)."""
    found = []
    # In bytes, since whoever may mount chooses the names: the kernel escapes blanks, tabs, line feeds and
    # backslashes in them, as octal numbers, and nothing else.
    for line in Path(f"/proc/self/task/{thread}/mountinfo").read_bytes().split(b"\n")[:-1]:
        fields, _, rest = line.partition(b" - ")
        _, _, device, _, name, _ = fields.split(b" ", 5)
        point = _ESCAPED.sub(lambda match: bytes((int(match[1], 8),)), name)
        major, minor = map(int, device.split(b":"))
        kind, *_, options = map(os.fsdecode, rest.split(b" "))
        found.append(_Mount(os.fsdecode(point), os.makedev(major, minor), kind, set(options.split(","))))
    return found


def set_hostname(pid: int, name: str) -> None:
    """Name the host that process `pid` sees; the calling thread enters its namespace and comes back."""
    home = os.open("/proc/thread-self/ns/uts", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(f"/proc/{pid}/ns/uts", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _call("enter the sandbox's host name", _libc.setns, there, CLONE_NEWUTS)
        finally:
            os.close(there)
        try:
            encoded = os.fsencode(name)
            _call("set the host name", _libc.sethostname, encoded, ctypes.c_size_t(len(encoded)))
        finally:
            _call("leave the sandbox's host name", _libc.setns, home, CLONE_NEWUTS)
    finally:
        os.close(home)
