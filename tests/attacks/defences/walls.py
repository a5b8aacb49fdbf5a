"""The walls of a sandbox, and how each of them is taken down for a test."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.attacks.defence import Defence

_LEAVING = Path(__file__).parents[1] / "leaving"
_JOIN_SESSION_KEYRING = 1
_FAR = 1_000_000


def _no_filter() -> None:
    from syndicate.volunteer.keeper.keeper import Keeper

    Keeper._open_filter = lambda _: None  # type: ignore[method-assign]


def _as_root() -> None:
    """The task is root, with all that root may, in the sandbox's namespaces."""
    from syndicate.volunteer.keeper import box

    real = box.command

    def command(*arguments: Any) -> list[str]:
        words = real(*arguments)
        return words[: words.index("/usr/bin/setpriv")] + words[words.index("/usr/bin/sh") :]

    box.command = command


def _without_option(option: str) -> None:
    """bubblewrap is not given one of its options."""
    from syndicate.volunteer.keeper import box

    real = box.bwrap_arguments
    box.bwrap_arguments = lambda *arguments: real(*arguments).replace(f"{option}\0".encode(), b"")


def _one_uid() -> None:
    """All slots of the keeper have the uid of the first."""
    from syndicate.volunteer.keeper import keeper

    real, uids = keeper.Site, []

    def site(uid: int, *rest: Any) -> Any:
        uids.append(uid)
        return real(uids[0], *rest)

    keeper.Site = site  # type: ignore[assignment, misc]  # a maker of the same


def _chroot_for_pivot_root() -> None:
    from syndicate.volunteer.keeper import box

    real = box.command

    def command(*arguments: Any) -> list[str]:
        words = real(*arguments)
        return [sys.executable, "-I", "-S", str(_LEAVING / "chroot_sandbox.py"), *words[1:]]

    box.command = command


def _writable_skeleton() -> None:
    """What lies under a task's tree is the task's to replace: no sticky folders, no files of the loader.

    The mount points are made in the task's own layer, as where there is no skeleton.
    """
    from syndicate.volunteer.keeper import keeper, skeleton
    from syndicate.volunteer.keeper.disk import Disk

    build, mount_all = keeper.build, Disk._mount_all
    points = skeleton._MOUNT_POINTS

    def weak(root_fs: Path, place: Path) -> None:
        build(root_fs, place)
        for name in ("ld.so.preload", "ld.so.cache"):
            (place / "etc" / name).unlink()
        for name in (*skeleton.OPEN_FOLDERS, "."):
            (place / name).chmod(0o777)

    def mount_weakly(self: Disk, place: Path) -> None:
        mount_all(self, place)
        self.upper.chmod(0o777)
        for name in points:
            (self.upper / name).mkdir(parents=True)

    skeleton._MOUNT_POINTS = ()  # type: ignore[assignment]
    keeper.build = weak
    Disk._mount_all = mount_weakly  # type: ignore[method-assign]


def _layers_by_path() -> None:
    from syndicate.volunteer.keeper import disk

    @contextmanager
    def named(*folders: Path) -> Iterator[list[str]]:
        yield [str(folder) for folder in folders]

    disk._named = named


def _one_network() -> None:
    """The only task of a job has the network namespace of another job's, one that has two members."""
    from syndicate.volunteer.keeper.ground import Ground
    from syndicate.volunteer.keeper.standby import Standby

    make, prepare, launch = Ground.__init__, Ground._prepare, Standby.launch
    grounds: list[Ground] = []

    def init(self: Ground, *arguments: Any) -> None:
        make(self, *arguments)
        grounds.append(self)

    def prepare_anew(self: Ground, request: Any) -> Any:
        if len(request.members) == 1:
            self._standby.drop_sandbox()  # which stands in its own network already
        return prepare(self, request)

    def members_of(one: Ground) -> int:
        return 0 if one._request is None else len(one._request.members)

    def launch_there(self: Standby, generation: int, for_task: bool) -> Any:
        own = self.network
        if any(one._standby is self and members_of(one) == 1 for one in grounds):
            self.network = next(one for one in grounds if members_of(one) == 2)._standby.network
        try:
            return launch(self, generation, for_task)
        finally:
            self.network = own

    Ground.__init__ = init  # type: ignore[method-assign]
    Ground._prepare = prepare_anew  # type: ignore[method-assign]
    Standby.launch = launch_there  # type: ignore[method-assign]


def _keepers_keyring() -> None:
    """Tasks stay in the keeper's session keyring, which it has from whoever started it."""
    import ctypes

    from syndicate.volunteer.keeper import launch

    number = {"x86_64": 250, "aarch64": 219}[os.uname().machine]
    assert ctypes.CDLL(None).syscall(number, _JOIN_SESSION_KEYRING, None) != -1
    text = Path(launch.__file__).with_name("launcher.py").read_text()
    assert " _join_keyring()\n" in text
    folder = Path(tempfile.mkdtemp(prefix="syn-"))
    atexit.register(shutil.rmtree, folder)
    (folder / "launcher.py").write_text(text.replace(" _join_keyring()\n", " pass\n"))
    launch.__file__ = str(folder / "launch.py")


def _same_disk() -> None:
    """A slot's next task finds on its disk what the one before had there."""
    from syndicate.volunteer.keeper.disk import Disk

    make, close = Disk.make.__func__, Disk.close  # type: ignore[attr-defined]

    def kept_of(folder: Path) -> Path:
        return folder.parents[1] / f"kept-{folder.name}"

    def make_over(cls: type[Disk], folder: Path, *rest: Any) -> Disk:
        disk: Disk = make(cls, folder, *rest)
        if kept_of(folder).is_dir():
            subprocess.run(["cp", "-a", f"{kept_of(folder)}/.", str(disk.upper)], check=True)
        return disk

    def keep(self: Disk) -> None:
        if self.upper.is_dir():
            subprocess.run(["cp", "-a", f"{self.upper}/.", str(kept_of(self._mount.parent))], check=True)
        close(self)

    Disk.make = classmethod(make_over)  # type: ignore[assignment, method-assign]
    Disk.close = keep  # type: ignore[method-assign]


def _claim_nothing() -> None:
    """It takes uids without a word to other keepers, far from where those look first."""
    from syndicate.volunteer.keeper import uids

    base = _FAR + os.getpid() % 1000 * 1000
    uids.claim = lambda *_, **__: uids.Claim(base, os.open("/dev/null", os.O_RDONLY))


DEFENCES = {
    "filter": Defence("keeper", "the filter of system calls", _no_filter),
    "uid": Defence("keeper", "a uid of the task's own, without capabilities", _as_root),
    "one-uid": Defence("keeper", "a uid of each slot's own", _one_uid),
    "pid": Defence("keeper", "a pid namespace", lambda: _without_option("--unshare-pid")),
    "ipc": Defence("keeper", "an IPC namespace", lambda: _without_option("--unshare-ipc")),
    "cgroup": Defence("keeper", "a cgroup namespace", lambda: _without_option("--unshare-cgroup")),
    "pivot-root": Defence("keeper", "pivot_root", _chroot_for_pivot_root),
    "skeleton": Defence("keeper", "root's sticky folders under the task's tree", _writable_skeleton),
    "layer-names": Defence("keeper", "overlays mounted by descriptors", _layers_by_path),
    "network": Defence("keeper", "a network namespace of each slot's own", _one_network),
    "keyring": Defence("keeper", "a session keyring of each task's own", _keepers_keyring),
    "disk": Defence("keeper", "a fresh disk for each task", _same_disk),
    "uid-claim": Defence("keeper", "a lock on the uids that a keeper has", _claim_nothing),
}
