"""What a keeper needs of its machine: each need tried, told with what mends it."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from .capabilities import CAPABILITIES, Capability, has, held
from .cgroups import find_mount
from .errors import KeeperError
from .limits import can_pass_on, find_version_1
from .network import faults as network_faults
from .network import probe
from .seccomp import open_filter, reopened
from .trials import OK, try_faults, try_file_systems
from .uids import FIRST, reserved_of

_CLONE_INTO_CGROUP = (5, 14)  # 5.7 for clone3 into a cgroup, 5.14 for cgroup.kill
_CONTROLLERS = ("memory", "pids", "cpu")
_NAMESPACES = ("pid", "ipc", "uts", "cgroup")
_LANDLOCK_CREATE_RULESET = 444  # the same on every machine
_LANDLOCK_VERSION = 1  # the flag that asks for it
_LANDLOCK_SCOPES = 6  # the version with which abstract sockets can be kept out of reach, of Linux 6.12
_KEYCTL = {"x86_64": 250, "aarch64": 219}
_GET_KEYRING_ID, _SESSION_KEYRING = 0, -3
# What a task gets by default, and at most as managers come; and what leaves room for both.
_LEAST_FILES, _MOST_FILES, _RAISED_FILES = 4096, 16_384, 65_536
_MODULES = {"overlayfs": "overlay", "tmpfs": "tmpfs"}
_TOOLS = {"tar": "tar", "make": "make", "setpriv": "util-linux", "sh": "dash", "gzip": "gzip"}


class Level(StrEnum):
    """How a need is met."""

    OK = "ok"
    DEGRADED = "degraded"  # the keeper works without it, and says so
    MISSING = "missing"  # the keeper refuses to start, or starts only with --unsafe


@dataclass(frozen=True)
class Requirement:
    """One need: `remedy` is a command or a step that mends it, empty when it is met.

    Where it `yields`, a keeper that is told `--unsafe` does without: it isolates tasks, and they run without
    it all the same.
    """

    name: str
    level: Level
    detail: str
    remedy: str = ""
    yields: bool = False


def check(
    root_fs: Path = Path("/"), network: str = "fabric", uid_base: int | None = None, slots: int = 1
) -> list[Requirement]:
    """Try everything; as root, else only that root is missing. Takes about 80 ms and leaves nothing."""
    if os.geteuid() != 0:
        return [
            _missing("root", f"runs as uid {os.geteuid()}", "run it as root: sudo …, or its systemd unit")
        ]
    bwrap = _bwrap()
    found = [Requirement("root", Level.OK, "uid 0"), *_rights(), _kernel(), bwrap, *_toolchain(root_fs)]
    if bwrap.level is Level.OK:
        found += [_seccomp(bwrap.detail), *(_namespace(bwrap.detail, kind) for kind in _NAMESPACES)]
    found += [_cgroup(), *(_controller(name) for name in _CONTROLLERS), _swap()]
    found += [*_file_systems(), *_networks(network)]
    found += [
        _uids(uid_base, slots),
        _open_files(),
        _core_dumps(),
        _keyrings(),
        *([_landlock(), _early_demux()] if network == "host" else []),
    ]
    return [*found, _python(root_fs), _optional_tool(root_fs, "zstd")]


def _missing(name: str, detail: str, remedy: str, *, yields: bool = False) -> Requirement:
    return Requirement(name, Level.MISSING, detail, remedy, yields)


def _degraded(name: str, detail: str, remedy: str) -> Requirement:
    return Requirement(name, Level.DEGRADED, detail, remedy)


def _rights() -> list[Requirement]:
    rights = held()
    return [_right(each, has(rights, each)) for each in CAPABILITIES]


def _right(capability: Capability, held_now: bool) -> Requirement:
    name = f"cap-{capability.name.replace('_', '-')}"
    if held_now:
        return Requirement(name, Level.OK, capability.purpose)
    constant = capability.name.upper()
    remedy = (
        f"in a container: --cap-add={constant}; in a unit: CapabilityBoundingSet=… with CAP_{constant} in it"
    )
    if capability.needed:
        return _missing(name, f"root is without it here, and a keeper {capability.purpose}", remedy)
    if capability.name == "sys_resource" and _bounds_suffice():
        return Requirement(name, Level.OK, "not there, but this machine's bounds suffice without")
    return _degraded(name, f"root is without it here: nothing {capability.purpose}", remedy)


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
    said = _said_by_bwrap(path, "--proc", "/proc", "--dev", "/dev")
    if said:
        remedy = "allow mounts and new namespaces: in a container --privileged, or --cap-add=ALL"
        return _missing("bwrap", f"bubblewrap does not work here: {said}", remedy)
    return Requirement("bwrap", Level.OK, path)


def _said_by_bwrap(path: str, *arguments: str, descriptors: Sequence[int] = ()) -> str:
    """Why it could not run a command in such a sandbox; empty where it could."""
    command = [path, "--ro-bind", "/", "/", *arguments, "true"]
    tried = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=30, pass_fds=descriptors
    )
    if tried.returncode == 0:
        return ""
    return next(iter(tried.stderr.strip().splitlines()[-1:]), f"status {tried.returncode}")


def _seccomp(bwrap: str) -> Requirement:
    """Tried with the very filter that tasks get."""
    try:
        file = open_filter()
    except KeeperError as error:
        return _missing("seccomp", error.detail, "apt-get install libseccomp2", yields=True)
    program = reopened(file)
    os.close(file)
    said = _said_by_bwrap(bwrap, "--seccomp", str(program), descriptors=(program,))
    os.close(program)
    if said:
        remedy = "a kernel with CONFIG_SECCOMP_FILTER; in a container: --security-opt seccomp=unconfined"
        return _missing("seccomp", f"system calls cannot be filtered: {said}", remedy, yields=True)
    return Requirement("seccomp", Level.OK, "system calls are filtered")


def _namespace(bwrap: str, kind: str) -> Requirement:
    """The sandbox is made of all of them but cgroup's, which only hides the names of the host's cgroups."""
    name, said = f"{kind}-namespace", _said_by_bwrap(bwrap, f"--unshare-{kind}")
    if not said:
        return Requirement(name, Level.OK, "tried")
    remedy = f"sysctl -w user.max_{kind}_namespaces=10000, on a kernel with CONFIG_NAMESPACES"
    return _missing(name, f"tasks cannot have their own: {said}", remedy, yields=kind == "cgroup")


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


def _controller(name: str) -> Requirement:
    mount = find_mount()
    if mount is not None and name in (mount / "cgroup.subtree_control").read_text().split():
        return Requirement(f"cgroup-{name}", Level.OK, f"version 2 at {mount}")
    offered = mount is not None and name in (mount / "cgroup.controllers").read_text().split()
    if mount is not None and offered and can_pass_on(mount):
        # Systemd has the top pass on what its units ask for: without one that asks for processors, not these.
        return Requirement(
            f"cgroup-{name}", Level.OK, f"version 2 at {mount}, once a keeper has it passed on"
        )
    hierarchy = find_version_1(name)
    if hierarchy is not None and not os.statvfs(hierarchy).f_flag & os.ST_RDONLY:
        return Requirement(f"cgroup-{name}", Level.OK, f"version 1 at {hierarchy}")
    if hierarchy is not None:
        detail, remedy = f"{hierarchy} is read-only", f"mount -o remount,rw {hierarchy}"
    elif offered:
        detail, remedy = f"{mount} does not pass it on", f"echo +{name} > {mount}/cgroup.subtree_control"
    elif _has_controller(name):
        folder = Path("/sys/fs/cgroup") / name
        detail = "no hierarchy with it is mounted"
        remedy = f"mkdir -p {folder} && mount -t cgroup -o {name} cgroup {folder}"
    else:
        detail = "this kernel does not have it"
        remedy = f"cgroup_enable={name} on the kernel's command line, or a kernel with the controller"
    return _missing(f"cgroup-{name}", f"{detail}: tasks would have no bound", remedy, yields=True)


def _has_controller(name: str) -> bool:
    """Whether the kernel has it switched on; see cgroups(7)."""
    lines = Path("/proc/cgroups").read_text().splitlines()[1:]
    return any(fields[0] == name and fields[3] == "1" for fields in map(str.split, lines))


def _swap() -> Requirement:
    """What a task swaps is beside its bound of memory, unless the kernel counts the two together."""
    if len(Path("/proc/swaps").read_text().splitlines()) < 2:
        return Requirement("swap", Level.OK, "this machine has none")
    hierarchy = find_version_1("memory")
    if hierarchy is None or (hierarchy / "memory.memsw.limit_in_bytes").exists():
        return Requirement("swap", Level.OK, "counted with memory")
    remedy = "swapoff -a, or swapaccount=1 on the kernel's command line"
    return _degraded("swap", "the kernel does not count it: tasks may swap beside their memory", remedy)


def _uids(base: int | None, slots: int) -> Requirement:
    if base is None:
        return Requirement("uids", Level.OK, f"the first free ones from {FIRST} on")
    wanted = range(base, base + slots)
    taken = next((one for one in reserved_of() if one.meets(wanted)), None)
    text = f"{base} to {wanted[-1]}"
    if taken is None:
        return Requirement("uids", Level.OK, text)
    remedy = "give the keeper another --uid-base, or none, and it finds one"
    return _degraded("uids", f"{text}: some are of {taken.whose}, who may harm tasks", remedy)


def _bounds_suffice() -> bool:
    return _hard(resource.RLIMIT_NOFILE) >= _MOST_FILES and _hard(resource.RLIMIT_CORE) > 0


def _hard(kind: int) -> float:
    bound = resource.getrlimit(kind)[1]
    return float("inf") if bound == resource.RLIM_INFINITY else bound


def _open_files() -> Requirement:
    """A task's bound is set inside its sandbox, where it can only be lowered."""
    bound = _hard(resource.RLIMIT_NOFILE)
    remedy = f"LimitNOFILE={_RAISED_FILES} in the keeper's unit, or ulimit -n {_RAISED_FILES} before it"
    if bound < _LEAST_FILES:
        detail = f"a process may have {bound:,.0f}, which is less than each task gets by default"
        return _missing("open-files", detail, remedy)
    if bound < _MOST_FILES:
        return _degraded("open-files", f"no task can have more than {bound:,.0f}", remedy)
    return Requirement("open-files", Level.OK, f"a process may have {bound:,.0f}")


def _keyrings() -> Requirement:
    """Each task joins one of its own; where nobody may, there is none that two could share."""
    number = _KEYCTL.get(os.uname().machine)
    if number is None:
        return Requirement("keyrings", Level.OK, "tasks have none: the filter of system calls denies them")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, _GET_KEYRING_ID, _SESSION_KEYRING, 0) < 0 and ctypes.get_errno() in (
        errno.ENOSYS,
        errno.EPERM,
    ):
        return Requirement("keyrings", Level.OK, "there are none here that tasks could share")
    return Requirement("keyrings", Level.OK, "each task has its own")


def _core_dumps() -> Requirement:
    """A piped pattern starts a program of the host's for what a task left; see core(5).

    The kernel starts none for who may write exactly one byte, and that bound a task has where the keeper may
    set it. A socket's server is always told.
    """
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    told = pattern.startswith("@")
    told |= pattern.startswith("|") and resource.getrlimit(resource.RLIMIT_CORE)[1] == 0
    if not told:
        return Requirement("core-dumps", Level.OK, "of tasks there are none")
    return _degraded(
        "core-dumps",
        f"those of tasks go to {pattern[:60]}",
        "sysctl -w kernel.core_pattern=core, or where it is a pipe: LimitCORE=infinity in the keeper's unit",
    )


def _file_systems() -> list[Requirement]:
    return [_file_system(name, said) for name, said in try_file_systems().items()]


def _file_system(name: str, said: str) -> Requirement:
    if said == OK:
        return Requirement(name, Level.OK, "tried")
    return _missing(name, f"disks of tasks cannot be made: {said}", f"modprobe {_MODULES[name]}")


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


def faults(network: str = "fabric") -> list[Requirement]:
    """Which faults tasks can be made to suffer here. A keeper starts without any; to be asked as root."""
    if os.geteuid() != 0:
        return []
    tried = try_faults() | network_faults(network)
    return [_fault(f"fault-{name}", said) for name, said in tried.items()]


def _fault(name: str, said: str) -> Requirement:
    if said == OK:
        return Requirement(name, Level.OK, "tried")
    detail, _, remedy = said.partition("; ")
    return _degraded(name, detail, remedy or "nothing that is known: jobs that need it go elsewhere")


def _landlock() -> Requirement:
    """On the host's network the names of abstract sockets are the host's; see unix(7), landlock(7)."""
    asked = ctypes.CDLL(None).syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _LANDLOCK_VERSION)
    if asked >= _LANDLOCK_SCOPES:
        return Requirement("landlock", Level.OK, f"version {asked}")
    has = f"the kernel's is version {asked}" if asked > 0 else "the kernel has none"
    remedy = "Linux 6.12 or newer, with landlock among lsm= on its command line"
    return _degraded("landlock", f"{has}: tasks reach abstract sockets of the host", remedy)


def _early_demux() -> Requirement:
    """Without it a packet that comes in from a cut peer is not known to be another's than the task's."""
    folder = Path("/proc/sys/net/ipv4")
    off = [
        name for name in ("ip_early_demux", "tcp_early_demux") if (folder / name).read_text().strip() == "0"
    ]
    if not off:
        return Requirement("early-demux", Level.OK, "on")
    remedy = f"sysctl -w net.ipv4.{off[0]}=1"
    return _degraded("early-demux", f"{off[0]} is off: a cut may sever this machine from its manager", remedy)


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


def unmet(requirements: list[Requirement], unsafe: bool = False) -> Requirement | None:
    """The first need without which the keeper does not start."""
    missing = (each for each in requirements if each.level is Level.MISSING)
    return next((each for each in missing if not (unsafe and each.yields)), None)


def lacking(requirements: list[Requirement]) -> list[Requirement]:
    """The needs that `--unsafe` does without."""
    return [each for each in requirements if each.level is Level.MISSING and each.yields]
