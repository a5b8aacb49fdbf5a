"""Where a keeper has its folders."""

from __future__ import annotations

import os

from .config import Config
from .trees import remove_tree


class Places:
    """Every folder of an instance, by exact name."""

    def __init__(self, settings: Config) -> None:
        self.run = settings.run_dir
        self.socket = self.run / "keeper.sock"
        self.sockets = self.run / "slots"
        self.used = self.run / "used"  # outlives the keeper: the machine is no fresher for its restart
        self.state = settings.state_dir
        self.skeleton = self.state / "skeleton"
        self.views = self.state / "views"
        self.slots = self.state / "slots"
        self.sync_root = self.state / "sync-root"
        self.lock = self.state / "lock"
        self.cgroup_name = f"syndicate-{settings.instance}"

    def make(self, volunteer_uid: int, volunteer_gid: int, slots: int) -> None:
        """Make the standing folders anew; raises OSError."""
        self.remove()
        self.run.mkdir(parents=True, exist_ok=True)
        os.chown(self.run, 0, volunteer_gid)
        self.run.chmod(0o750)  # nobody else may pass to the sockets
        for folder in (self.sockets, self.slots, self.sync_root):
            folder.mkdir()
        for number in range(slots):
            folder = self.sockets / str(number)
            folder.mkdir()
            # Its tasks, of other uids, pass through it inside their sandbox.
            folder.chmod(0o755)
            os.chown(folder, volunteer_uid, volunteer_gid)

    def remove(self) -> None:
        """Remove all but the state folder itself, its lock and its epochs."""
        for folder in (self.sockets, self.skeleton, self.views, self.slots, self.sync_root):
            if folder.exists():
                remove_tree(folder)
        self.socket.unlink(missing_ok=True)
