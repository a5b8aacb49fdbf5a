"""A task's disk: a sized tmpfs with the writable layer of its root in it, and its /tmp and /dev/shm.

<folder>/disk         tmpfs, bounded in bytes and inodes
<folder>/disk/up      the writable layer: the source, and what the task made of it
<folder>/disk/work    overlayfs's own
<folder>/disk/root    the root of the sandbox: `up` over the skeleton
<folder>/disk/tmp-1   /tmp of generation 1, and so on: it counts within the same bounds
<folder>/disk/shm-1   /dev/shm
<folder>/disk/full    the keeper's: it takes a page where nothing else does while the disk is kept full

Where what was not synced is to be lost with the power, `up` and `work` lie in a file system of their own:

<folder>/disk/device  a tmpfs of its own, with what stands for the device
<folder>/disk/volume  where that is mounted, with `up` and `work`; see `volume`

It is mounted in the namespace of the thread that makes it. Freeing what it held takes the kernel some
microseconds a file, which is long for a hundred thousand: so a disk can be taken off its mount point at once
(`detach`), and what remains of it be freed later, by another thread.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import mounts
from .errors import KeeperError, failed
from .trees import remove_tree
from .volume import Volume, image_bytes

_FILL_SECONDS = 2.0
_LEAST_SLACK = 64 << 10
_PAGE = 4096
_FLAGS = mounts.NOSUID | mounts.NODEV
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OWN_INODES = 1  # `full`, made with the disk: there may be none left for it later
_DEVICE_SLACK = 1 << 20
_INODE_BYTES = 4096  # what the kernel keeps for a file, its name and overlayfs's view of it, amply


@dataclass(frozen=True)
class DiskSize:
    """Bounds of a disk, and whether it `loses` what was not synced when the power fails."""

    size_bytes: int
    inodes: int
    loses: bool = False


class Remains:
    """What a disk held after it was taken off its mount point; `free` gives it back."""

    def __init__(self, descriptors: list[int]) -> None:
        self._descriptors = descriptors
        self._lock = threading.Lock()

    def free(self) -> None:
        """Return once all of it is freed, by this thread or by one that began before. Idempotent."""
        with self._lock:
            while self._descriptors:
                os.close(self._descriptors.pop())


class Disk:
    """One mounted disk; the thread that made it owns it until `close` or `detach`."""

    def __init__(self, folder: Path, size: DiskSize) -> None:
        self._mount = folder / "disk"
        self._size = size
        self._generation = 0
        self._volume: Volume | None = None
        # Of the tmpfs and of the root: while they are open, taking the mounts away frees nothing.
        self._held: list[int] = []

    @property
    def root(self) -> Path:
        """What a sandbox sees as `/`."""
        return self._mount / "root"

    @property
    def upper(self) -> Path:
        """What the source and the task put there."""
        return self._layers / "up"

    @property
    def _layers(self) -> Path:
        return self._mount / "volume" if self._size.loses else self._mount

    @property
    def tmp(self) -> Path:
        """What the generation sees as /tmp."""
        return self._mount / f"tmp-{self._generation}"

    @property
    def shm(self) -> Path:
        """What the generation sees as /dev/shm."""
        return self._mount / f"shm-{self._generation}"

    @property
    def _device(self) -> Path:
        return self._mount / "device"

    @property
    def _image(self) -> Path:
        return self._device / "image"

    @property
    def _filler(self) -> Path:
        return self._mount / "full"

    @classmethod
    def make(cls, folder: Path, skeleton: Path, size: DiskSize) -> Disk:
        """Mount an empty disk over `skeleton` under `folder`; raises KeeperError, having left nothing."""
        disk = cls(folder, size)
        try:
            disk._mount_all(skeleton)
        except OSError as error:
            disk.close()
            raise failed(f"cannot make a disk: {error}") from error
        except KeeperError:
            disk.close()
            raise
        return disk

    def _mount_all(self, skeleton: Path) -> None:
        point = self._mount
        point.mkdir(exist_ok=True)
        inodes = self._size.inodes + _OWN_INODES
        bounds = f"size={self._size.size_bytes},nr_inodes={inodes},mode=755"
        mounts.mount("syndicate", point, "tmpfs", _FLAGS, bounds)
        self._held.append(os.open(point, _FOLDER))
        if self._size.loses:
            self._device.mkdir()
            # Of its own: what the task has in /tmp must leave the device all the room that it says it has.
            bounds = f"size={image_bytes(self._size.size_bytes) + _DEVICE_SLACK},nr_inodes=2,mode=700"
            mounts.mount("syndicate", self._device, "tmpfs", _FLAGS, bounds)
            self._volume = Volume.make(self._image, self._layers, self._size.size_bytes, self._size.inodes)
        self.root.mkdir()
        for name in ("up", "work"):
            (self._layers / name).mkdir()
        self._filler.touch(0o600)
        self.upper.chmod(0o1777)
        self._mount_root(skeleton)

    def _mount_root(self, skeleton: Path) -> None:
        with _named(skeleton, self.upper, self._layers / "work") as (lower, upper, work):
            layers = f"lowerdir={lower},upperdir={upper},workdir={work}"
            mounts.mount("overlay", self.root, "overlay", _FLAGS, layers)
        self._held.append(os.open(self.root, _FOLDER))

    def resize(self, size: DiskSize) -> None:
        """Give it other bounds; raises KeeperError if it holds more than that."""
        if size == self._size:
            return
        if size.loses or self._size.loses:
            raise RuntimeError("such a disk is made with its bounds")
        try:
            mounts.resize(self._mount, size.size_bytes, size.inodes + _OWN_INODES, _FLAGS)
        except OSError as error:
            raise failed(f"cannot bound the disk: {error}") from error
        self._size = size

    @property
    def usable(self) -> bool:
        """Not so from a loss of power on, until it has recovered."""
        return self._volume is None or not self._volume.lost

    def fill(self) -> None:
        """Leave no byte and no inode free; raises KeeperError.

        What is on it can be overwritten, and what is deleted makes room for as much. It takes no memory: the
        bounds are set to what is used. Who writes meanwhile may be quicker than that, so then it is given a
        little room first, and the bounds follow once that is used, or left.
        """
        if self._volume is not None:
            try:
                self._volume.fill()
            except OSError as error:
                raise failed(f"cannot fill the disk: {error}") from error
            return
        deadline = time.monotonic() + _FILL_SECONDS
        slack = 0
        while True:
            try:
                used, inodes = self._used()
                if not used:  # to a tmpfs 0 means no bound at all: a page of our own takes its place
                    self._filler.write_bytes(b"0")
                    continue
                mounts.resize(self._mount, used + slack, inodes + slack // _PAGE, _FLAGS)
            except OSError as error:
                # EINVAL: more is used than that by now; ENOSPC: so is the page that was to be ours
                if error.errno not in (errno.EINVAL, errno.ENOSPC) or time.monotonic() > deadline:
                    raise failed(f"cannot fill the disk: {error}") from error
                slack = max(slack * 4, _LEAST_SLACK)
            else:
                if not slack:
                    return
                slack = 0

    def give_back(self) -> None:
        """Let it have its own bounds again, whatever was done to them; raises KeeperError."""
        try:
            if self._volume is not None:
                self._volume.empty()
            else:
                inodes = self._size.inodes + _OWN_INODES
                mounts.resize(self._mount, self._size.size_bytes, inodes, _FLAGS)
        except OSError as error:
            raise failed(f"cannot give the disk its room back: {error}") from error

    def settle(self) -> None:
        """What stands on it now survives a loss of power; raises KeeperError."""
        if self._volume is not None:
            try:
                self._volume.sync()
            except OSError as error:
                raise failed(f"cannot settle the disk: {error}") from error

    def lose_unsynced(self) -> None:
        """The power fails, after all its processes have ended; raises KeeperError. Idempotent."""
        if self._volume is None:
            raise RuntimeError("of a disk in memory nothing is synced")
        try:
            self._volume.lose()
        except OSError as error:
            raise failed(f"cannot let the disk's power fail: {error}") from error

    def recover(self, skeleton: Path) -> None:
        """The power is back, where it failed; raises KeeperError, and can be tried again."""
        if self._volume is None or (self.usable and len(self._held) > 1):
            return
        try:
            while len(self._held) > 1:  # the tmpfs stays
                os.close(self._held.pop())
            if os.path.ismount(self.root):
                mounts.unmount(self.root)
            if self._volume.lost:
                self._volume.mount_again()
            self._volume.empty()  # it may have survived; whoever wants it full fills it anew
            self._mount_root(skeleton)
        except OSError as error:
            raise failed(f"cannot bring the disk back: {error}") from error

    def _used(self) -> tuple[int, int]:
        """Bytes and inodes; raises OSError."""
        found = os.fstatvfs(self._held[0])
        return (found.f_blocks - found.f_bfree) * found.f_frsize, found.f_files - found.f_ffree

    def full(self) -> bool:
        """Whether no byte or no inode is left; not so once it was closed or detached. Raises OSError."""
        if not self._held:
            return False
        if self._volume is not None:
            return self._volume.full()
        found = os.fstatvfs(self._held[0])
        return found.f_bfree == 0 or found.f_ffree == 0

    def memory(self) -> int:
        """Bytes of memory that it takes, amply counted; raises OSError."""
        used, inodes = self._used()
        image = self._image.stat().st_blocks * 512 if self._volume is not None else 0
        return used + image + inodes * _INODE_BYTES

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

    def detach(self) -> Remains:
        """Take it off its mount point, which another may take at once; raises KeeperError.

        All it held stays until the caller frees what is returned.
        """
        try:
            self._unmount()
        except OSError as error:
            raise failed(f"cannot remove a disk: {error}") from error
        held, self._held = self._held, []
        return Remains(held)

    def close(self) -> None:
        """Unmount it and free all it held; raises KeeperError. Idempotent."""
        self.detach().free()

    def _unmount(self) -> None:
        if os.path.ismount(self.root):
            mounts.unmount(self.root)
        if self._volume is not None:
            self._volume.close()
        if os.path.ismount(self._device):
            mounts.unmount(self._device)
        if os.path.ismount(self._mount):
            mounts.unmount(self._mount)
        if self._mount.is_dir():
            self._mount.rmdir()


@contextmanager
def _named(*folders: Path) -> Iterator[list[str]]:
    """Names for folders in this process that say nothing of where they are.

    overlayfs shows its layers in /proc/self/mountinfo, a sandbox's included, by the names it was given.
    """
    descriptors: list[int] = []
    try:
        for folder in folders:
            descriptors.append(os.open(folder, _FOLDER))
        yield [f"/proc/self/fd/{descriptor}" for descriptor in descriptors]
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
