"""What bounds a task's use of the machine, and how each of it is switched off for a test."""

from __future__ import annotations

import atexit
import dataclasses
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

from tests.attacks.defence import Defence


def _bound_but(**unbounded: int) -> None:
    """A slot's cgroups do not get some of its bounds."""
    from syndicate.volunteer.keeper import ground

    bound = ground.Ground._bound

    def bound_less(self: ground.Ground, bounds: Any) -> None:
        bound(self, dataclasses.replace(bounds, **unbounded))

    ground.Ground._bound = bound_less  # type: ignore[method-assign]


def _any_orders(**unbounded: int) -> None:
    from syndicate.volunteer.keeper import ground

    orders_of = ground.orders_of
    ground.orders_of = lambda *given: dataclasses.replace(orders_of(*given), **unbounded)


def _kill_the_group() -> None:
    """A Kill ends the first two processes and their group, as a shell would, in no pid namespace."""
    from syndicate.volunteer.keeper import box
    from syndicate.volunteer.keeper.cgroups import Cgroup, CgroupError

    arguments, remove = box.bwrap_arguments, Cgroup.remove
    box.bwrap_arguments = lambda *given: arguments(*given).replace(b"--unshare-pid\0", b"")

    def strike(self: Cgroup) -> None:
        for pid in sorted(self.pids())[:2]:
            try:
                group = os.getpgid(pid)
                os.kill(pid, signal.SIGKILL)
                if group != os.getpgrp() and group >= pid:
                    os.killpg(group, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def remove_if_empty(self: Cgroup) -> None:
        try:
            remove(self)
        except CgroupError:
            return

    Cgroup.strike = strike  # type: ignore[method-assign]
    Cgroup.kill = strike  # type: ignore[method-assign]
    Cgroup.is_empty = lambda _: True  # type: ignore[method-assign]
    Cgroup.remove = remove_if_empty  # type: ignore[method-assign]


def _no_oom_watch() -> None:
    """The kernel ends one process of a slot that runs out of memory, and nobody the others."""
    from syndicate.volunteer.keeper import limits
    from syndicate.volunteer.keeper.oom import OomWatch
    from syndicate.volunteer.keeper.runs import Runs

    version_2 = limits._memory_v2
    limits._memory_v2 = lambda *given: (pair for pair in version_2(*given) if pair[0] != "memory.oom.group")
    OomWatch.listen = lambda *_: None  # type: ignore[method-assign]
    OomWatch.rest = lambda _: None  # type: ignore[method-assign]
    Runs._end_for = lambda *_: None  # type: ignore[method-assign]


def _any_log() -> None:
    """All output goes into the head; to the machine the test's own watch is a bound."""
    from syndicate.volunteer.keeper import runs

    real = runs.LogStore
    runs.LogStore = lambda folder, number, boot_id, *_: real(  # type: ignore[assignment, misc]  # makes the same
        folder, number, boot_id, 1 << 40, 1 << 40
    )


def _plain_rmtree() -> None:
    """Python's own, which goes into each folder by a call of its own."""
    from syndicate.volunteer.keeper import disk

    def remove(top: Path) -> None:
        try:
            shutil.rmtree(top)
        except RecursionError as error:
            raise OSError(f"{top} is too deep") from error

    disk.remove_tree = remove


def _remove_through_links() -> None:
    """By path, and into whatever looks like a folder."""
    from syndicate.volunteer.keeper import disk

    def remove(top: Path) -> None:
        for folder, _, names in os.walk(top, followlinks=True):
            for name in names:
                os.unlink(os.path.join(folder, name))
        shutil.rmtree(top, ignore_errors=True)

    disk.remove_tree = remove


def _remove_by_path() -> None:
    """It looks first, at all, and unlinks then, by path; it goes through no link that it saw."""
    from syndicate.volunteer.keeper import disk

    def remove(top: Path) -> None:
        for _ in range(20):
            for folder, _, names in list(os.walk(top, topdown=False)):
                for name in names:
                    try:
                        os.unlink(os.path.join(folder, name))
                    except OSError:
                        continue
        shutil.rmtree(top, ignore_errors=True)
        shutil.rmtree(top, ignore_errors=True)

    disk.remove_tree = remove


def _any_core() -> None:
    """Tasks have no bound on cores, by a launcher that sets none."""
    from syndicate.volunteer.keeper import launch

    text = Path(launch.__file__).with_name("launcher.py").read_text()
    line = "    resource.RLIMIT_CORE: 1,\n"
    assert line in text
    folder = Path(tempfile.mkdtemp(prefix="syn-"))
    atexit.register(shutil.rmtree, folder)
    (folder / "launcher.py").write_text(text.replace(line, "    resource.RLIMIT_CORE: 1 << 30,\n"))
    launch.__file__ = str(folder / "launch.py")


def _pack_all() -> None:
    """What packs a disk reads holes as if they were bytes, for as long as it takes."""
    from syndicate.volunteer.keeper import keeper, sandbox
    from syndicate.volunteer.keeper.pack import PackBounds

    assert "--sparse " in sandbox._PACK_TAR
    sandbox._PACK_TAR = sandbox._PACK_TAR.replace("--sparse ", "")
    keeper.PackBounds = lambda *_: PackBounds(1 << 40, 600.0)  # type: ignore[assignment, misc]  # makes the same


def _disk_beside_memory() -> None:
    """The manager takes a job whose disk does not fit in its memory."""
    from syndicate.manager.core import limits

    limits.shortfall = lambda _: 0


DEFENCES = {
    "pids": Defence("keeper", "the task's bound of processes", lambda: _bound_but(pids=0)),
    "cpu": Defence("keeper", "the task's bound of processors", lambda: _bound_but(cpu_millis=0)),
    "open-files": Defence("keeper", "a bound of open files", lambda: _any_orders(open_files=8192)),
    "cgroup-kill": Defence("keeper", "cgroup.kill and a pid namespace", _kill_the_group),
    "oom": Defence("keeper", "out of memory ends all of a task", _no_oom_watch),
    "log": Defence("keeper", "a log keeps its head and its tail", _any_log),
    "rmtree": Defence("keeper", "clean-up that no depth is too deep for", _plain_rmtree),
    "links": Defence("keeper", "clean-up that follows no link", _remove_through_links),
    "by-path": Defence("keeper", "clean-up that builds no paths", _remove_by_path),
    "core": Defence("keeper", "a bound of one byte on cores", _any_core),
    "packing": Defence("keeper", "packing that reads no hole, and has bounds", _pack_all),
    "disk-in-memory": Defence("manager", "a disk must fit in the task's memory", _disk_beside_memory),
}
