"""Loop devices: files that the kernel takes for disks (loop(4))."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from pathlib import Path

from .errors import failed
from .patience import Patience

_CONTROL = Path("/dev/loop-control")
_GET_FREE, _CONFIGURE = 0x4C82, 0x4C0A
_AUTOCLEAR = 4
# struct loop_config: file, block size; struct loop_info64, of which only the flags are set; eight free words.
_CONFIG = struct.Struct("@II 40x 3II 64x 64x 32x 16x 64x")
_TRIES = 64  # another may have taken the free one meanwhile
_GONE_SECONDS = 5.0
_LOOK_SECONDS = 0.001
_MOST_SECONDS = 0.25  # that a look which comes late uses up


class Loop:
    """One device, which is the kernel's to free as soon as nothing uses it; `close` gives up our own use."""

    def __init__(self, number: int, descriptor: int) -> None:
        self.path = Path(f"/dev/loop{number}")
        self._number = number
        self._descriptor = descriptor
        self._backing = self._backing_file()

    @classmethod
    def attach(cls, image: Path) -> Loop:
        """A device with the content of a file; raises OSError."""
        control = os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC)
        try:
            file = os.open(image, os.O_RDWR | os.O_CLOEXEC)
            try:
                return cls._configured(control, file)
            finally:
                os.close(file)
        finally:
            os.close(control)

    @classmethod
    def _configured(cls, control: int, file: int) -> Loop:
        config = _CONFIG.pack(file, 0, 0, 0, 0, _AUTOCLEAR)
        for _ in range(_TRIES):
            number = fcntl.ioctl(control, _GET_FREE)
            descriptor = os.open(f"/dev/loop{number}", os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(descriptor, _CONFIGURE, config)
            except OSError as error:
                os.close(descriptor)
                if error.errno != errno.EBUSY:
                    raise
            else:
                return cls(number, descriptor)
        raise OSError(errno.EBUSY, "no loop device is free")

    def close(self) -> None:
        """What is mounted from it keeps it; else it is freed. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def await_freed(self) -> None:
        """Return once the kernel has let the file go; raises KeeperError where something still uses it."""
        # There is no event for it: what was mounted is let go of by the last process that saw it, some
        # moments after its end.
        patience = Patience(_GONE_SECONDS, _MOST_SECONDS)
        while self._backing_file() == self._backing:
            if patience.left() <= 0:
                raise failed(f"{self.path} is still used after {_GONE_SECONDS:.0f} s")
            time.sleep(_LOOK_SECONDS)

    def _backing_file(self) -> str:
        try:
            return Path(f"/sys/block/loop{self._number}/loop/backing_file").read_text()
        except OSError:  # it is nobody's
            return ""
