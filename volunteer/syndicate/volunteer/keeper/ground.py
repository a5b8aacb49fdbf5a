"""All that stands on one slot, and the blocking work on it. Used in the slot's worker thread only.

A free slot keeps the next task's network, disk and sandbox ready: their making takes most of the time of a
start, and depends on nothing of the task but its bounds.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..local import ErrorCode, Limits, Prepare
from .box import Box, Cancelled, Site
from .disk import Disk, DiskSize
from .errors import KeeperError, failed, one_line
from .launch import Launcher
from .limits import Limiter
from .network import Network, NetworkError, SlotNetwork
from .orders import orders_of
from .sandbox import Layout, Unpacker, unpacker_of
from .unpack import Layouts, better_layout, unpack
from .view import View

_UNPACK_SECONDS = 30.0
_LEAST_DISK = DiskSize(1 << 20, 100)


@dataclass(frozen=True)
class Shared:
    """What the slots of a keeper share."""

    launcher: Launcher
    network: Network
    skeleton: Path
    cache: Path
    layouts: Layouts
    limiter: Limiter


@dataclass(frozen=True)
class Prepared:
    """A task whose source is unpacked; `note` is a line for its log, or empty."""

    box: Box
    note: str


class Ground:
    """One slot's network, disk and sandbox."""

    def __init__(self, slot: int, folder: Path, site: Site, view: View, shared: Shared) -> None:
        self._slot = slot
        self._folder = folder
        self._site = site
        self._view = view
        self._shared = shared
        self._network: SlotNetwork | None = None
        self._disk: Disk | None = None
        self._box: Box | None = None  # of generation 1, not yet handed out
        self._source = -1
        self._layout = Layout()
        self._request: Prepare | None = None
        self._bounds = (0, 0)
        self._spent = False  # the sandbox got a task's orders: it never serves another

    @property
    def standing(self) -> bool:
        """Whether a sandbox waits for the next task."""
        return self._box is not None and not self._spent

    # ---- ahead of a task

    def stand_by(self) -> None:
        """Make what the next task needs, unless it stands; raises KeeperError, having left nothing half."""
        try:
            if self._box is not None and (self._spent or self._box.process.reap() is not None):
                self._drop_sandbox()
            if self._network is None:
                self._network = self._shared.network.make_slot(f"slot-{self._slot}")
            if self._box is None:
                self._make_sandbox(_size(Limits()))
        except (NetworkError, OSError) as error:
            raise failed(f"cannot stand by: {error}") from error

    def _make_sandbox(self, size: DiskSize) -> None:
        self._drop_disk()  # else a new one would be mounted over what a failure left
        self._folder.mkdir(exist_ok=True)
        self._disk = Disk.make(self._folder, self._shared.skeleton, size)
        try:
            self._box = self._launch(1)
        except BaseException:
            self._drop_disk()
            raise
        self._spent = False

    def _launch(self, generation: int) -> Box:
        if self._disk is None or self._network is None:
            raise RuntimeError("a sandbox needs a disk and a network")
        for_task = self._request is not None
        netns = self._network.netns_fd
        return Box.launch(self._site, self._shared.launcher, generation, self._disk, netns, for_task)

    def _drop_sandbox(self) -> None:
        if self._box is not None:
            self._box.destroy()
            self._box = None
        self._drop_disk()

    def _drop_disk(self) -> None:
        if self._disk is not None:
            self._disk.close()
            self._disk = None

    # ---- a task

    def prepare(self, request: Prepare) -> Prepared:
        """Lay the task onto the slot; raises KeeperError or Cancelled, having left nothing of it."""
        try:
            return self._prepare(request)
        except NetworkError as error:
            self.clear()
            raise failed(str(error)) from error
        except OSError as error:
            self.clear()
            raise failed(f"cannot prepare: {error}") from error
        except (KeeperError, Cancelled):
            self.clear()
            raise

    def _prepare(self, request: Prepare) -> Prepared:
        deadline = time.monotonic() + _UNPACK_SECONDS
        if (
            request.limits.disk_bytes < _LEAST_DISK.size_bytes
            or request.limits.disk_inodes < _LEAST_DISK.inodes
        ):
            # To a tmpfs 0 means no bound at all.
            least = f"{_LEAST_DISK.size_bytes} bytes and {_LEAST_DISK.inodes} inodes"
            raise failed(f"a disk has at least {least}")
        self._request = request
        self._source = self._open_source(request.source)
        self.stand_by()
        self._view.fill(request.task.task, request.role, request.members)
        limits = request.limits
        self._bound(limits.memory_bytes, limits.pids)
        self._layout = self._shared.layouts.of(request.source)
        assigned = False

        def assign() -> None:
            # While tar works: the source needs no network.
            nonlocal assigned
            if not assigned and self._network is not None:
                assigned = True
                peers = [member.address for member in request.members]
                self._network.assign(request.address, request.prefix_length, peers, self._site.uid)

        note = self._lay_out(_size(limits), deadline, assign)
        if self._box is None:
            raise RuntimeError("the sandbox is there after unpacking")
        box, self._box, self._spent = self._box, None, False
        self._shared.layouts.remember(request.source, self._layout)
        return Prepared(box, note)

    def _open_source(self, digest: str) -> int:
        """The tarball, held open: the cache may forget it while the task may yet be revived."""
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            try:  # decompressed ahead by the volunteer, where it could: a program less in each sandbox
                source = os.open(self._shared.cache / f"{digest}.tar", flags)
            except FileNotFoundError:
                source = os.open(self._shared.cache / digest, flags)
        except OSError as error:
            raise failed(f"the source {digest[:12]}… is not in the cache: {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(source).st_mode):
            os.close(source)
            raise failed(f"the source {digest[:12]}… is not a file")
        return source

    def _lay_out(self, size: DiskSize, deadline: float, meanwhile: Callable[[], None]) -> str:
        """Unpack, again if the source asks for another layout; the note about it."""
        note = ""
        while True:
            if self._box is None:
                self._make_sandbox(size)
            if self._box is None or self._disk is None:
                raise RuntimeError("a sandbox was made")
            self._disk.resize(size)
            unpacker = unpacker_of(os.pread(self._source, 4, 0))
            self._spent = True
            self._order(self._box, unpacker, deadline)
            try:
                outcome = unpack(self._box, self._source, deadline, meanwhile)
            except TimeoutError:
                took = f"the source was not unpacked within {_UNPACK_SECONDS:.0f} s"
                raise KeeperError(ErrorCode.BAD_SOURCE, took) from None
            better = better_layout(self._layout, outcome, self._disk)
            if better is None and outcome.error:
                raise KeeperError(ErrorCode.BAD_SOURCE, one_line(outcome.error, 300))
            if better is None:
                return note or self._standing_note()
            note = f"syndicate: the source is laid at /job: {outcome.error}\n" if outcome.error else ""
            self._layout = better
            self._drop_sandbox()

    def _standing_note(self) -> str:
        if self._layout.place == "/":
            return ""
        return "syndicate: the source brings names that the sandbox needs at /: it is laid at /job\n"

    def _order(self, box: Box, unpacker: Unpacker, deadline: float) -> None:
        if self._request is None:
            raise RuntimeError("orders are about a task")
        box.name_host(self._request.task.task)
        os.lseek(self._source, 0, os.SEEK_SET)
        box.order(orders_of(self._request, unpacker, self._layout), deadline)

    def revive(self, generation: int, with_disk: bool) -> Box:
        """A sandbox for a further generation, ready to become make; raises KeeperError, Cancelled."""
        deadline = time.monotonic() + _UNPACK_SECONDS
        if self._request is None:
            raise RuntimeError("only a task is revived")
        try:
            if not with_disk or self._disk is None:
                self._drop_disk()
                self._disk = Disk.make(self._folder, self._shared.skeleton, _size(self._request.limits))
            box = self._launch(generation)
        except OSError as error:
            raise failed(f"cannot revive: {error}") from error
        try:
            self._order(box, self._unpacker(with_disk), deadline)
            if not with_disk:
                outcome = unpack(box, self._source, deadline)
                if outcome.error:
                    raise KeeperError(ErrorCode.BAD_SOURCE, one_line(outcome.error, 300))
        except TimeoutError as error:
            box.destroy()
            raise failed(f"cannot revive: {error}") from error
        except OSError as error:
            box.destroy()
            raise failed(f"cannot revive: {error}") from error
        except (KeeperError, Cancelled):
            box.destroy()
            raise
        return box

    def _unpacker(self, with_disk: bool) -> Unpacker:
        return Unpacker.KEPT if with_disk else unpacker_of(os.pread(self._source, 4, 0))

    def set_cut(self, cut: tuple[str, ...]) -> None:
        """Cut the slot from exactly these; raises KeeperError."""
        if self._network is None:
            raise RuntimeError("a task has a network")
        try:
            self._network.set_cut(cut)
        except NetworkError as error:
            raise failed(str(error)) from error

    def clear(self) -> None:
        """Leave nothing of the task; raises KeeperError after trying everything."""
        errors: list[str] = []
        steps = (
            *(self._drop_sandbox, self._close_source, self._close_network),
            *(self._view.empty, self._unbind, self._drop_folder),
        )
        for step in steps:
            try:
                step()
            except (KeeperError, NetworkError, OSError) as error:
                errors.append(str(error))
        self._request = None
        if errors:
            raise failed("; ".join(errors))

    def _close_source(self) -> None:
        if self._source >= 0:
            os.close(self._source)
            self._source = -1

    def _close_network(self) -> None:
        if self._network is not None:
            self._network.close()
            self._network = None

    def _bound(self, memory_bytes: int, pids: int) -> None:
        if (memory_bytes, pids) != self._bounds:
            self._shared.limiter.apply(self._slot, memory_bytes, pids)
            self._bounds = (memory_bytes, pids)

    def _unbind(self) -> None:
        self._bound(0, 0)

    def _drop_folder(self) -> None:
        if self._folder.is_dir():
            self._folder.rmdir()


def _size(limits: Limits) -> DiskSize:
    return DiskSize(limits.disk_bytes, limits.disk_inodes)
