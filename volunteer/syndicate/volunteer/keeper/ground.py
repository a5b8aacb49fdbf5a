"""A task on one slot: its source laid out, generation after generation, and taken away again.

All of it is blocking work. Used in the slot's worker thread only, but for `occupied`, `network` and `bury`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from ..local import DiskRead, ErrorCode, Limits, Prepare
from ..sync.doors import Doors
from .audit import Standing
from .box import Box, Cancelled, Site
from .cgroups import CgroupError
from .counters import Meter
from .disk import DiskSize, Remains
from .errors import KeeperError, failed
from .gauges import Gauges
from .launch import Launcher
from .limits import UNBOUNDED, Bounds, Limiter
from .network import Network, NetworkError, SlotNetwork
from .orders import orders_of
from .pack import DiskReading, PackBounds, Packing
from .sandbox import Layout, Unpacker, unpacker_of
from .standby import Standby
from .sync_server import open_doors
from .undertaker import Undertaker
from .unpack import Layouts, Unpacked, better_layout, note_of, open_source, refused, unpack
from .view import View

_UNPACK_SECONDS = 30.0
_LEAST_DISK = DiskSize(1 << 20, 100)
_SPARE_MEMORY = 64 << 20  # what a task's bound on memory leaves to other things than its disk


@dataclass(frozen=True)
class Shared:
    """What the slots of a keeper share."""

    launcher: Launcher
    network: Network
    skeleton: Path
    cache: Path
    layouts: Layouts
    limiter: Limiter
    undertaker: Undertaker
    packs: PackBounds


@dataclass(frozen=True)
class Prepared:
    """A task whose source is unpacked; `note` is a line for its log, or empty."""

    box: Box
    note: str
    doors: Doors | None = None  # of the sync server that the slot serves; the caller closes them


class Ground:
    """What stands by on one slot, and the task that is laid onto it."""

    def __init__(self, slot: int, folder: Path, site: Site, view: View, shared: Shared) -> None:
        self._slot = slot
        self._site = site
        self._view = view
        self._shared = shared
        self._standby = Standby(slot, folder, site, view, shared.launcher, shared.network, shared.skeleton)
        self._reading = DiskReading(self._begin_packing)
        self._source = -1
        self._layout = Layout()
        self._request: Prepare | None = None
        self._bounds = UNBOUNDED
        self._meter = Meter.of(shared.limiter, slot)
        self._laid = 0  # bytes of memory that the source takes once it is unpacked
        self._fill = False  # whether the task's disk is kept full
        self._doors: Doors | None = None  # of a sync server, until they are handed out
        self._remains: Remains | None = None  # of the disk before this one, while that is being freed

    @property
    def occupied(self) -> bool:
        """Whether a task is on it, or being laid onto it; from any thread. Not so after `clear`."""
        return self._request is not None

    @property
    def standing(self) -> Standing | None:
        """The sandbox that waits for the next task, with its disk."""
        return self._standby.standing

    @property
    def thread(self) -> int:
        """Whose mounts the slot has: its own thread's, once it stood by; the keeper's before."""
        return self._standby.thread

    def stand_by(self) -> None:
        """Make what the next task needs, unless it stands; raises KeeperError, having left nothing half."""
        self._standby.make(_size(Limits()), self.occupied)

    def prepare(self, request: Prepare, gauges: Gauges) -> Prepared:
        """Lay the task onto the slot; raises KeeperError or Cancelled, having left nothing of it."""
        try:
            with gauges.blaming(request.limits.memory_bytes):  # while its bound is in force
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
        self._source = open_source(self._shared.cache, request.source)
        self.stand_by()
        self._view.fill(request.task.task, request.role, request.members, request.sync_server)
        limits = request.limits
        self._bound(Bounds(limits.memory_bytes, limits.pids, limits.cpu_millis))
        self._layout = self._shared.layouts.of(request.source)
        assigned = False

        def assign() -> None:
            # While tar works, which has none of it: the slot is held.
            nonlocal assigned
            if not assigned:
                assigned = True
                peers = [member.address for member in request.members]
                self.network.assign(request.address, request.prefix_length, peers, self._site.uid)
                if request.serve_sync:
                    netns_fd, uid = self.network.netns_fd, self._site.uid
                    self._doors = open_doors(request.address, request.sync_server, netns_fd, uid)

        standby = self._standby
        standby.hold()  # while its source, which nobody trusts, is unpacked
        size = _size_for(request)
        if size.loses:
            standby.drop_sandbox()  # the one that waits has another kind of disk
        note = self._lay_out(size, deadline, assign)
        standby.resume()
        if standby.disk is None:
            raise RuntimeError("the disk is there after unpacking")
        standby.disk.settle()
        box = standby.hand_out()
        self._laid = standby.disk.memory()
        self._shared.layouts.remember(request.source, self._layout)
        doors, self._doors = self._doors, None
        return Prepared(box, note, doors)

    def _lay_out(self, size: DiskSize, deadline: float, meanwhile: Callable[[], None]) -> str:
        """Unpack, again if the source asks for another layout; the note about it."""
        note, standby = "", self._standby
        while True:
            if standby.box is None:
                standby.make_sandbox(size, self.occupied)
            box, disk = standby.box, standby.disk
            if box is None or disk is None:
                raise RuntimeError("a sandbox was made")
            disk.resize(size)
            unpacker = unpacker_of(os.pread(self._source, 4, 0))
            standby.spend()
            self._order(box, unpacker, deadline)
            try:
                outcome = self._unpack(box, deadline, meanwhile)
            except TimeoutError:
                took = f"the source was not unpacked within {_UNPACK_SECONDS:.0f} s"
                raise KeeperError(ErrorCode.BAD_SOURCE, took) from None
            better = None if outcome.full else better_layout(self._layout, outcome, disk)
            if better is None and outcome.error:
                raise refused(outcome, size)
            if better is None:
                return note or note_of(self._layout)
            note = f"syndicate: the source is laid at /job: {outcome.error}\n" if outcome.error else ""
            self._layout = better
            standby.drop_sandbox()

    def _order(self, box: Box, unpacker: Unpacker, deadline: float) -> None:
        if self._request is None:
            raise RuntimeError("orders are about a task")
        box.name_host(self._request.task.task)
        if self._bounds.cpu_millis:
            self._shared.limiter.adopt(self._slot, box.cgroup.pids())
        os.lseek(self._source, 0, os.SEEK_SET)
        box.order(orders_of(self._request, unpacker, self._layout), deadline)

    def revive(self, generation: int, with_disk: bool) -> Box:
        """A sandbox for a further generation, ready to become make; raises KeeperError, Cancelled."""
        deadline = time.monotonic() + _UNPACK_SECONDS
        if self._request is None:
            raise RuntimeError("only a task is revived")
        standby, size = self._standby, _size_for(self._request)
        anew = not with_disk or standby.disk is None  # an earlier revival may have come to nothing
        try:
            if anew:
                self._leave_disk(self._request.limits.memory_bytes)
                standby.make_disk(size)
            elif standby.disk is not None:
                standby.recover_disk()
                if self._fill:
                    standby.disk.give_back()  # what the sandbox itself needs is not to fail
            box = standby.launch(generation, self.occupied)
        except OSError as error:
            self._take_back(None, anew)
            raise failed(f"cannot revive: {error}") from error
        except (KeeperError, Cancelled):
            self._take_back(None, anew)
            raise
        try:
            if anew:
                self._lay_anew(box, size, deadline)
            else:
                self._order(box, Unpacker.KEPT, deadline)
            if self._fill and standby.disk is not None:
                standby.disk.fill()
        except OSError as error:  # a TimeoutError too
            self._take_back(box, anew)
            raise failed(f"cannot revive: {error}") from error
        except (KeeperError, Cancelled, NetworkError):
            self._take_back(box, anew)
            raise
        return box

    def _take_back(self, box: Box | None, anew: bool) -> None:
        """A revival came to nothing: the next, even with the disk, must not find half a source."""
        with ExitStack() as steps:  # the last one first, and each of them whatever becomes of the others
            steps.callback(self._standby.resume)
            if anew:
                steps.callback(self._standby.drop_disk)
            if box is not None:
                steps.callback(box.destroy)

    def _lay_anew(self, box: Box, size: DiskSize, deadline: float) -> None:
        """Unpack the source onto a fresh disk, where it lay before."""
        self._standby.hold()
        self._order(box, unpacker_of(os.pread(self._source, 4, 0)), deadline)
        outcome = self._unpack(box, deadline)
        if outcome.error:
            raise refused(outcome, size)
        if self._standby.disk is not None:
            self._standby.disk.settle()
        self._standby.resume()

    def _unpack(self, box: Box, deadline: float, meanwhile: Callable[[], None] = lambda: None) -> Unpacked:
        """See `unpack`. Where the kernel ended a part of it nothing is whole, whatever tar says."""
        before = self._meter.read()
        outcome = unpack(box, self._source, deadline, meanwhile)
        if self._meter.read().oom_kills > before.oom_kills:
            raise failed("what unpacked the source was ended for want of memory")
        return outcome

    def _leave_disk(self, memory_bytes: int) -> None:
        """Take the old disk away, to be freed by `bury` if the new source has room beside what it holds."""
        if self._standby.disk is None:
            return
        self._free_remains()  # so that there is one at most
        beside = self._standby.disk.memory() + self._laid + _SPARE_MEMORY
        self._remains = self._standby.detach_disk()
        if memory_bytes and beside > memory_bytes:
            self._free_remains()

    def bury(self) -> None:
        """Have freed what a revival took away, by another thread; from any thread, once it was answered."""
        remains = self._remains
        if remains is not None:
            self._shared.undertaker.bury(remains)

    def _free_remains(self) -> None:
        """Return once nothing is left of the disk before this one."""
        if self._remains is not None:
            self._remains.free()
            self._remains = None

    def read_disk(self, offset: int, limit: int) -> DiskRead:
        """The next piece of the disk, packed, of a task of which no process is left: see local.ReadDisk.

        Raises KeeperError (WRONG_STATE), Cancelled; nothing of the packing is left then, nor at its end.
        """
        return self._reading.read(offset, limit)

    def _begin_packing(self) -> Packing:
        self._standby.recover_disk()  # a kill may have been a loss of power
        box = self._standby.launch_packer()
        try:
            if self._bounds.cpu_millis:
                self._shared.limiter.adopt(self._slot, box.cgroup.pids())
            return Packing(box, self._shared.packs)
        except OSError:
            box.destroy()
            raise

    def drop_packing(self) -> None:
        """End a packing that is under way; raises KeeperError. Idempotent."""
        self._reading.drop()

    @property
    def uid(self) -> int:
        """The slot's."""
        return self._site.uid

    @property
    def network(self) -> SlotNetwork:
        """The task's network; from any thread, while nothing is being done on the slot."""
        if self._standby.network is None:
            raise RuntimeError("a task has a network")
        return self._standby.network

    def set_disk_full(self, full: bool) -> None:
        """Leave no room on the task's disk, and on those after it, or give it back; raises KeeperError."""
        self._fill, disk = False, self._standby.disk
        if disk is None or not disk.usable:  # the next revival makes another, or recovers it
            self._fill = full
        elif not full:
            disk.give_back()
        else:
            try:
                disk.fill()
            except KeeperError:
                disk.give_back()
                raise
            self._fill = True

    def lose_unsynced(self) -> None:
        """What the task did not sync is gone, where it asked for such a disk; raises KeeperError.

        After its processes have ended. Idempotent.
        """
        disk = self._standby.disk
        if self._request is not None and self._request.lose_unsynced and disk is not None:
            disk.lose_unsynced()

    def disk_full(self) -> bool:
        """Whether the task left no byte or no inode on its disk; raises OSError."""
        disk = self._standby.disk
        return disk is not None and not self._fill and disk.full()

    def clear(self) -> None:
        """Leave nothing of the task; raises KeeperError after trying everything."""
        errors: list[str] = []
        standby = self._standby
        steps = (
            *(self.drop_packing, standby.drop_sandbox, self._free_remains),
            *(self._close_source, self._close_doors, standby.close_network),
            *(standby.empty_view, self._unbind, standby.drop_cgroups, standby.drop_folder),
        )
        for step in steps:
            try:
                step()
            except (KeeperError, CgroupError, NetworkError, OSError) as error:
                errors.append(str(error))
        self._request, self._fill = None, False
        if errors:
            raise failed("; ".join(errors))

    def _close_source(self) -> None:
        if self._source >= 0:
            os.close(self._source)
            self._source = -1

    def _close_doors(self) -> None:
        if self._doors is not None:
            self._doors.close()
            self._doors = None

    def _bound(self, bounds: Bounds) -> None:
        if bounds != self._bounds:
            self._shared.limiter.apply(self._slot, bounds)
            self._bounds = bounds

    def _unbind(self) -> None:
        self._bound(UNBOUNDED)


def _size(limits: Limits) -> DiskSize:
    return DiskSize(limits.disk_bytes, limits.disk_inodes)


def _size_for(request: Prepare) -> DiskSize:
    return replace(_size(request.limits), loses=request.lose_unsynced)
