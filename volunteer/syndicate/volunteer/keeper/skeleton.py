"""The root-owned tree under every task's own: the toolchain's entry points, and what a client imports.

It is the lower layer of each task's overlay, built once when the keeper starts. `/`, `/bin`, `/lib`,
`/lib64`, `/sbin` and `/etc` are root's with the sticky bit: a task adds what it likes and replaces nothing.
"""

from __future__ import annotations

import compileall
import importlib.util
import os
import shutil
from pathlib import Path

# Directories that a source may add to; tar must leave their owner and mode alone.
OPEN_FOLDERS = ("bin", "lib", "lib64", "sbin", "etc", "var")
_MOUNT_POINTS = ("usr", "proc", "dev", "tmp", "run/syndicate")

# What the file hierarchy standard and long use put into /bin and /sbin; everything else is found in /usr by
# PATH. A link for each program of /usr/bin would take names such as /bin/test from a job's own build.
_BIN = """
bash bunzip2 bzcat bzip2 cat chgrp chmod chown cp cpio dash date dd df dir dmesg dnsdomainname domainname
echo ed egrep false fgrep findmnt fuser grep gunzip gzip hostname ip kill less ln login ls lsblk mkdir mknod
mktemp more mount mountpoint mv nc netcat netstat nisdomainname pidof ping ping4 ping6 ps pwd rbash readlink
rm rmdir run-parts sed sh sleep ss stty su sync tar tempfile touch true umount uname uncompress vdir which
ypdomainname zcat zcmp zdiff zegrep zfgrep zgrep zless zmore znew
"""
_SBIN = ["ip", "ifconfig", "ldconfig", "route", "sysctl", "tc"]
_ETC = [
    *("alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime"),
    *("mime.types", "protocols", "services"),
]
_PACKAGES = ("grpc", "typing_extensions", "google.protobuf", "google._upb", "google.rpc", "google.api")
_OWN_PACKAGES = ("syndicate.v1", "syndicate.client_api")

_GROUP = "root:x:0:\nnogroup:x:65534:\n"
_NSSWITCH = "passwd: files\ngroup: files\nshadow: files\nhosts: files\nservices: files\nprotocols: files\n"
_CHAOS_COMMAND = """#!/usr/bin/python3
import sys

sys.path.insert(0, "/run/syndicate/lib")

from syndicate.client_api.chaos_command import main

sys.exit(main())
"""

# `syndicate.client_api` itself loads gRPC, which takes its time: its part for barriers does without.
_SYNC_COMMAND = """#!/usr/bin/python3 -I
import sys
import types

sys.path.insert(0, "/run/syndicate/lib")
package = types.ModuleType("syndicate.client_api")
package.__path__ = ["/run/syndicate/lib/syndicate/client_api"]
sys.modules["syndicate.client_api"] = package

from syndicate.client_api.sync_command import main

main()
"""
# Where emulab's own client looks for its server.
_EMULAB_BOOT = Path("var/emulab/boot")

LIB = Path("lib/syndicate")  # inside the skeleton; a sandbox's /run/syndicate/lib leads there


def build(root_fs: Path, skeleton: Path) -> None:
    """Make the skeleton of the toolchain under `root_fs`, whose /usr sandboxes will see, at `skeleton`."""
    for name in (*OPEN_FOLDERS, *_MOUNT_POINTS):
        (skeleton / name).mkdir(parents=True)
    _link(root_fs / "usr/bin", skeleton / "bin", _BIN.split())
    _link(root_fs / "usr/sbin", skeleton / "sbin", _SBIN)
    _link(root_fs / "usr/lib64", skeleton / "lib64", _names(root_fs / "usr/lib64"))
    libraries = [
        name for name in _names(root_fs / "usr/lib") if "-linux-gnu" in name or name.startswith("ld-")
    ]
    _link(root_fs / "usr/lib", skeleton / "lib", [*libraries, "cpp", "terminfo"])
    _fill_etc(root_fs / "etc", skeleton / "etc")
    _fill_lib(skeleton / LIB)
    (skeleton / _EMULAB_BOOT).mkdir(parents=True)
    (skeleton / _EMULAB_BOOT / "syncserver").symlink_to("/run/syndicate/emulab-syncserver")
    for name in (*OPEN_FOLDERS, "."):
        (skeleton / name).chmod(0o1777)


def _names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.is_dir() else []


def _link(source: Path, target: Path, names: list[str]) -> None:
    for name in names:
        if os.path.lexists(source / name):
            (target / name).symlink_to(f"/usr/{source.name}/{name}")


def _fill_etc(source: Path, target: Path) -> None:
    java = [name for name in _names(source) if name.startswith("java-")]  # the JDK's configuration is there
    for name in (*_ETC, *java):
        found = source / name
        if found.is_dir():
            shutil.copytree(found, target / name, symlinks=True)
        elif os.path.lexists(found):
            shutil.copy2(found, target / name, follow_symlinks=False)
    (target / "group").write_text(_GROUP)
    (target / "nsswitch.conf").write_text(_NSSWITCH)
    # setpriv is still root when the loader reads these, in a tree that a task has written to: they must be
    # there and root's, or a task lays down its own and has it run as root at its next start.
    for name in ("ld.so.preload", "ld.so.cache"):
        (target / name).touch()
    for name in ("hosts", "passwd"):  # they differ by task
        (target / name).symlink_to(f"/run/syndicate/{name}")


def _fill_lib(lib: Path) -> None:
    """Copy the packages that a client imports from where this interpreter finds them."""
    ignore = shutil.ignore_patterns("tests", "testing", "*.proto")
    for package in (*_PACKAGES, *_OWN_PACKAGES):
        for found in _locations(package):
            target = lib / Path(*package.split("."))
            if found.is_dir():
                shutil.copytree(found, target, ignore=ignore, dirs_exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(found, target.with_suffix(found.suffix))
    commands = lib / "bin"
    commands.mkdir(parents=True)
    for name, script in (("syndicate-chaos", _CHAOS_COMMAND), ("syndicate-sync", _SYNC_COMMAND)):
        (commands / name).write_text(script)
        (commands / name).chmod(0o755)
    # Tasks cannot write here, so what is not compiled now would be compiled at each of their starts.
    compileall.compile_dir(lib, quiet=2, workers=1, stripdir=str(lib), prependdir="/run/syndicate/lib")


def _locations(package: str) -> list[Path]:
    """Folders or the file of a package, without importing it."""
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:
        return []
    if spec is None:
        return []
    if spec.submodule_search_locations:
        return [Path(each) for each in spec.submodule_search_locations if Path(each).is_dir()]
    return [Path(spec.origin)] if spec.origin else []
