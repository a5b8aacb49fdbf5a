"""The processes of sync servers: one stands by, so that no barrier waits for a start.

A start takes a tenth of a second. Each process has a cgroup of its own beside those of the slots, with bounds
of memory and processes, and shuts itself in: see `sync.shut_in`. It gets a slot's sockets and becomes the
slot's uid when it is handed over, and never serves another.

Where the task of its slot has a bound of processors it has the same from then on: what floods it then has no
more of the machine than it was given. It has one thread, so that without such a bound it takes one processor
at most, as any process of the task may.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..local import ErrorCode
from ..sync.descriptors import RESERVED
from ..sync.doors import Doors
from . import mounts
from .cgroups import Cgroup, CgroupError
from .counters import Counts, Meter, Shortage
from .errors import KeeperError, failed
from .launch import Launcher
from .limits import Bounds, Limiter
from .process import Process
from .worker import Worker

BOUNDS: Final = Bounds(memory_bytes=256 << 20, pids=4)
# So many over TCP, with what the kernel has of their connections, and beside them as many as there may be
# over UDP, fit in its memory: where more come, they are turned away, and those who wait lose nothing.
MOST_WAITERS: Final = 20_000
FOLD_MS: Final = 250
# In a tenth of a second so much is 25 ms: a thousand waiters are released without a pause in between.
LEAST_CPU_MILLIS: Final = 250
_REAP_SECONDS: Final = 5.0
_LINK: Final = 3
_MOST_NAMES: Final = 1500  # members in one line of a hand-over; those beyond are known by their addresses


@dataclass(frozen=True)
class Ended:
    """How a server ended; `shortage` is of the memory for want of which the kernel ended it."""

    status: int
    shortage: Shortage = Shortage.NONE

    def __str__(self) -> str:
        if self.shortage is Shortage.OWN:
            return f"ran out of memory, of which it may have {BOUNDS.memory_bytes >> 20} MiB"
        if self.shortage is Shortage.HOST:
            return "was ended by the kernel, since the machine ran out of memory"
        return f"ended by itself (status {self.status})"


@dataclass(frozen=True, eq=False)
class SyncProcess:
    """One server. `link` is the owner's end of its socket."""

    name: str
    cgroup: Cgroup
    process: Process
    link: socket.socket

    def hand_over(self, doors: Doors, members: Mapping[str, str], uid: int) -> None:
        """Have it serve at these doors, as this user; raises OSError where it is gone."""
        names = dict(list(members.items())[:_MOST_NAMES])
        order = {"ask": "serve", "members": names, "uid": uid, "fold_ms": FOLD_MS}
        line = json.dumps(order, separators=(",", ":")).encode() + b"\n"
        socket.send_fds(self.link, [line], [doors.tcp.fileno(), doors.udp.fileno()])


class SyncProcesses:
    """All of a keeper's. Used on the loop; blocking work is done in one thread of their own."""

    def __init__(self, base: Cgroup, launcher: Launcher, limiter: Limiter, root: Path) -> None:
        self._base = base
        self._launcher = launcher
        self._limiter = limiter
        self._root = root  # an empty folder
        self._worker = Worker("syn-sync")
        self._standing: SyncProcess | None = None
        self._all: dict[str, SyncProcess] = {}
        self._starting = ""  # the name of one that has a cgroup, or will, and is not among them yet
        self._closed = False

    async def stand_by(self) -> None:
        """Start the one that stands by, unless it does. Raises KeeperError."""
        await self._worker.run(self._stand_by)

    async def take(self, cpu_millis: int = 0) -> SyncProcess:
        """A process that waits for its doors; the caller ends it. Raises KeeperError.

        `cpu_millis` is the bound of processors of the task that it serves beside, 0 for none.
        """
        return await self._worker.run(lambda: self._take(cpu_millis))

    async def end(self, taken: SyncProcess) -> Ended:
        """End one that was taken, and leave nothing of it; how it ended. Raises KeeperError."""
        return await self._worker.run(lambda: self._end(taken))

    def names(self) -> set[str]:
        """The cgroups that these explain: of all that are there, being started or being ended now."""
        starting = self._starting  # before the others: it is among them before it is no longer this
        return {starting, *self._all} - {""}

    def things(self) -> list[str]:
        """Those that serve a task, one line for each thing, as an audit tells them."""
        serving = [one for one in list(self._all.values()) if one is not self._standing]
        return [
            line
            for one in serving
            for line in (f"process {one.process.pid} syncd", f"cgroup {one.cgroup.path}")
        ]

    def close(self) -> None:
        """End all of them. Raises KeeperError after trying each."""
        self._closed = True
        self._worker.close()
        errors = []
        for one in list(self._all.values()):
            try:
                self._end(one)
            except KeeperError as error:
                errors.append(str(error))
        if errors:
            raise failed("; ".join(errors))

    # ---- in the thread

    def _take(self, cpu_millis: int) -> SyncProcess:
        self._stand_by()
        taken, self._standing = self._standing, None
        if taken is None:
            raise KeeperError(ErrorCode.SHUTTING_DOWN, "the keeper is ending")
        if cpu_millis:
            self._pace(taken, max(cpu_millis, LEAST_CPU_MILLIS))
        return taken

    def _pace(self, taken: SyncProcess, cpu_millis: int) -> None:
        try:
            self._limiter.pace_apart(taken.name, cpu_millis, [taken.process.pid])
        except OSError as error:
            self._end(taken)
            raise failed(f"cannot bound a sync server: {error}") from error

    def _stand_by(self) -> None:
        if self._standing is not None and self._standing.process.reap() is not None:
            dead, self._standing = self._standing, None
            self._end(dead)
        if self._standing is None and not self._closed:
            # In this order: who asks for all meanwhile would take it for one that serves.
            names = (f"sync-{number}" for number in range(len(self._all) + 1))
            self._starting = next(name for name in names if name not in self._all)
            try:
                self._standing = started = self._start(self._starting)
                self._all[started.name] = started
            finally:
                self._starting = ""

    def _start(self, name: str) -> SyncProcess:
        try:
            with ExitStack() as undo:
                cgroup = self._base.child(name)
                undo.callback(cgroup.remove)
                undo.callback(self._limiter.forget_apart, name)
                join = self._limiter.bound_apart(name, BOUNDS)
                ours, theirs = socket.socketpair()
                undo.callback(ours.close)
                with theirs:
                    process = self._launch(cgroup, theirs, join)
                undo.pop_all()
        except (OSError, CgroupError) as error:
            raise failed(f"cannot start a sync server: {error}") from error
        ours.setblocking(False)
        return SyncProcess(name, cgroup, process, ours)

    def _launch(self, cgroup: Cgroup, theirs: socket.socket, join: list[str]) -> Process:
        # -I: nothing of the keeper's folder or environment is imported.
        options = ["--standby", "--owner", str(_LINK), "--shut-in", str(self._root)]
        options += ["--open-files", str(MOST_WAITERS + RESERVED)]
        argv = [sys.executable, "-I", "-m", "syndicate.volunteer.sync", *options]
        with ExitStack() as given:
            nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            given.callback(os.close, nothing)
            inside = cgroup.open()
            given.callback(os.close, inside)
            mntns = mounts.hold_namespace()
            given.callback(os.close, mntns)
            descriptors = [nothing, nothing, nothing, theirs.fileno()]
            return Process(self._launcher.start(argv, inside, mntns, None, descriptors, join))

    def _end(self, one: SyncProcess) -> Ended:
        try:
            one.link.close()
            one.cgroup.kill()
            ended = one.process.wait(_REAP_SECONDS)
            if ended is None:
                raise failed(f"the sync server {one.process.pid} does not end")
            one.process.close()
            shortage = Meter.apart(self._limiter, one.name).read().shortage_since(Counts())
            one.cgroup.remove()
            self._limiter.forget_apart(one.name)
        except (OSError, CgroupError) as error:
            raise failed(f"cannot end a sync server: {error}") from error
        self._all.pop(one.name, None)
        return Ended(ended.status, shortage)
