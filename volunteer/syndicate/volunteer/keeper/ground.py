"""All that stands on one slot, and the blocking work on it. Used in the slot's worker thread only, but for
`network`.

A free slot keeps the next task's network, disk and sandbox ready: their making takes most of the time of a
start, and depends on nothing of the task but its bounds.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from ..local import DiskRead, ErrorCode, Limits, Prepare
from . import mounts
from .audit import Standing
from .box import Box, Cancelled, Site
from .cgroups import Cgroup, CgroupError
from .counters import Meter
from .disk import Disk, DiskSize, Remains
from .errors import KeeperError, failed, one_line
from .gauges import Gauges
from .launch import Launcher
from .limits import UNBOUNDED, Bounds, Limiter
from .network import Network, NetworkError, SlotNetwork
from .orders import orders_of
from .pack import PackBounds, Packing, refusal
from .sandbox import Layout, Unpacker, unpacker_of
from .undertaker import Undertaker
from .unpack import Layouts, Unpacked, better_layout, unpack
from .view import View

_UNPACK_SECONDS = 30.0
_LEAST_DISK = DiskSize(1 << 20, 100)
_MIB = 1 << 20
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
        self._packing: Packing | None = None
        self._source = -1
        self._layout = Layout()
        self._request: Prepare | None = None
        self._bounds = UNBOUNDED
        self._meter = Meter.of(shared.limiter, slot)
        self._spent = False  # the sandbox got a task's orders: it never serves another
        self._laid = 0  # bytes of memory that the source takes once it is unpacked
        self._fill = False  # whether the task's disk is kept full
        self._remains: Remains | None = None  # of the disk before this one, while that is being freed
        # Of the slot, once it has mounts of its own; the keeper's before.
        self.thread = threading.main_thread().native_id or 0
        self._settled = False

    @property
    def occupied(self) -> bool:
        """Whether a task is on it, or being laid onto it."""
        return self._request is not None

    @property
    def standing(self) -> Standing | None:
        """The sandbox that waits for the next task, with its disk."""
        if self._box is None or self._disk is None or self._spent:
            return None
        root = self._disk.root
        return Standing(
            self._box.cgroup.path, self._box.process.pid, frozenset(map(str, (root, root.parent)))
        )

    # ---- ahead of a task

    def stand_by(self) -> None:
        """Make what the next task needs, unless it stands; raises KeeperError, having left nothing half."""
        try:
            self._settle()
            if self._box is not None and (self._spent or self._box.process.reap() is not None):
                self._drop_sandbox()
            if self._network is None:
                self._network = self._shared.network.make_slot(f"slot-{self._slot}")
            if self._box is None:
                self._make_sandbox(_size(Limits()))
        except (NetworkError, OSError) as error:
            raise failed(f"cannot stand by: {error}") from error

    def _settle(self) -> None:
        """Give the slot's thread mounts of its own, with the slot's view among them; once."""
        if not self._settled:
            mounts.unshare_mounts()
            self.thread = threading.get_native_id()
            self._view.open(self._site.uid)
            self._settled = True

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
        self._source = self._open_source(request.source)
        self.stand_by()
        self._view.fill(request.task.task, request.role, request.members)
        limits = request.limits
        self._bound(Bounds(limits.memory_bytes, limits.pids, limits.cpu_millis))
        self._layout = self._shared.layouts.of(request.source)
        assigned = False

        def assign() -> None:
            # While tar works, which has none of it: see `_hold`.
            nonlocal assigned
            if not assigned and self._network is not None:
                assigned = True
                peers = [member.address for member in request.members]
                self._network.assign(request.address, request.prefix_length, peers, self._site.uid)

        self._hold()
        size = _size_for(request)
        if size.loses:
            self._drop_sandbox()  # the one that waits has another kind of disk
        note = self._lay_out(size, deadline, assign)
        self._resume()
        if self._box is None or self._disk is None:
            raise RuntimeError("the sandbox is there after unpacking")
        self._disk.settle()
        box, self._box, self._spent = self._box, None, False
        self._laid = self._disk.memory()
        self._shared.layouts.remember(request.source, self._layout)
        return Prepared(box, note)

    def _open_source(self, digest: str) -> int:
        """The tarball, held open: the cache may forget it while the task may yet be revived."""
        # The folder is the volunteer's: a pipe in it would else hold the slot until somebody writes.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
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
                outcome = self._unpack(self._box, deadline, meanwhile)
            except TimeoutError:
                took = f"the source was not unpacked within {_UNPACK_SECONDS:.0f} s"
                raise KeeperError(ErrorCode.BAD_SOURCE, took) from None
            better = None if outcome.full else better_layout(self._layout, outcome, self._disk)
            if better is None and outcome.error:
                raise self._refusal(outcome)
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
        if self._bounds.cpu_millis:
            self._shared.limiter.adopt(self._slot, box.cgroup.pids())
        os.lseek(self._source, 0, os.SEEK_SET)
        box.order(orders_of(self._request, unpacker, self._layout), deadline)

    def revive(self, generation: int, with_disk: bool) -> Box:
        """A sandbox for a further generation, ready to become make; raises KeeperError, Cancelled."""
        deadline = time.monotonic() + _UNPACK_SECONDS
        if self._request is None:
            raise RuntimeError("only a task is revived")
        anew = not with_disk or self._disk is None  # an earlier revival may have come to nothing
        try:
            if anew:
                self._leave_disk(self._request.limits.memory_bytes)
                self._disk = Disk.make(self._folder, self._shared.skeleton, _size_for(self._request))
            elif self._disk is not None:
                self._disk.recover(self._shared.skeleton)
                if self._fill:
                    self._disk.give_back()  # what the sandbox itself needs is not to fail
            box = self._launch(generation)
        except OSError as error:
            self._take_back(None, anew)
            raise failed(f"cannot revive: {error}") from error
        except (KeeperError, Cancelled):
            self._take_back(None, anew)
            raise
        try:
            if anew:
                self._lay_anew(box, deadline)
            else:
                self._order(box, Unpacker.KEPT, deadline)
            if self._fill and self._disk is not None:
                self._disk.fill()
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
            steps.callback(self._resume)
            if anew:
                steps.callback(self._drop_disk)
            if box is not None:
                steps.callback(box.destroy)

    def _lay_anew(self, box: Box, deadline: float) -> None:
        """Unpack the source onto a fresh disk, where it lay before."""
        self._hold()
        self._order(box, unpacker_of(os.pread(self._source, 4, 0)), deadline)
        outcome = self._unpack(box, deadline)
        if outcome.error:
            raise self._refusal(outcome)
        if self._disk is not None:
            self._disk.settle()
        self._resume()

    def _unpack(self, box: Box, deadline: float, meanwhile: Callable[[], None] = lambda: None) -> Unpacked:
        """See `unpack`. Where the kernel ended a part of it nothing is whole, whatever tar says."""
        before = self._meter.read()
        outcome = unpack(box, self._source, deadline, meanwhile)
        if self._meter.read().oom_kills > before.oom_kills:
            raise failed("what unpacked the source was ended for want of memory")
        return outcome

    def _refusal(self, outcome: Unpacked) -> KeeperError:
        """What is told of a source that could not be unpacked."""
        if outcome.full and self._request is not None:
            limits = self._request.limits
            room = f"{limits.disk_bytes // _MIB} MiB and {limits.disk_inodes:,} files"
            detail = (
                f"its source does not fit on the task's disk of {room}. Ask for more with --disk or --inodes"
            )
            return KeeperError(ErrorCode.DISK_FULL, detail)
        return KeeperError(ErrorCode.BAD_SOURCE, one_line(outcome.error, 300))

    def _hold(self) -> None:
        """Nothing passes to or from the slot while its source, which nobody trusts, is unpacked."""
        if self._network is not None:
            self._network.hold(self._site.uid)

    def _resume(self) -> None:
        if self._network is not None:
            self._network.resume()

    def _leave_disk(self, memory_bytes: int) -> None:
        """Take the old disk away, to be freed by `bury` if the new source has room beside what it holds."""
        if self._disk is None:
            return
        self._free_remains()  # so that there is one at most
        beside = self._disk.memory() + self._laid + _SPARE_MEMORY
        self._remains = self._disk.detach()
        self._disk = None
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
        try:
            if offset == 0:
                self.drop_packing()
                self._packing = self._begin_packing()
            if self._packing is None or self._packing.offset != offset:
                raise KeeperError(ErrorCode.WRONG_STATE, f"the disk is not being read at {offset}")
            piece = self._packing.read(limit)
        except OSError as error:
            self.drop_packing()
            return refusal(failed(f"cannot pack the disk: {error}"))
        except (KeeperError, Cancelled) as error:
            self.drop_packing()
            if isinstance(error, KeeperError) and error.code is ErrorCode.FAILED:
                return refusal(error)
            raise
        if piece.end:
            self.drop_packing()
        return piece

    def _begin_packing(self) -> Packing:
        if self._disk is None or self._network is None:
            raise failed("it is gone: a revival came to nothing")
        self._disk.recover(self._shared.skeleton)  # a kill may have been a loss of power
        box = Box.launch_packer(self._site, self._shared.launcher, self._disk, self._network.netns_fd)
        try:
            if self._bounds.cpu_millis:
                self._shared.limiter.adopt(self._slot, box.cgroup.pids())
            return Packing(box, self._shared.packs)
        except OSError:
            box.destroy()
            raise

    def drop_packing(self) -> None:
        """End a packing that is under way; raises KeeperError. Idempotent."""
        packing, self._packing = self._packing, None
        if packing is not None:
            packing.close()

    @property
    def network(self) -> SlotNetwork:
        """The task's network; from any thread, while nothing is being done on the slot."""
        if self._network is None:
            raise RuntimeError("a task has a network")
        return self._network

    def set_disk_full(self, full: bool) -> None:
        """Leave no room on the task's disk, and on those after it, or give it back; raises KeeperError."""
        self._fill = False
        if self._disk is None or not self._disk.usable:  # the next revival makes another, or recovers it
            self._fill = full
        elif not full:
            self._disk.give_back()
        else:
            try:
                self._disk.fill()
            except KeeperError:
                self._disk.give_back()
                raise
            self._fill = True

    def lose_unsynced(self) -> None:
        """What the task did not sync is gone, where it asked for such a disk; raises KeeperError.

        After its processes have ended. Idempotent.
        """
        if self._request is not None and self._request.lose_unsynced and self._disk is not None:
            self._disk.lose_unsynced()

    def disk_full(self) -> bool:
        """Whether the task left no byte or no inode on its disk; raises OSError."""
        return self._disk is not None and not self._fill and self._disk.full()

    def clear(self) -> None:
        """Leave nothing of the task; raises KeeperError after trying everything."""
        errors: list[str] = []
        steps = (
            *(
                self.drop_packing,
                self._drop_sandbox,
                self._free_remains,
                self._close_source,
                self._close_network,
            ),
            *(self._empty_view, self._unbind, self._drop_cgroups, self._drop_folder),
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

    def _close_network(self) -> None:
        if self._network is not None:
            self._network.close()
            self._network = None

    def _empty_view(self) -> None:
        if self._settled:
            self._view.empty()

    def _bound(self, bounds: Bounds) -> None:
        if bounds != self._bounds:
            self._shared.limiter.apply(self._slot, bounds)
            self._bounds = bounds

    def _unbind(self) -> None:
        self._bound(UNBOUNDED)

    def _drop_cgroups(self) -> None:
        """What a sandbox that could not be ended left: the next one of its number would share it."""
        with os.scandir(self._site.cgroup.path) as entries:
            left = [Cgroup(Path(entry.path)) for entry in entries if entry.is_dir(follow_symlinks=False)]
        for cgroup in left:
            cgroup.kill()
            cgroup.remove()

    def _drop_folder(self) -> None:
        if self._folder.is_dir():
            self._folder.rmdir()


def _size(limits: Limits) -> DiskSize:
    return DiskSize(limits.disk_bytes, limits.disk_inodes)


def _size_for(request: Prepare) -> DiskSize:
    return replace(_size(request.limits), loses=request.lose_unsynced)
