"""Which faults and file systems this machine can do: each is tried on something that is thrown away."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ..local import MAX_WHY
from . import mounts, signals
from .cgroups import Cgroup, CgroupError, find_mount
from .errors import KeeperError, one_line
from .volume import try_volume

OK = "ok"
_SECONDS = 30.0  # what a machine can do is not told by how busy it is
_LOOK_SECONDS = 0.0005
_NOBODY = 65534
_PAGE = 4096


class _Cannot(Exception):
    """What was tried does not work here: one line, with the remedy where there is one."""


def try_faults() -> dict[str, str]:
    """Each fault of processes and disks: `ok`, or why not and what mends it, in one line.

    As root; takes about 100 ms and leaves nothing. A network tries its own.
    """
    trials = {"pause": _pause, "disk-full": _fill, "signal": _signal, "lose-unsynced": _lose}
    return _tried(trials)


def try_file_systems() -> dict[str, str]:
    """Each file system that disks are made of: `ok`, or why it cannot be mounted. As root; leaves nothing.

    Mounted and not looked for in /proc/filesystems: the kernel loads the module of one at its first mount,
    also for who may load none.
    """
    return _tried({"overlayfs": _overlay, "tmpfs": _tmpfs})


def _tried(trials: Mapping[str, Callable[[], None]]) -> dict[str, str]:
    found: dict[str, str] = {}

    def run() -> None:
        for name, work in trials.items():
            found[name] = _said(work)

    # A thread that is thrown away: what is mounted in its mounts goes with it.
    thread = threading.Thread(target=run, name="syn-trials")
    thread.start()
    thread.join()
    return found


def _said(work: Callable[[], None]) -> str:
    try:
        work()
    except (OSError, CgroupError, _Cannot, subprocess.SubprocessError) as error:
        return one_line(str(error), MAX_WHY)
    return OK


def _pause() -> None:
    mount = find_mount()
    if mount is None:
        # The keeper mounts one itself then, and the same kernel will do the same there.
        with _scratch("cgroup2") as folder:
            _pause_in(folder)
    else:
        _pause_in(mount)


def _pause_in(mount: Path) -> None:
    cgroup = Cgroup.make(mount / f"syn-trial-{os.getpid()}")
    try:
        with _sleeper() as process:
            (cgroup.path / "cgroup.procs").write_text(str(process.pid))
            try:
                cgroup.set_frozen(True)
                _await(cgroup.is_frozen, "a frozen cgroup does not freeze; Linux 5.2 or newer is needed")
                cgroup.kill()
            finally:
                cgroup.set_frozen(False)
    finally:
        cgroup.kill()
        cgroup.remove()


def _fill() -> None:
    with _scratch("tmpfs", "size=1m,nr_inodes=100") as folder:
        (folder / "one").write_bytes(bytes(_PAGE))
        found = os.statvfs(folder)
        mounts.resize(folder, _PAGE, found.f_files - found.f_ffree, 0)
        for name, data in (("one", bytes(2 * _PAGE)), ("two", b"")):
            try:
                (folder / name).write_bytes(data)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
            else:
                raise _Cannot("a tmpfs whose bounds are what it holds still takes more")
        mounts.resize(folder, 1 << 20, 100, 0)
        (folder / "one").write_bytes(bytes(2 * _PAGE))


def _tmpfs() -> None:
    with _scratch("tmpfs"):
        pass


def _overlay() -> None:
    with _scratch("tmpfs") as folder:
        lower, upper, work, root = (folder / name for name in ("lower", "up", "work", "root"))
        for each in (lower, upper, work, root):
            each.mkdir()
        mounts.mount("overlay", root, "overlay", 0, f"lowerdir={lower},upperdir={upper},workdir={work}")
        mounts.unmount(root)


def _lose() -> None:
    with _scratch("tmpfs", "size=32m") as folder:
        try:
            try_volume(folder)
        except FileNotFoundError as error:
            raise _Cannot(f"there are no loop devices here ({error.strerror}: {error.filename})") from error
        except KeeperError as error:
            raise _Cannot(error.detail) from error


def _signal() -> None:
    with _sleeper(_NOBODY) as process:
        try:
            seen = signals.look(process.pid)
        except PermissionError as error:
            raise _Cannot(
                "root is without sys_ptrace here, and cannot tell make and shells from a task's programs; "
                "in a container: --cap-add=SYS_PTRACE"
            ) from error
        if seen is None:
            raise _Cannot("a process that lives is not seen in /proc")
        held = os.pidfd_open(process.pid)
        try:
            signal.pidfd_send_signal(held, signal.SIGTERM)
        except PermissionError as error:
            raise _Cannot("root is without kill here; in a container: --cap-add=KILL") from error
        finally:
            os.close(held)
        if process.wait(_SECONDS) != -signal.SIGTERM:
            raise _Cannot("a signal did not arrive")


@contextmanager
def _sleeper(uid: int = 0) -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing, and ends with what it reads, since root may lack the right to kill it."""
    process = subprocess.Popen(
        ["/bin/cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        user=uid,
        group=uid,
        extra_groups=(),
    )
    try:
        yield process
    finally:
        process.communicate(timeout=_SECONDS)


@contextmanager
def _scratch(kind: str, data: str = "") -> Iterator[Path]:
    """A file system of this kind, in mounts of the calling thread's own; raises OSError."""
    mounts.unshare_mounts()
    with tempfile.TemporaryDirectory(prefix="syn-trial-") as name:
        folder = Path(name)
        mounts.mount("syndicate", folder, kind, 0, data)
        try:
            yield folder
        finally:
            mounts.unmount(folder)


def _await(holds: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + _SECONDS
    while not holds():
        if time.monotonic() > deadline:
            raise _Cannot(otherwise)
        time.sleep(_LOOK_SECONDS)
