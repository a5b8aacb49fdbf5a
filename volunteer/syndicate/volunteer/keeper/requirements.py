"""What a keeper needs of its machine: each need tried, told with what mends it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from .cgroups import find_mount
from .limits import find_version_1
from .network import probe

_CLONE_INTO_CGROUP = (5, 14)  # 5.7 for clone3 into a cgroup, 5.14 for cgroup.kill
_TOOLS = {"tar": "tar", "make": "make", "setpriv": "util-linux", "sh": "dash", "gzip": "gzip"}


class Level(StrEnum):
    """How a need is met."""

    OK = "ok"
    DEGRADED = "degraded"  # the keeper works without it, and says so
    MISSING = "missing"  # the keeper refuses to start


@dataclass(frozen=True)
class Requirement:
    """One need: `remedy` is a command or a step that mends it, empty when it is met."""

    name: str
    level: Level
    detail: str
    remedy: str = ""


def check(root_fs: Path = Path("/"), network: str = "fabric") -> list[Requirement]:
    """Try everything; as root, else only that root is missing. Takes about 50 ms and leaves nothing."""
    if os.geteuid() != 0:
        return [
            _missing("root", f"runs as uid {os.geteuid()}", "run it as root: sudo …, or its systemd unit")
        ]
    found = [Requirement("root", Level.OK, "uid 0"), _kernel(), _bwrap(), *_toolchain(root_fs)]
    found += [_cgroup(), *_controllers(), _filesystem("overlay", "overlayfs"), _filesystem("tmpfs", "tmpfs")]
    found += _networks(network)
    return [*found, _python(root_fs), _optional_tool(root_fs, "zstd")]


def _missing(name: str, detail: str, remedy: str) -> Requirement:
    return Requirement(name, Level.MISSING, detail, remedy)


def _degraded(name: str, detail: str, remedy: str) -> Requirement:
    return Requirement(name, Level.DEGRADED, detail, remedy)


def _kernel() -> Requirement:
    release = os.uname().release
    numbers = re.match(r"(\d+)\.(\d+)", release)
    if numbers and (int(numbers[1]), int(numbers[2])) >= _CLONE_INTO_CGROUP:
        return Requirement("kernel", Level.OK, release)
    return _missing(
        "kernel", f"Linux {release}: 5.14 or newer is needed", "apt-get install linux-image-amd64"
    )


def _bwrap() -> Requirement:
    path = shutil.which("bwrap")
    if path is None:
        return _missing("bwrap", "bubblewrap is not installed", "apt-get install bubblewrap")
    arguments = [path, "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--unshare-pid"]
    tried = subprocess.run([*arguments, "true"], capture_output=True, text=True, check=False, timeout=10)
    if tried.returncode != 0:
        said = tried.stderr.strip().splitlines()[-1:] or [f"status {tried.returncode}"]
        remedy = "allow mounts and new namespaces: in a container --privileged, or --cap-add=ALL"
        return _missing("bwrap", f"bubblewrap does not work here: {said[0]}", remedy)
    return Requirement("bwrap", Level.OK, path)


def _toolchain(root_fs: Path) -> list[Requirement]:
    return [_tool(root_fs, tool, package) for tool, package in _TOOLS.items()]


def _tool(root_fs: Path, tool: str, package: str) -> Requirement:
    path = root_fs / "usr/bin" / tool
    if os.access(path, os.X_OK):
        return Requirement(tool, Level.OK, str(path))
    return _missing(tool, f"{path} is not there", _install(root_fs, package))


def _optional_tool(root_fs: Path, tool: str) -> Requirement:
    needed = _tool(root_fs, tool, tool)
    return needed if needed.level is Level.OK else _degraded(tool, needed.detail, needed.remedy)


def _install(root_fs: Path, package: str) -> str:
    command = f"apt-get install {package}"
    return command if root_fs == Path("/") else f"chroot {root_fs} {command}"


def _cgroup() -> Requirement:
    mount = find_mount()
    if mount is None:
        if "cgroup2" not in Path("/proc/filesystems").read_text():
            return _missing("cgroup", "this kernel has no cgroup version 2", "a kernel with CONFIG_CGROUPS")
        return Requirement("cgroup", Level.OK, "version 2, mounted by the keeper for itself")
    if not os.access(mount, os.W_OK) or os.statvfs(mount).f_flag & os.ST_RDONLY:
        remedy = f"mount -o remount,rw {mount}   (in a container: --cgroupns=private, writable)"
        return _missing("cgroup", f"{mount} is read-only", remedy)
    return Requirement("cgroup", Level.OK, f"version 2 at {mount}")


def _controllers() -> list[Requirement]:
    mount = find_mount()
    unified = (mount / "cgroup.subtree_control").read_text().split() if mount else []
    found = []
    for name in ("memory", "pids"):
        if name in unified or find_version_1(name) is not None:
            found.append(Requirement(f"cgroup-{name}", Level.OK, "bounds are applied"))
        else:
            remedy = (
                f"echo +{name} > {mount}/cgroup.subtree_control" if mount else "a kernel with the controller"
            )
            found.append(_degraded(f"cgroup-{name}", f"no {name} controller: bounds are not applied", remedy))
    return found


def _filesystem(kind: str, name: str) -> Requirement:
    listed = [line.split()[-1] for line in Path("/proc/filesystems").read_text().splitlines()]
    if kind in listed or (shutil.which("modprobe") and _quiet(["modprobe", kind])):
        return Requirement(name, Level.OK, "the kernel has it")
    return _missing(name, f"this kernel has no {name}", f"modprobe {kind}")


def _quiet(argv: list[str]) -> bool:
    return subprocess.run(argv, capture_output=True, check=False, timeout=10).returncode == 0


def _networks(network: str) -> list[Requirement]:
    others = {"nft_skuid"} if network == "fabric" else {"veth", "bridge"}
    found = []
    for name, said in probe().items():
        detail, _, remedy = said.partition("; ")
        if said == "ok":
            found.append(Requirement(name, Level.OK, "tried"))
        elif name in others:
            found.append(_degraded(name, detail, remedy))
        else:
            found.append(_missing(name, detail, remedy))
    return found


def _python(root_fs: Path) -> Requirement:
    """A client's `python3` must load grpc's C extension, which is copied from this interpreter's packages."""
    wanted = f"python{sys.version_info.major}.{sys.version_info.minor}"
    path = root_fs / "usr/bin/python3"
    try:
        found = path.resolve(strict=True).name
    except OSError:
        return _degraded(
            "python", f"{path} is not there: clients in Python cannot run", _install(root_fs, "python3")
        )
    if found != wanted:
        remedy = f"run the keeper with {path}: make a virtual environment of it"
        return _degraded("python", f"tasks have {found}, the keeper's packages are for {wanted}", remedy)
    return Requirement("python", Level.OK, str(path))


def unmet(requirements: list[Requirement]) -> Requirement | None:
    """The first need without which the keeper cannot start."""
    return next((each for each in requirements if each.level is Level.MISSING), None)


Check = Callable[[Path, str], list[Requirement]]
