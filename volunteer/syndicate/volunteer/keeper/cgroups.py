"""The cgroups that hold tasks: for ending every process of one, and knowing that none is left.

Only `cgroup.kill`, `cgroup.freeze`, `cgroup.events` and `cgroup.procs` of a version 2 mount are used, which
work without any controller (Linux 5.14), so that version 1, hybrid and version 2 machines are treated alike.
"""

from __future__ import annotations

import errno
import os
import select
import signal
from pathlib import Path

from .patience import Patience

MOUNTINFO = Path("/proc/self/mountinfo")
OWN = Path("/proc/self/cgroup")
_GONE = (errno.ENOENT, errno.ENODEV)  # the second where it is removed after its file was found
_KILL_SECONDS = 5.0
_LOOK_SECONDS = 0.001
_AGAIN_SECONDS = 0.064
_MOST_SECONDS = 0.25  # that a look which comes late uses up


class CgroupError(Exception):
    """A cgroup that cannot be made or emptied: one line for people."""


def find_mount(mountinfo: Path = MOUNTINFO) -> Path | None:
    """The version 2 mount of this machine, or None."""
    for line in os.fsdecode(mountinfo.read_bytes()).split("\n"):
        fields, _, rest = line.partition(" - ")
        kind = rest.split(" ", 1)[0]
        if kind == "cgroup2" and fields.split(" ")[3] == "/":
            return Path(fields.split(" ")[4])
    return None


def own_folder(mount: Path, controller: str, listing: Path = OWN) -> Path:
    """The cgroup of this process in a hierarchy, by its mount; `controller` is empty for version 2.

    Raises CgroupError where it is in none. See cgroups(7), /proc/pid/cgroup.
    """
    for line in listing.read_text().splitlines():
        number, names, path = line.split(":", 2)
        if (controller in names.split(",")) if controller else (number, names) == ("0", ""):
            return mount / path.lstrip("/")
    raise CgroupError(f"this process is in no cgroup of {controller or 'version 2'}")


class Cgroup:
    """One cgroup that this keeper made."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def make(cls, path: Path) -> Cgroup:
        """Make the directory, or take it if it is there; raises CgroupError."""
        try:
            path.mkdir(exist_ok=True)
        except OSError as error:
            raise CgroupError(f"cannot make the cgroup {path}: {error.strerror}") from error
        return cls(path)

    def child(self, name: str) -> Cgroup:
        """The cgroup `name` in this one, made if missing."""
        return Cgroup.make(self.path / name)

    def take(self, pid: int) -> None:
        """Bring a process into it; raises CgroupError."""
        try:
            (self.path / "cgroup.procs").write_text(str(pid))
        except OSError as error:
            raise CgroupError(f"cannot move a process to {self.path}: {error.strerror}") from error

    def open(self) -> int:
        """A descriptor for starting a process inside; the caller closes it."""
        return os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def pids(self) -> list[int]:
        """Processes in it now; processes of other pid namespaces that cannot be named are left out."""
        try:
            text = (self.path / "cgroup.procs").read_text()
        except OSError as error:
            if error.errno not in _GONE:
                raise
            return []
        return [pid for pid in map(int, text.split()) if pid]

    def kill(self) -> None:
        """End every process in it and below, and return once none is left; raises CgroupError after 5 s.

        After up to 9 s where the machine stands still meanwhile.
        The second means is SIGKILL to each process, which ends a pid namespace with its first.
        """
        events = self._open_events()
        if events is None:
            return
        try:
            patience = Patience(_KILL_SECONDS, _MOST_SECONDS)
            self.strike()
            # The kernel tells a change by a work queue and at most every 10 ms; looking is sooner.
            pause = _LOOK_SECONDS
            while not _is_empty(events):
                left = patience.left()
                if left <= 0:
                    raise CgroupError(f"processes {self.pids()[:10]} in {self.path} do not end")
                if not _changed(events, min(left, pause)):
                    pause = min(pause * 2, _AGAIN_SECONDS)
                    if pause >= _AGAIN_SECONDS:
                        self._strike_each()
        finally:
            os.close(events)

    def strike(self) -> None:
        """Have every process in it and below killed, without waiting for their ends."""
        try:
            order = os.open(self.path / "cgroup.kill", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(order, b"1")
            finally:
                os.close(order)
        except OSError:
            self._strike_each()

    def set_frozen(self, frozen: bool) -> None:
        """Have every process in it and below freeze, or run again; raises CgroupError.

        Those that freeze do so in their own time, see `is_frozen`; those that run again do so from now on.
        What they start is frozen with them, and frozen or not they can be killed.
        """
        try:
            order = os.open(self.path / "cgroup.freeze", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(order, b"1" if frozen else b"0")
            finally:
                os.close(order)
        except OSError as error:
            raise CgroupError(f"cannot freeze or thaw {self.path}: {error.strerror}") from error

    def is_frozen(self) -> bool:
        """Whether every process in it and below is frozen; so is one that has none. Raises CgroupError."""
        try:
            return "frozen 1" in (self.path / "cgroup.events").read_text()
        except OSError as error:
            raise CgroupError(f"cannot look at {self.path}: {error.strerror}") from error

    def is_empty(self) -> bool:
        """Whether no process is in it or below; so is one that is not there."""
        events = self._open_events()
        if events is None:
            return True
        try:
            return _is_empty(events)
        finally:
            os.close(events)

    def _open_events(self) -> int | None:
        """Its cgroup.events, which the caller closes; None where it is not there."""
        try:
            return os.open(self.path / "cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            return None

    def _strike_each(self) -> None:
        """SIGKILL by pid: a pid of this cgroup cannot be reused while its zombie waits for the keeper."""
        for pid in self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def remove(self) -> None:
        """Remove it and all below, which must hold no process; raises CgroupError."""
        for folder, _, _ in os.walk(self.path, topdown=False):
            try:
                os.rmdir(folder)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise CgroupError(f"cannot remove the cgroup {folder}: {error.strerror}") from error


def _is_empty(events: int) -> bool:
    try:
        return b"populated 0" in os.pread(events, 256, 0)
    except OSError as error:
        if error.errno not in _GONE:
            raise
        return True


def _changed(events: int, seconds: float) -> bool:
    # The kernel tells a change of cgroup.events as POLLPRI.
    poller = select.poll()
    poller.register(events, select.POLLPRI)
    return bool(poller.poll(seconds * 1000))
