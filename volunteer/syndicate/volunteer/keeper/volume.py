"""A file system in a file, of which a loss of power can be played: what was not synced is gone.

ext4 has a call that xfstests knows as "godown" (FS_IOC_SHUTDOWN): from then on nothing reaches the device,
and whoever uses the file system is told so. What it holds in memory is dropped when it is unmounted, and
mounting the file again replays the journal, as after a loss of power. So a program that calls fsync keeps
what it wrote, and one that does not loses what the kernel had not written by itself, as it does after some
seconds.

The file has the size that was asked for, and beside that what inodes and journal take. What stands in it is
in memory, once in the file and, while it is used, once in the page cache.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import struct
import subprocess
from pathlib import Path

from . import mounts
from .errors import KeeperError, failed, one_line
from .loops import Loop

_FLAGS = mounts.NOSUID | mounts.NODEV
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32)
_NO_FLUSH = struct.pack("@I", 2)  # EXT4_GOING_FLAGS_NOLOGFLUSH: not even the journal
_MIB = 1 << 20
_BLOCK = 4096
_INODE = 256
_JOURNAL_MIB = 4
_INODES_LEAST, _BYTES_FOR_INODE = 1024, 4096
_LEAST_BYTES = 3 * _JOURNAL_MIB * _MIB  # mkfs refuses a journal of half of it
_MAKE_SECONDS = 20.0
_FILLER = "full"
_OWN = ("lost+found", _FILLER)
_PLACES = "/usr/sbin:/sbin:/usr/bin:/bin"

_libc = ctypes.CDLL(None, use_errno=True)


class Volume:
    """One, mounted at `point` in the namespace of the thread that makes it, which owns it until `close`."""

    def __init__(self, image: Path, point: Path) -> None:
        self.point = point
        self._image = image
        self._loop: Loop | None = None
        self._root = -1
        self.lost = False  # whether it went down, and holds only what was synced

    @classmethod
    def make(cls, image: Path, point: Path, size_bytes: int, inodes: int) -> Volume:
        """An empty one; raises OSError or KeeperError, having left nothing but the file."""
        inodes = min(inodes, max(_INODES_LEAST, size_bytes // _BYTES_FOR_INODE))
        with image.open("xb") as file:
            file.truncate(image_bytes(size_bytes))
        make = shutil.which("mkfs.ext4", path=_PLACES)
        if make is None:
            raise failed("mkfs.ext4 is not installed: apt-get install e2fsprogs")
        options = ["-q", "-F", "-b", str(_BLOCK), "-I", str(_INODE), "-N", str(inodes), "-m", "0"]
        options += ["-J", f"size={_JOURNAL_MIB}", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"]
        try:
            made = subprocess.run(
                [make, *options, str(image)],
                check=False,
                timeout=_MAKE_SECONDS,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
        except subprocess.TimeoutExpired:
            raise failed(f"mkfs.ext4 took longer than {_MAKE_SECONDS:.0f} s") from None
        if made.returncode:
            raise failed(f"mkfs.ext4: {one_line(made.stderr.decode(errors='replace'), 200)}")
        volume = cls(image, point)
        volume._mount()
        try:
            os.close(volume._open_filler())
            volume.sync()
        except OSError:
            volume.close()
            raise
        return volume

    def _mount(self) -> None:
        self.point.mkdir(exist_ok=True)
        self._loop = Loop.attach(self._image)
        try:
            mounts.mount(str(self._loop.path), self.point, "ext4", _FLAGS, "data=ordered,noinit_itable")
            self._root = os.open(self.point, _FOLDER)
        except OSError:
            self._unmount()
            raise
        finally:
            self._loop.close()  # from now on it is the mount's

    def sync(self) -> None:
        """All that stands in it now survives; raises OSError."""
        if _libc.syncfs(self._root) != 0:
            code = ctypes.get_errno()
            raise OSError(code, f"sync the disk: {os.strerror(code)}")

    def lose(self) -> None:
        """The power fails. Nobody can use it until `mount_again`. Idempotent; raises OSError."""
        if not self.lost:
            if self._root < 0:
                raise OSError(errno.EBADF, "it is not mounted any more")
            fcntl.ioctl(self._root, _SHUTDOWN, _NO_FLUSH)
            self.lost = True

    def mount_again(self) -> None:
        """The power is back; nothing of before may still use it. Raises OSError, KeeperError."""
        self._unmount()
        if self._loop is not None:
            # Mounted while the kernel still has the old one it would be the old one.
            self._loop.await_freed()
        self._mount()
        self.lost = False

    def fill(self) -> None:
        """Leaves no block free: a file of ours has them all. Raises OSError."""
        free = os.fstatvfs(self._root).f_bfree * _BLOCK
        file = self._open_filler()
        try:
            size = os.fstat(file).st_size
            while free >= _BLOCK:
                try:
                    os.posix_fallocate(file, size, free)
                    size += free
                except OSError:  # the file's own map takes blocks, too
                    free = free // 2 // _BLOCK * _BLOCK
        finally:
            os.close(file)

    def empty(self) -> None:
        """Takes back what `fill` did; raises OSError."""
        file = self._open_filler()
        try:
            os.ftruncate(file, 0)
        finally:
            os.close(file)

    def _open_filler(self) -> int:
        """It stays: there may be no inode for it later."""
        options = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(_FILLER, options, 0o600, dir_fd=self._root)

    def full(self) -> bool:
        """Whether no block or no inode is left; raises OSError."""
        found = os.fstatvfs(self._root)
        return found.f_bavail == 0 or found.f_ffree == 0

    def close(self) -> None:
        """Take it off its mount point; what still uses it keeps it until it ends. Raises OSError."""
        self._unmount()

    def _unmount(self) -> None:
        if self._root >= 0:
            os.close(self._root)
            self._root = -1
        if os.path.ismount(self.point):
            mounts.unmount(self.point)


def image_bytes(size_bytes: int) -> int:
    """How large a file must be so that about `size_bytes` can be written."""
    inodes = max(_INODES_LEAST, size_bytes // _BYTES_FOR_INODE) * _INODE
    return max(size_bytes + inodes + size_bytes // 64 + (_JOURNAL_MIB + 1) * _MIB, _LEAST_BYTES)


def try_volume(folder: Path) -> None:
    """Plays it once in a folder; raises OSError or KeeperError where it does not do as it should."""
    volume = Volume.make(folder / "image", folder / "point", _MIB, 100)
    try:
        (volume.point / "kept").write_bytes(b"kept")
        volume.sync()
        (volume.point / "lost").write_bytes(b"lost")
        volume.lose()
        volume.mount_again()
        found = sorted(entry.name for entry in volume.point.iterdir() if entry.name not in _OWN)
        if found != ["kept"]:
            raise KeeperError(failed("").code, f"after a loss of power there is {found}, not what was synced")
    finally:
        volume.close()
