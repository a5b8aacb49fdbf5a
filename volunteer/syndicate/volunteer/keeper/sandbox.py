"""The sandbox: bubblewrap's arguments, the script that waits in it, and the orders that the script reads.

One process tree serves a generation from unpacking to the end: bubblewrap, setpriv (which drops the uid;
root's `bwrap --uid` would still write as root), and a shell that becomes make. Nothing of a task stands in
the arguments, so a sandbox can be made before its task is known; orders are lines of data on a pipe and are
never run as shell text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from .devices import devices_beside
from .skeleton import OPEN_FOLDERS

# Names that the sandbox itself lays at the top; a source with one of them is laid at /job.
RESERVED = ("usr", "dev", "proc", "sys", "tmp", "run", "job")

# Descriptors of the shell in the sandbox; dash takes single digits only.
STDIN, STDOUT, STDERR, SOURCE, REPORT, ORDERS, ARGUMENTS, FILTER = range(8)

_BLOCK = 512  # the unit of `ulimit -f`
_PATH = "/run/syndicate/lib/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"

# `read` gives an empty line at the end of orders; `export` takes NAME=VALUE as data. The report pipe is
# closed right before exec, so that its end says that make was started; what cannot be is said before that.
_SCRIPT = r"""
umask 022
export LC_CTYPE=C.UTF-8
IFS=
echo ready >&4
{ read -r unpacker && read -r strip && read -r place; } <&5 || exit 125
{ read -r files && read -r blocks && read -r count; } <&5 || exit 125
while read -r line && [ -n "$line" ]; do export "$line"; done <&5
while [ "$count" -gt 0 ]; do read -r line || exit 125; set -- "$@" "$line"; count=$((count - 1)); done <&5
{ ulimit -n "$files" && ulimit -f "$blocks"; } 2>&4 || exit 125
if [ "$place" != / ]; then mkdir -p "$place" && cd "$place" || exit 124; fi
case $unpacker in
kept) ;;
plain) @TAR@ <&3 2>&4; echo "unpacked $?" >&4 ;;
*) "$unpacker" -dc <&3 2>&4 | @TAR@ 2>&4; echo "unpacked $?" >&4 ;;
esac
read -r go <&5 || exit 125
if ! [ -x /usr/bin/make ]; then echo "/usr/bin/make is not there" >&4; exit 127; fi
exec 3<&- 4>&- 5<&-
exec /usr/bin/make "$@"
"""


def _tar() -> str:
    """As the task's uid, and never touching owner or mode of the root-owned folders that a source adds to."""
    options = ["--no-same-owner", "--no-recursion", "--anchored", "--wildcards", "--no-wildcards-match-slash"]
    members = [f"{prefix}{folder}" for prefix in ("", "./", "*/", "*/*/") for folder in OPEN_FOLDERS]
    excluded = [f"--exclude='{member}'" for member in (".", *members)]
    return " ".join(["tar --extract --file=-", '--strip-components="$strip"', *options, *excluded])


# Of a task's disk everything that its uid may read, whatever it is: tar opens files alone, follows no link,
# and reads no hole. What cannot be read is left out; names in the archive are those that the task saw.
_PACKER_SCRIPT = r"""
umask 077
IFS=
echo ready >&4
read -r go <&5 || exit 125
{ @TAR@ 2>&4; echo "packed $?" >&4; } | gzip -1 -n -c 2>&4
echo "compressed $?" >&4
"""
_MERGED = ("bin", "lib", "lib64", "sbin")  # into /usr
_PACK_TAR = (
    "tar --create --file=- --format=gnu --sparse --numeric-owner --ignore-failed-read --warning=none "
    "-C /kept/root . -C /kept tmp dev/shm"
)


class Unpacker(StrEnum):
    """What turns a source into a tar stream; `KEPT` where the disk holds it already."""

    GZIP = "gzip"
    ZSTD = "zstd"
    PLAIN = "plain"
    KEPT = "kept"


_MAGIC = {b"\x1f\x8b": Unpacker.GZIP, b"\x28\xb5\x2f\xfd": Unpacker.ZSTD}


def unpacker_of(beginning: bytes) -> Unpacker:
    """By the magic number in the first bytes of a source."""
    return next((found for magic, found in _MAGIC.items() if beginning.startswith(magic)), Unpacker.PLAIN)


@dataclass(frozen=True)
class Layout:
    """Where a source lies: `place` is / or /job, `strip` how many folders around it are taken off."""

    place: str = "/"
    strip: int = 0


@dataclass(frozen=True)
class Orders:
    """What a sandbox is to do: unpack or not, which make to become, and how much each process may have."""

    unpacker: Unpacker
    layout: Layout
    environment: Mapping[str, str]
    arguments: Sequence[str]
    open_files: int  # descriptors
    file_bytes: int  # of any file it writes

    def encode(self) -> bytes:
        """The lines that the script reads; make is started by one more."""
        lines = [self.unpacker.value, str(self.layout.strip), self.layout.place]
        lines += [str(self.open_files), str(-(-self.file_bytes // _BLOCK)), str(len(self.arguments))]
        lines += [f"{name}={value}" for name, value in self.environment.items()]
        lines += ["", *self.arguments, ""]
        return "\n".join(lines).encode()


GO = b"go\n"


@dataclass(frozen=True)
class Programs:
    """Where things are: `bwrap` on the host, `usr` the toolchain that sandboxes see."""

    bwrap: Path
    usr: Path


@dataclass(frozen=True)
class Walls:
    """What of a sandbox a machine may be unable to give, and an operator may do without."""

    filtered: bool = True  # descriptor FILTER holds which system calls there are
    own_cgroups: bool = True  # its own cgroup is the root of those that it sees


def bwrap_arguments(programs: Programs, root: Path, tmp: Path, shm: Path, view: Path, walls: Walls) -> bytes:
    """The options of bubblewrap, NUL-separated for `--args`, so that no host path shows in an argv."""
    options = (
        *("--bind", root, "/"),
        *("--ro-bind", programs.usr, "/usr"),
        *("--proc", "/proc", "--dev-bind", devices_beside(view), "/dev"),
        *("--bind", shm, "/dev/shm"),  # noqa: S108 - a path in the sandbox
        *("--bind", tmp, "/tmp"),  # noqa: S108 - a path in the sandbox
        *("--ro-bind", view, "/run/syndicate"),
        *("--unshare-pid", "--unshare-ipc", "--unshare-uts"),
        *(("--unshare-cgroup",) if walls.own_cgroups else ()),
        *(("--seccomp", FILTER) if walls.filtered else ()),
        *("--new-session", "--die-with-parent", "--clearenv", "--chdir", "/"),
        *("--setenv", "PATH", _PATH),
        *("--setenv", "PYTHONPATH", "/run/syndicate/lib"),
        *("--setenv", "TMPDIR", "/tmp"),  # noqa: S108 - a path in the sandbox
    )
    return "\0".join(map(str, (*options, ""))).encode()


def command(programs: Programs, uid: int) -> list[str]:
    """What the launcher execs."""
    return _with_script(programs, uid, _SCRIPT.replace("@TAR@", _tar()))


def packer_arguments(programs: Programs, upper: Path, tmp: Path, shm: Path, walls: Walls) -> bytes:
    """The options of bubblewrap for a sandbox that packs a disk: it can read that, and write nothing.

    Its root is bubblewrap's own, without a file of a task's where a program looks for any, and its network is
    none.
    """
    options = (
        *("--ro-bind", programs.usr, "/usr"),
        *(word for name in _MERGED for word in ("--symlink", f"usr/{name}", f"/{name}")),
        *(word for folder in ("/kept", "/kept/dev") for word in ("--perms", "0755", "--dir", folder)),
        *("--ro-bind", upper, "/kept/root"),
        *("--ro-bind", tmp, "/kept/tmp"),
        *("--ro-bind", shm, "/kept/dev/shm"),
        *("--proc", "/proc"),
        *("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-net"),
        *(("--unshare-cgroup",) if walls.own_cgroups else ()),
        *(("--seccomp", FILTER) if walls.filtered else ()),
        *("--new-session", "--die-with-parent", "--clearenv", "--chdir", "/"),
        *("--setenv", "PATH", "/usr/bin:/bin"),
    )
    return "\0".join(map(str, (*options, ""))).encode()


def packer_command(programs: Programs, uid: int) -> list[str]:
    """What the launcher execs to pack a disk."""
    return _with_script(programs, uid, _PACKER_SCRIPT.replace("@TAR@", _PACK_TAR))


def _with_script(programs: Programs, uid: int, script: str) -> list[str]:
    return [
        *(str(programs.bwrap), "--args", str(ARGUMENTS), "--"),
        *("/usr/bin/setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups"),
        *("--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"),
        *("/usr/bin/sh", "-c", script, "sh"),
    ]
