"""The keeper's side of the delay line: its devices, its process, and what slots' packets suffer there."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from . import _route as route
from ._contract import NetworkError

_TUN = "/dev/net/tun"
_TUNSETIFF, _TUNSETIFINDEX = 0x400454CA, 0x400454DA
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000
_PROCESS = Path(__file__).with_name("_delay_process.py")
_PATIENCE = 5.0  # seconds that it may take to obey
_END = 2.0  # and to end
_LONGEST_ORDER = 1 << 18  # as the process takes it

Entry = tuple[float, float, float, float, float]
"""Delay and jitter in milliseconds; duplicate, corrupt and reorder in percent."""
Profile = dict[bytes, list[Entry]]
"""What packets suffer by the peer's address, empty for all peers that are not named."""


def open_tap(device: route.Device) -> int:
    """Make a device whose frames are read from the descriptor that this returns, in the caller's namespace.

    It goes with the descriptor. Raises NetworkError.
    """
    try:
        descriptor = os.open(_TUN, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise NetworkError.refused(f"open {_TUN}", error.errno or 0) from error
    try:
        fcntl.ioctl(descriptor, _TUNSETIFINDEX, struct.pack("=I", device.index))
        request = struct.pack("=16sH22x", device.name.encode("ascii"), _IFF_TAP | _IFF_NO_PI)
        fcntl.ioctl(descriptor, _TUNSETIFF, request)
    except OSError as error:
        os.close(descriptor)
        raise NetworkError.refused(f"make {device.name}", error.errno or 0) from error
    return descriptor


class DelayLine:
    """Owns the devices' descriptors and the process, which starts when something is to be delayed first.

    Used by several threads at once. Where the process has died it is started again at the next order; what
    was to be delayed until then is lost.
    """

    def __init__(self, devices: Sequence[int]) -> None:
        self._devices = list(devices)
        self._lock = threading.Lock()
        self._orders: dict[tuple[int, str], Profile] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        return self._process.pid if self._process else None

    def set(self, direction: int, mac: str, profile: Profile) -> None:
        """Let one direction (0 sent, 1 heard) of a slot, by its hardware address, suffer this from now on.

        An empty profile delays nothing any more. Raises NetworkError.
        """
        with self._lock:
            if self._is_alive() and self._orders.get((direction, mac), {}) == profile:
                return
            if profile:
                self._orders[direction, mac] = profile
            elif self._orders.pop((direction, mac), None) is None:
                return
            if self._is_alive():
                self._order(direction, mac)
            elif self._orders:
                self._restart()

    def close(self) -> None:
        """End the process and let go of the devices. Idempotent."""
        with self._lock:
            self._end()
            while self._devices:
                os.close(self._devices.pop())

    def _is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _restart(self) -> None:
        self._end()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            descriptors = [theirs.fileno(), *self._devices]
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(_PROCESS), *map(str, descriptors)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=descriptors,
                    cwd="/",
                    env={},
                )
            except OSError as error:
                ours.close()
                raise NetworkError.refused("start the delay line", error.errno or 0) from error
        ours.settimeout(_PATIENCE)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LONGEST_ORDER)
        self._control = ours
        for key in self._orders:
            self._order(*key)

    def _order(self, direction: int, mac: str) -> None:
        profile = self._orders.get((direction, mac))
        told = None if profile is None else {peer.hex(): entries for peer, entries in profile.items()}
        order = json.dumps([direction, mac.replace(":", ""), told]).encode("ascii")
        try:
            if self._control is None:
                raise NetworkError("the delay line does not run", errno.ESRCH)
            self._control.send(order)
            if not self._control.recv(16):
                raise NetworkError("the delay line has ended", errno.EPIPE)
        except OSError as error:
            self._end()
            raise NetworkError.refused("order the delay line", error.errno or errno.ETIMEDOUT) from error

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END)
            return
        process.kill()
        process.wait()
