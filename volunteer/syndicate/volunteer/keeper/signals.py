"""Signals to the processes of a task: to its programs, and not to what only waits for them."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from .cgroups import Cgroup

_MAKES = frozenset({"make", "gmake"})
_SHELLS = frozenset({"sh", "dash", "bash"})
_TO_FIRST_THREAD = 1  # PIDFD_SIGNAL_THREAD, since Linux 6.9
_CGROUP_PARTS = 3  # of its path: the instance, the slot, the generation


@dataclass(frozen=True)
class Seen:
    """A living process as /proc tells it; `began` tells it from a later one of the same pid."""

    pid: int
    parent: int
    began: int
    program: str


def targets(processes: Collection[Seen]) -> list[Seen]:
    """Those that a signal is for: all but make, and shells that wait for a process."""
    parents = {process.parent for process in processes}
    return [
        process
        for process in processes
        if process.program not in _MAKES and not (process.program in _SHELLS and process.pid in parents)
    ]


def send(cgroup: Cgroup, number: int, but: Collection[int]) -> int:
    """Send a signal to the task in a cgroup, which should be frozen; to how many of its processes.

    `but` are the sandbox's own. A process that ended since it was seen is left out, and whatever has its pid
    by now is not touched. Raises OSError.
    """
    return sum(_send(process, cgroup, number) for process in targets(seen_in(cgroup, but)))


def seen_in(cgroup: Cgroup, but: Collection[int]) -> list[Seen]:
    """What lives in a cgroup, without some; raises OSError."""
    return [found for pid in cgroup.pids() if pid not in but and (found := look(pid)) is not None]


def look(pid: int) -> Seen | None:
    """A process, or None if it has ended. Raises PermissionError without the right to see its program."""
    folder = Path(f"/proc/{pid}")
    try:
        # The second field is the program's name in brackets, and may hold anything, brackets too.
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        state, parent, began = fields[0], int(fields[1]), int(fields[19])
        if state in "ZX":
            return None
        program = os.readlink(folder / "exe")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Seen(pid, parent, began, Path(program.removesuffix(" (deleted)")).name)


def _send(process: Seen, cgroup: Cgroup, number: int) -> bool:
    try:
        held = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        # What is read now is about the process that is held, or that one has ended and gets nothing.
        again = look(process.pid)
        if again is None or again.began != process.began or not _is_in(process.pid, cgroup):
            return False
        _send_held(held, process.pid, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(held)
    return True


def _send_held(held: int, pid: int, number: int) -> None:
    """To the first thread, if it takes the signal, and else to whichever does: as of a process that runs.

    Of a frozen one the kernel takes no thread for better than another, and any may get it as they thaw. A
    program whose first thread waits, as of Python, where that one alone runs handlers, would not notice.
    """
    if _first_thread_takes(pid, number):
        try:
            signal.pidfd_send_signal(held, number, None, _TO_FIRST_THREAD)
            return
        except OSError as error:
            if error.errno != errno.EINVAL:  # of a kernel that knows no threads here, before 6.9
                raise
        # By its number, which is still that process's: it was looked at a moment ago, and is frozen.
        _send_to_thread(pid, number)
        return
    signal.pidfd_send_signal(held, number)


def _send_to_thread(pid: int, number: int) -> None:
    """To the first thread of a process; raises OSError. See tgkill(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.tgkill(pid, pid, number):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _first_thread_takes(pid: int, number: int) -> bool:
    """Whether a process's first thread does not block a signal."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return False
    blocked = next((line.split()[1] for line in lines if line.startswith("SigBlk:")), "0")
    return not int(blocked, 16) >> (number - 1) & 1


def _is_in(pid: int, cgroup: Cgroup) -> bool:
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return False
    # The line of version 2; its path begins where the keeper's view of cgroups does.
    path = next((line[len("0::") :] for line in lines if line.startswith("0::")), "")
    return Path(path).parts[-_CGROUP_PARTS:] == cgroup.path.parts[-_CGROUP_PARTS:]
