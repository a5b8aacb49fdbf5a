"""The keeper's side of the delay line: its devices, its process, and what slots' packets suffer there."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import queue
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from . import _route as route
from ._contract import NetworkError

_TUN = "/dev/net/tun"
_TUNSETIFF, _TUNSETIFINDEX = 0x400454CA, 0x400454DA
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000
_PROCESS = Path(__file__).with_name("_delay_process.py")
# Seconds that it may take to obey, and first to start; together less than a volunteer waits.
_PATIENCE, _START = 5.0, 6.0
_END = 2.0  # and to end by itself
_LONGEST_ORDER = 1 << 18  # as the process takes it
_READ = b"null"  # the order to read what the devices have
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0  # seconds before it is started again, from the second time on
_STEADY = 10.0  # seconds after which an end is none of a row

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

    Used by several threads at once. A process that ends is started again at once, with all that is in force,
    by a thread that waits for that; where it ends again and again, after pauses of up to five seconds.
    Packets that it held are lost; those that come meanwhile wait in the devices, as far as they have room.

    Args:
        devices: descriptors of what slots send and of what they hear; none where nothing can be delayed.
        trouble: called with a line about each end that nobody asked for, from any thread.
    """

    def __init__(self, devices: Sequence[int], trouble: Callable[[str], None]) -> None:
        self._devices = list(devices)
        self._trouble = trouble
        self._lock = threading.Lock()
        self._orders: dict[tuple[int, str], Profile] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._started = 0.0
        self._ends = 0  # of processes that did not last, in a row
        self._closed = threading.Event()
        self._watched: queue.SimpleQueue[int | None] = queue.SimpleQueue()  # pidfds, each until its end
        self._watcher: threading.Thread | None = None
        if devices:  # here, not at the first order: threads of slots have mounts, which this one would hold
            self._watcher = threading.Thread(target=self._watch, name="syn-delays", daemon=True)
            self._watcher.start()

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
                try:
                    self._order(direction, mac)
                except NetworkError:  # it has ended, now at the latest
                    self._restart()
            elif self._orders:
                self._restart()

    def close(self) -> None:
        """End the process and let go of the devices. Idempotent."""
        self._closed.set()
        with self._lock:
            self._end()
        if self._watcher is not None:
            self._watched.put(None)
            self._watcher.join()
            self._watcher = None
        with self._lock:
            while self._devices:
                os.close(self._devices.pop())

    def _is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _watch(self) -> None:
        """Start each process that ends again, until the line is closed."""
        while (watched := self._watched.get()) is not None:
            ended = select.poll()
            ended.register(watched, select.POLLIN)
            ended.poll()
            os.close(watched)
            pause = self._pause()
            while not self._closed.wait(pause):
                try:
                    with self._lock:
                        if not self._closed.is_set() and self._orders and not self._is_alive():
                            self._restart()
                    break
                except NetworkError as error:
                    self._trouble(f"the delay line cannot be started again: {error}")
                    pause = min(max(pause * 2, _FIRST_PAUSE), _LONGEST_PAUSE)

    def _pause(self) -> float:
        with self._lock:
            self._ends = 0 if time.monotonic() - self._started > _STEADY else self._ends + 1
            return min(_FIRST_PAUSE * 2.0 ** (self._ends - 2), _LONGEST_PAUSE) if self._ends > 1 else 0.0

    def _restart(self) -> None:
        if self._closed.is_set():
            raise NetworkError("the delay line is closed", errno.ENOTCONN)
        if self._process is not None:
            self._trouble(f"the delay line ended with status {self._process.poll()} and is started again")
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
                watched = os.pidfd_open(self._process.pid)
            except OSError as error:
                ours.close()
                self._end()
                raise NetworkError.refused("start the delay line", error.errno or 0) from error
        ours.settimeout(_START)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LONGEST_ORDER)
        self._control = ours
        self._started = time.monotonic()
        try:
            for key in self._orders:
                self._order(*key)
            self._say(_READ)
        except NetworkError:
            os.close(watched)
            raise
        ours.settimeout(_PATIENCE)
        self._watched.put(watched)

    def _order(self, direction: int, mac: str) -> None:
        profile = self._orders.get((direction, mac))
        told = None if profile is None else {peer.hex(): entries for peer, entries in profile.items()}
        self._say(json.dumps([direction, mac.replace(":", ""), told]).encode("ascii"))

    def _say(self, order: bytes) -> None:
        try:
            if self._control is None:
                raise NetworkError("the delay line does not run", errno.ESRCH)
            self._control.send(order)
            if not self._control.recv(16):
                raise NetworkError("the delay line has ended", errno.EPIPE)
        except OSError as error:
            self._trouble(f"the delay line does not obey and is ended: {error}")
            self._end(0.0)
            raise NetworkError.refused("order the delay line", error.errno or errno.ETIMEDOUT) from error

    def _end(self, within: float = _END) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(within)
            return
        process.kill()
        process.wait()
