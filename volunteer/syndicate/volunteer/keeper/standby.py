"""What stands ready on one slot, whatever task comes: a network, a disk, a sandbox, in mounts of its own.

Their making takes most of the time of a start, and depends on nothing of the task but its bounds. A task that
comes has the network and the disk for as long as it is on the slot, and the sandbox for its first generation.
Used in the slot's worker thread only, but for `network`.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from . import mounts
from .audit import Standing
from .box import Box, Site
from .cgroups import Cgroup
from .disk import Disk, DiskSize, Remains
from .errors import failed
from .launch import Launcher
from .network import Network, NetworkError, SlotNetwork
from .view import View


class Standby:
    """Makes what is missing, and takes it away again: each of `network`, `disk` and `box` may be None."""

    def __init__(
        self,
        slot: int,
        folder: Path,
        site: Site,
        view: View,
        launcher: Launcher,
        networks: Network,
        skeleton: Path,
    ) -> None:
        self.network: SlotNetwork | None = None
        self._closing: SlotNetwork | None = None  # while it is not known to be gone
        self.disk: Disk | None = None
        self.box: Box | None = None  # of generation 1, not yet handed out
        # Of the slot, once it has mounts of its own; the keeper's before.
        self.thread = threading.main_thread().native_id or 0
        self._slot = slot
        self._folder = folder
        self._site = site
        self._view = view
        self._launcher = launcher
        self._networks = networks
        self._skeleton = skeleton
        self._settled = False
        self._spent = False  # the sandbox got a task's orders: it never serves another

    @property
    def standing(self) -> Standing | None:
        """The sandbox that waits for the next task, with its disk."""
        if self.box is None or self.disk is None or self._spent:
            return None
        root = self.disk.root
        return Standing(self.box.cgroup.path, self.box.process.pid, frozenset(map(str, (root, root.parent))))

    # ---- making

    def make(self, size: DiskSize, for_task: bool) -> None:
        """Make what does not stand; raises KeeperError, Cancelled, having left nothing half."""
        try:
            self._settle()
            if self.box is not None and (self._spent or self.box.process.reap() is not None):
                self.drop_sandbox()
            self._end_closing()
            if self.network is None:
                self.network = self._networks.make_slot(f"slot-{self._slot}")
            if self.box is None:
                self.make_sandbox(size, for_task)
        except (NetworkError, OSError) as error:
            raise failed(f"cannot stand by: {error}") from error

    def _settle(self) -> None:
        """Give the slot's thread mounts of its own, with the slot's view among them; once."""
        if not self._settled:
            mounts.unshare_mounts()
            self.thread = threading.get_native_id()
            self._view.open(self._site.uid)
            self._settled = True

    def make_sandbox(self, size: DiskSize, for_task: bool) -> None:
        """A disk and a sandbox on it; raises KeeperError, Cancelled, OSError."""
        self.drop_disk()  # else a new one would be mounted over what a failure left
        self._folder.mkdir(exist_ok=True)
        self.make_disk(size)
        try:
            self.box = self.launch(1, for_task)
        except BaseException:
            self.drop_disk()
            raise
        self._spent = False

    def make_disk(self, size: DiskSize) -> None:
        """An empty disk, where there is none; raises KeeperError."""
        self.disk = Disk.make(self._folder, self._skeleton, size)

    def recover_disk(self) -> None:
        """The power is back, where it failed; raises KeeperError."""
        if self.disk is not None:
            self.disk.recover(self._skeleton)

    def launch(self, generation: int, for_task: bool) -> Box:
        """A sandbox on the disk; the caller destroys it. Raises KeeperError, Cancelled, OSError."""
        if self.disk is None or self.network is None:
            raise RuntimeError("a sandbox needs a disk and a network")
        netns = self.network.netns_fd
        return Box.launch(self._site, self._launcher, generation, self.disk, netns, for_task)

    def launch_packer(self) -> Box:
        """A sandbox that packs the disk, as `launch`."""
        if self.disk is None or self.network is None:
            raise failed("it is gone: a revival came to nothing")
        return Box.launch_packer(self._site, self._launcher, self.disk, self.network.netns_fd)

    # ---- a task

    def spend(self) -> None:
        """The sandbox gets a task's orders."""
        self._spent = True

    def hand_out(self) -> Box:
        """The sandbox; whoever takes it destroys it."""
        if self.box is None:
            raise RuntimeError("no sandbox stands by")
        box, self.box, self._spent = self.box, None, False
        return box

    def hold(self) -> None:
        """Nothing passes to or from the slot, from now on; raises NetworkError."""
        if self.network is not None:
            self.network.hold(self._site.uid)

    def resume(self) -> None:
        """End `hold`; raises NetworkError."""
        if self.network is not None:
            self.network.resume()

    # ---- taking away, each of it idempotent

    def drop_sandbox(self) -> None:
        """No sandbox waits, and there is no disk; raises KeeperError."""
        if self.box is not None:
            self.box.destroy()
            self.box = None
        self.drop_disk()

    def drop_disk(self) -> None:
        """Nothing is left of the disk; raises KeeperError."""
        if self.disk is not None:
            self.disk.close()
            self.disk = None

    def detach_disk(self) -> Remains | None:
        """Another disk may be made at once; what this one held the caller frees. Raises KeeperError."""
        if self.disk is None:
            return None
        remains, self.disk = self.disk.detach(), None
        return remains

    def close_network(self) -> None:
        """The slot has no network; raises NetworkError, and is to be called again then.

        What cannot be closed is no network either: its namespace is gone, and what is started without one is
        in the host's.
        """
        if self.network is not None:
            self._closing, self.network = self.network, None
        self._end_closing()

    def _end_closing(self) -> None:
        if self._closing is not None:
            self._closing.close()
            self._closing = None

    def empty_view(self) -> None:
        """Nothing is in the slot's view; raises OSError."""
        if self._settled:
            self._view.empty()

    def drop_cgroups(self) -> None:
        """What a sandbox that could not be ended left: the next one of its number would share it.

        Raises CgroupError, OSError.
        """
        with os.scandir(self._site.cgroup.path) as entries:
            left = [Cgroup(Path(entry.path)) for entry in entries if entry.is_dir(follow_symlinks=False)]
        for cgroup in left:
            cgroup.kill()
            cgroup.remove()

    def drop_folder(self) -> None:
        """Nothing lies in the slot's place; raises OSError."""
        if self._folder.is_dir():
            self._folder.rmdir()
