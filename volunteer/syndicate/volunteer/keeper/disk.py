"""A task's disk: a sized tmpfs with the writable layer of its root in it, and its /tmp and /dev/shm.

<folder>/disk         tmpfs, bounded in bytes and inodes
<folder>/disk/up      the writable layer: the source, and what the task made of it
<folder>/disk/work    overlayfs's own
<folder>/disk/root    the root of the sandbox: `up` over the skeleton
<folder>/disk/tmp-1   /tmp of generation 1, and so on: it counts within the same bounds
<folder>/disk/shm-1   /dev/shm
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from . import mounts
from .errors import failed
from .trees import remove_tree

_FLAGS = mounts.NOSUID | mounts.NODEV


@dataclass(frozen=True)
class DiskSize:
    """Bounds of a disk."""

    size_bytes: int
    inodes: int


class Disk:
    """One mounted disk; the keeper's mount namespace owns it until `close`."""

    def __init__(self, folder: Path, size: DiskSize) -> None:
        self._mount = folder / "disk"
        self._size = size
        self._generation = 0

    @property
    def root(self) -> Path:
        """What a sandbox sees as `/`."""
        return self._mount / "root"

    @property
    def upper(self) -> Path:
        """What the source and the task put there."""
        return self._mount / "up"

    @property
    def tmp(self) -> Path:
        """What the generation sees as /tmp."""
        return self._mount / f"tmp-{self._generation}"

    @property
    def shm(self) -> Path:
        """What the generation sees as /dev/shm."""
        return self._mount / f"shm-{self._generation}"

    @classmethod
    def make(cls, folder: Path, skeleton: Path, size: DiskSize) -> Disk:
        """Mount an empty disk over `skeleton` under `folder`; raises KeeperError, having left nothing."""
        disk = cls(folder, size)
        point = disk._mount
        point.mkdir(exist_ok=True)
        try:
            bounds = f"size={size.size_bytes},nr_inodes={size.inodes},mode=755"
            mounts.mount("syndicate", point, "tmpfs", _FLAGS, bounds)
            for name in ("up", "work", "root"):
                (point / name).mkdir()
            disk.upper.chmod(0o1777)
            layers = f"lowerdir={skeleton},upperdir={disk.upper},workdir={point / 'work'}"
            mounts.mount("overlay", disk.root, "overlay", _FLAGS, layers)
        except OSError as error:
            disk.close()
            raise failed(f"cannot make a disk: {error}") from error
        return disk

    def resize(self, size: DiskSize) -> None:
        """Give it other bounds; raises KeeperError if it holds more than that."""
        if size == self._size:
            return
        try:
            mounts.resize(self._mount, size.size_bytes, size.inodes, _FLAGS)
        except OSError as error:
            raise failed(f"cannot bound the disk: {error}") from error
        self._size = size

    def begin(self, generation: int) -> None:
        """Fresh /tmp and /dev/shm for a generation; the last one's go first, which makes room for them.

        Raises OSError.
        """
        if self._generation:
            for folder in (self.tmp, self.shm):
                if folder.is_dir():  # a beginning that failed may have left one of them only
                    remove_tree(folder)
        self._generation = generation
        for folder in (self.tmp, self.shm):
            folder.mkdir()
            folder.chmod(0o1777)

    def close(self) -> None:
        """Unmount it, which frees all it held; raises KeeperError. Idempotent."""
        try:
            for point in (self.root, self._mount):
                if os.path.ismount(point):
                    mounts.unmount(point)
            self._mount.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            raise failed(f"cannot remove a disk: {error}") from error
