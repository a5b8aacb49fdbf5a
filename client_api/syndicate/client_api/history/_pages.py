"""A file that lines are appended to by copying them into its mapped pages.

The pages belong to the kernel: what was copied is in the file when the process is killed in the next
instruction, and no system call is made for it (not so when the machine stops: nothing is synced to the disk).
Room is taken from the file system a window at a time, before it is mapped, so that a full disk is an error of
the call and not a SIGBUS. Until `close` cuts it off, what is not yet used of a window stands as NUL bytes at
the end of the file.

Appending takes no lock. `mmap.write` copies and moves its position in one step under the interpreter's lock,
so threads cannot write into each other's lines; with a lock of our own a thread that loses the processor
while it holds it made all others wait in turn, and 64 threads were seven times slower than one.
"""

from __future__ import annotations

import errno
import mmap
import os
import sys
import threading

from syndicate.client_api.history._error import HistoryError

WINDOW = 256 * 1024
_GRAIN = mmap.ALLOCATIONGRANULARITY
_NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
_POPULATE = getattr(mmap, "MAP_POPULATE", 0)  # Linux: all page faults of a window at once


class Pages:
    """An append-only file. Lines are of at least one byte and hold no NUL."""

    def __init__(self, path: str, first: bytes, *, replace: bool) -> None:
        """Makes the file, with `first` as its beginning.

        Raises FileExistsError where there is one and it is not to be replaced, HistoryError where there is no
        room, OSError for the rest.
        """
        if not getattr(sys, "_is_gil_enabled", _always)():
            raise HistoryError("histories are recorded only where Python has its global interpreter lock")
        self._path = path
        self._refusal = ""
        self._moving = threading.Lock()
        exist = os.O_TRUNC if replace else os.O_EXCL
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | exist | os.O_CLOEXEC, 0o644)
        try:
            self._base, self._map = 0, self._window(0, len(first))
        except BaseException:
            os.close(self._fd)
            if not replace:  # what was there before is not ours to remove, it may be a device
                os.unlink(path)
            raise
        self._map.write(first)

    @property
    def closed(self) -> bool:
        """Whether nothing can be appended any more."""
        return bool(self._refusal)

    def append(self, line: bytes) -> None:
        """Adds a line at the end, all of it or nothing; from any thread.

        Raises HistoryError where there is no room for it, or the file was closed or left to another process.
        """
        while True:
            try:
                self._map.write(line)
                return
            except ValueError:  # past the window's end, or the window is closed
                self._move(len(line))

    def close(self, refusal: str) -> None:
        """Gives back the room that was not used; later calls of `append` are refused with this text."""
        with self._moving:
            if self._refusal:
                return
            self._refusal = refusal
            end = self._freeze()
            self._map.close()
            try:
                os.ftruncate(self._fd, end)
            finally:
                os.close(self._fd)

    def abandon(self, refusal: str) -> None:
        """In a fork's child: lets go of the parent's file, and of a lock that may never open."""
        self._moving = threading.Lock()
        if not self._refusal:
            self._refusal = refusal
            self._map.close()
            os.close(self._fd)

    def _move(self, room: int) -> None:
        """Maps the next window, unless another thread has. Raises HistoryError."""
        with self._moving:
            if self._refusal:
                raise HistoryError(self._refusal)
            if len(self._map) - self._map.tell() >= room:
                return
            # First the room, then the end of the old window: where there is none, shorter lines still fit.
            base = (self._base + self._used()) // _GRAIN * _GRAIN
            window = self._window(base, len(self._map) - (base - self._base) + room)
            end = self._freeze()
            window.seek(end - base)
            old, self._base, self._map = self._map, base, window
            old.close()

    def _freeze(self) -> int:
        """Lets nobody write into the window any more; where in the file its lines end."""
        while rest := len(self._map) - self._map.tell():
            try:
                self._map.write(bytes(rest))
            except ValueError:  # a line came in between
                continue
        return self._base + self._used()

    def _used(self) -> int:
        """Bytes of the window that hold lines; its position says the same only until it is frozen."""
        return len(self._map[:].rstrip(b"\0"))

    def _window(self, base: int, least: int) -> mmap.mmap:
        """A window of at least so many bytes, and smaller than usual where the room runs out."""
        least = -(-least // _GRAIN) * _GRAIN
        length = max(WINDOW, least)
        while True:
            try:
                os.posix_fallocate(self._fd, base, length)
                return mmap.mmap(self._fd, length, flags=mmap.MAP_SHARED | _POPULATE, offset=base)
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise HistoryError(f"{self._path}: {error.strerror}") from error
                if length == least:
                    raise HistoryError(
                        f"{self._path}: no room for more than {base + length} bytes: {error.strerror}"
                    ) from error
                length = max(length // 2 // _GRAIN * _GRAIN, least)


def _always() -> bool:
    return True
