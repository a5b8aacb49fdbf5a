"""Mounts by every call there is for them: the host's devices and cgroups, its own root, /usr."""

import ctypes
import os

from attacker import attempt, got_it, syscall

MOUNT, UMOUNT, PIVOT_ROOT, UNSHARE = (165, 40), (166, 39), (155, 41), (272, 97)
OPEN_TREE, MOVE_MOUNT, FSOPEN, FSCONFIG, FSMOUNT, FSPICK, SETATTR = 428, 429, 430, 431, 432, 433, 442
LISTMOUNT = 458
BIND, REMOUNT, RDONLY, REC, PRIVATE = 4096, 32, 1, 16384, 1 << 18
HERE, CLONED = -100, 1

PLACE = b"/tmp/place"
os.makedirs(PLACE, exist_ok=True)


def tried(what, *arguments):
    """Whether a call was done; claimed if so."""
    result = attempt(what, syscall, *arguments)
    if result is not None:
        got_it(what)
    return result


def old_calls():
    """mount(2) and its kin."""
    for kind in (b"tmpfs", b"proc", b"sysfs", b"cgroup2", b"mqueue", b"devpts"):
        tried(f"mount {kind.decode()}", MOUNT, b"x", PLACE, kind, 0, None)
    if tried("mount devtmpfs", MOUNT, b"x", PLACE, b"devtmpfs", 0, None) is not None:
        got_it(f"devices of the host: {sorted(os.listdir(PLACE))[:5]}")
    tried("bind /", MOUNT, b"/", PLACE, b"none", BIND | REC, None)
    tried("private /", MOUNT, b"none", b"/", None, REC | PRIVATE, None)
    tried("/usr writable", MOUNT, b"none", b"/usr", None, BIND | REMOUNT, None)
    tried("unmount", UMOUNT, PLACE, 2)
    tried("unmount /proc/irq", UMOUNT, b"/proc/irq", 2)
    tried("pivot_root", PIVOT_ROOT, PLACE, PLACE)


def new_calls():
    """The mount API of Linux 5.2."""
    tree = tried("open_tree", OPEN_TREE, HERE, b"/usr", CLONED)
    if tree is not None:
        tried("move_mount", MOVE_MOUNT, tree, b"", HERE, PLACE, 4)
    context = tried("fsopen", FSOPEN, b"tmpfs", 0)
    if context is not None:
        tried("fsconfig", FSCONFIG, context, 6, None, None, 0)
        tried("fsmount", FSMOUNT, context, 0, 0)
    tried("fspick", FSPICK, HERE, b"/", 0)
    attributes = (ctypes.c_ulonglong * 4)(0, RDONLY, 0, 0)
    tried("mount_setattr", SETATTR, HERE, b"/usr", 0, attributes, ctypes.c_size_t(32))
    request = (ctypes.c_ulonglong * 3)(24, 0xFFFF_FFFF_FFFF_FFFF, 0)
    answer = (ctypes.c_ulonglong * 64)()
    tried("listmount", LISTMOUNT, request, answer, ctypes.c_size_t(64), 0)


old_calls()
new_calls()
attempt("unshare mounts", syscall, UNSHARE, 0x2_0000)
old_calls()
