"""The keeper as a whole: what it makes on the host, the requests it answers, and how it leaves nothing."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pwd
import resource
import shutil
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, assert_never

from ..clock import Clock
from ..local import (
    MAX_WHY,
    Audit,
    Audited,
    Done,
    DropBarriers,
    ErrorCode,
    Event,
    Incapability,
    Kill,
    Prepare,
    ReadDisk,
    ReadLog,
    Reboot,
    Release,
    Renew,
    Reply,
    Request,
    Revive,
    SetNetwork,
    SetTask,
    Signal,
    Start,
    Sync,
    Synced,
)
from . import host_locks, memory, mounts, rebooting, uids
from .account import within_a_frame
from .audit import SlotPlaces, strangers, things_of
from .box import Site
from .calm import Calm
from .cgroups import Cgroup, CgroupError, find_mount, own_folder
from .company import Company
from .config import Config
from .epochs import Epochs
from .errors import KeeperError, failed, one_line
from .ground import Ground, Shared
from .launch import Launcher
from .lease import Leases
from .limits import CONTROLLERS, Limiter, pass_on, place_version_1
from .log import Log
from .network import FabricNetwork, HostNetwork, Network, NetworkError
from .pack import PackBounds
from .places import Places
from .pump import Pump
from .runs import expected
from .sandbox import Programs
from .seccomp import open_filter
from .server import Server
from .skeleton import build
from .slots import Slot
from .sync_processes import SyncProcesses
from .together import Together
from .trials import OK
from .undertaker import Undertaker
from .unpack import Layouts
from .view import View

_UNSAFE_SECONDS = 60.0
_HELD_SECONDS = 10.0  # between looks at what the log held back


class Keeper:
    """One instance on one host. `open`, then `serve` until cancelled, then `close`."""

    def __init__(self, settings: Config) -> None:
        self._settings = settings
        self._log = Log()
        self._places = Places(settings)
        self._clock = Clock()
        self._slots: list[Slot] = []
        self._grounds: list[Ground] = []
        self._tasks: asyncio.TaskGroup | None = None
        self._closing = False
        self._stack = AsyncExitStack()
        self._leases = Leases(self._clock, self._lapsed)
        self._use = rebooting.Use(self._places.used)

    # ---- standing up

    def prepare_host(self) -> None:
        """Take the instance's locks and its own mounts; before any thread. Raises OSError, KeeperError."""
        self._places.state.mkdir(parents=True, exist_ok=True, mode=0o711)
        lock = os.open(self._places.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._stack.callback(os.close, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise failed(
                f"another keeper of {self._settings.instance} runs with {self._places.state}"
            ) from None
        self._stack.callback(os.close, host_locks.claim_name(self._settings.instance))
        claim = uids.claim(self._settings.uid_base, self._settings.slots, reserved=uids.reserved_of())
        self._stack.callback(claim.close)
        self._uid_base = claim.base
        mounts.become_subreaper()
        mounts.unshare_mounts()
        mounts.drop_unused(CONTROLLERS)

    async def open(self) -> None:
        """Make what stands for as long as the keeper does; raises KeeperError, OSError, NetworkError."""
        settings, places = self._settings, self._places
        self._mount_point()
        base = self._take_cgroups()
        self._stack.callback(places.remove)
        places.make(settings.volunteer_uid, _gid_of(settings.volunteer_uid), settings.slots)
        build(settings.root_fs, places.skeleton)
        network = self._open_network()
        self._filter = self._open_filter()
        launcher = Launcher.open()
        self._stack.callback(launcher.close)
        pump = Pump(self._clock)
        pump.open()
        self._stack.callback(pump.close)
        limiter = Limiter.open(base, settings.slots, delegated=settings.delegated)
        self._stack.callback(limiter.close)
        self._require_bounds(limiter)
        _raise_descriptor_limit()  # after the launcher, whose tasks keep the usual one
        self._limiter, self._network, self._base = limiter, network, base
        self._faults, self._cannot = self._find_faults(network)
        self._epochs = Epochs(places.state / "epochs.json")
        undertaker = Undertaker()
        self._stack.callback(undertaker.close)
        layouts = Layouts()
        packs = PackBounds(settings.pack_bytes, settings.pack_s)
        shared = Shared(
            launcher, network, places.skeleton, settings.cache, layouts, limiter, undertaker, packs
        )
        calm = Calm()
        self._stack.callback(calm.close)
        self._syncs = SyncProcesses(base, launcher, limiter, places.sync_root)
        self._stack.callback(self._syncs.close)
        self._networks = Together(network)
        company = Company(
            *(self._clock, pump, self._epochs, self._leases, calm),
            *(self._networks, self._syncs, self._tell, self._spawn),
            lambda slot, what: self._log.warning("slot.trouble", slot=slot, detail=what),
        )
        for number in range(settings.slots):
            self._add_slot(number, shared, company)
        gid = _gid_of(settings.volunteer_uid)
        self._server = Server(
            places.socket,
            settings.volunteer_uid,
            gid,
            settings.slots,
            self.answer,
            self.answer_at_once,
            self._log,
        )

    def _mount_point(self) -> None:
        found = find_mount()
        if found is None:
            found = self._places.state / "cgroup"
            found.mkdir(exist_ok=True)
            mounts.mount("cgroup2", found, "cgroup2", 0)
            self._stack.callback(found.rmdir)
            self._stack.callback(mounts.unmount, found)
        self._cgroup_mount = found
        if self._settings.delegated:
            self._cgroup_mount = self._delegated(found)
        else:
            pass_on(found)

    def _delegated(self, mount: Path) -> Path:
        """This process's own cgroup, with the process itself in a leaf of it.

        A cgroup that passes controllers on may hold no process of its own (cgroups(7)).
        """
        own = own_folder(mount, "")
        Cgroup(own).child("keeper").take(os.getpid())
        pass_on(own)
        return own

    def _take_cgroups(self) -> Cgroup:
        """End and remove what an earlier keeper of this instance left, and begin anew."""
        base = Cgroup(self._cgroup_mount / self._places.cgroup_name)
        if base.path.is_dir():
            base.kill()
            base.remove()
        for controller in CONTROLLERS:
            hierarchy = self._limits_in(controller)
            if hierarchy is not None and (hierarchy / self._places.cgroup_name).is_dir():
                Cgroup(hierarchy / self._places.cgroup_name).remove()
        Cgroup.make(base.path)
        self._stack.callback(base.remove)
        self._stack.callback(base.kill)  # for what a slot that was not cleared left
        return base

    def _limits_in(self, controller: str) -> Path | None:
        return place_version_1(controller, self._settings.delegated)

    def _require_bounds(self, limiter: Limiter) -> None:
        """A controller that is there may still be lent without the right to use it."""
        for name in ("memory", "pids"):
            if name not in limiter.names and f"cgroup-{name}" not in self._settings.unsafe:
                raise failed(f"the {name} controller cannot be used: tasks would have no bound of it")

    def _open_filter(self) -> int | None:
        """The filter of system calls, made once for all sandboxes."""
        if "seccomp" in self._settings.unsafe:
            return None
        file = open_filter()
        self._stack.callback(os.close, file)
        return file

    def _open_network(self) -> Network:
        settings = self._settings
        network: Network
        if settings.network == "host":
            host = HostNetwork(settings.instance, settings.address, settings.never_cut)
            network = host
        else:
            network = FabricNetwork(
                settings.instance, trouble=lambda what: self._log.warning("network.trouble", detail=what)
            )
        network.open()
        self._stack.callback(network.close)
        if settings.network == "host" and settings.uplink not in ("", host.uplink.name):
            raise failed(f"{settings.address} is on {host.uplink.name}, not on {settings.uplink}")
        return network

    def _find_faults(self, network: Network) -> tuple[set[str], tuple[Incapability, ...]]:
        """Those that tasks can be made to suffer, and why not the others; all that there are can be told."""
        tried = dict.fromkeys(self._settings.faults, OK) | dict(self._settings.cannot) | network.faults()
        can = {name for name, said in tried.items() if said == OK}
        cannot = [Incapability(name, one_line(said, MAX_WHY)) for name, said in tried.items() if said != OK]
        return can | {"cut", "kill"}, tuple(cannot)  # without these two no keeper starts

    def _add_slot(self, number: int, shared: Shared, company: Company) -> None:
        uid = self._uid_base + number
        view = View(self._places.views / str(number), self._places.sockets / str(number))
        cancel = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        cgroup = self._base.child(f"slot-{number}")
        bwrap = shutil.which("bwrap")
        if bwrap is None:
            raise failed("bubblewrap is not installed: apt-get install bubblewrap")
        programs = Programs(Path(bwrap), self._settings.root_fs / "usr")
        own_cgroups = "cgroup-namespace" not in self._settings.unsafe
        join = self._limiter.join(number)
        site = Site(uid, cgroup, view.folder, programs, join, cancel, self._filter, own_cgroups)
        folder = self._places.slots / str(number)
        ground = Ground(number, folder, site, view, shared)
        self._grounds.append(ground)
        self._slots.append(Slot(number, folder, ground, cancel, self._limiter, company))

    # ---- running

    async def serve(self, ready: asyncio.Event) -> None:
        """Serve until cancelled; `ready` is set when the socket takes connections and the slots stand."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                if self._settings.unsafe:
                    tasks.create_task(self._say_unsafe())
                tasks.create_task(self._settle_log())
                async with asyncio.TaskGroup() as standing:
                    standing.create_task(self._syncs.stand_by())
                    for slot in self._slots:
                        standing.create_task(slot.stand_by())
                memory.settle()
                await self._server.open(tasks)
                ready.set()
                await asyncio.get_running_loop().create_future()
            finally:
                self._closing = True
                await asyncio.shield(self._end_all())

    async def _say_unsafe(self) -> None:
        while True:
            self._log.warning("keeper.unsafe", lacks=", ".join(self._settings.unsafe))
            await asyncio.sleep(_UNSAFE_SECONDS)

    async def _settle_log(self) -> None:
        while True:
            await asyncio.sleep(_HELD_SECONDS)
            self._log.settle()

    async def _end_all(self) -> None:
        """End every task and clear every slot, at once."""
        self._leases.close()
        await self._server.close()
        results = await asyncio.gather(*(slot.close() for slot in self._slots), return_exceptions=True)
        for slot, result in zip(self._slots, results, strict=True):
            if isinstance(result, BaseException):
                self._log.error("slot.not_cleared", slot=slot.number, detail=str(result))

    async def close(self) -> None:
        """Remove everything that `open` made; what cannot be removed is logged and the rest goes on."""
        try:
            await self._stack.aclose()
        except (OSError, KeeperError, NetworkError, CgroupError) as error:
            self._log.error("keeper.not_cleared", detail=str(error))
        self._log.settle(end=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        if self._tasks is None:
            raise RuntimeError("the keeper does not serve yet")
        self._tasks.create_task(work)

    def _tell(self, event: Event) -> None:
        self._server.tell(event)

    def _lapsed(self, cluster: str) -> None:
        self._log.warning("lease.lapsed", cluster_id=cluster)
        for slot in self._slots:
            task = slot.task  # of now: one that begins after the lease was renewed is not meant
            if task is not None and task.cluster_id == cluster:
                self._spawn(slot.expire(task))

    # ---- requests

    async def answer(self, request: Request) -> Reply:
        """Do what is asked; raises KeeperError for what is refused."""
        if self._closing:
            raise KeeperError(ErrorCode.SHUTTING_DOWN, "the keeper is ending")
        match request:
            case Sync():
                return await self._synced()
            case Renew():
                return self._renew(request)
            case Audit():
                with expected():
                    return await self._audit()
            case Reboot():
                return await self._reboot()
            case Prepare():
                if self._settings.after_job == "reboot":
                    self._use.note()
                return await self._slot(request.slot).prepare(request)
            case Start():
                return await self._slot(request.slot).start(request)
            case Kill():
                return await self._slot(request.slot).kill(request)
            case Revive():
                return await self._slot(request.slot).revive(request)
            case SetNetwork() | SetTask() | Signal():
                return await self._slot(request.slot).suffer(request)
            case DropBarriers():
                return await self._slot(request.slot).drop_barriers(request)
            case Release():
                return await self._slot(request.slot).release(request)
            case ReadLog():
                return await self._slot(request.slot).read_log(request)
            case ReadDisk():
                return await self._slot(request.slot).read_disk(request)
            case _:
                assert_never(request)

    def answer_at_once(self, requests: Sequence[SetNetwork]) -> list[Reply] | None:
        """`answer` of changes that wait for nobody; None, with nothing done, where one would wait."""
        if self._closing:
            return None
        began = self._clock.now_ns()
        slots: dict[int, Slot] = {}
        states = []
        for request in requests:
            if request.slot >= len(self._slots) or request.slot in slots:  # a slot has one state
                return None
            slot = slots[request.slot] = self._slots[request.slot]
            network = slot.network_at_once(request)
            if network is None:
                return None
            states.append((network, request.network))
        refusals = self._networks.set_at_once(states)
        if refusals is None:
            return None
        return [
            slots[each.slot].changed(each, refusal, began)
            for each, refusal in zip(requests, refusals, strict=True)
        ]

    def _slot(self, number: int) -> Slot:
        if number >= len(self._slots):
            raise KeeperError(
                ErrorCode.NO_SUCH_SLOT, f"there are slots 0 to {len(self._slots) - 1}, not {number}"
            )
        return self._slots[number]

    async def _synced(self) -> Synced:
        # What an earlier connection asked for has nobody to answer to, and may not go on behind this account.
        await asyncio.gather(*(slot.stop_work() for slot in self._slots))
        # From here to the answer nothing is awaited: what happens after it is told as an event.
        for slot in self._slots:
            asyncio.get_running_loop().call_soon(slot.retell)
        possible = {"python", "zstd", *(f"cgroup-{name}" for name in self._limiter.names)}
        account = Synced(
            self._settings.instance,
            self._clock.boot_id,
            self._network.kind,
            self._settings.address if self._settings.network == "host" else "",
            tuple(sorted(possible - set(self._settings.lacks) | self._faults)),
            dict(self._epochs.seen),
            tuple(slot.info() for slot in self._slots),
            self._settings.unsafe,
            self._cannot,
            self._settings.after_job == "reboot",
            self._use.is_noted,
        )
        return within_a_frame(account)

    def _renew(self, request: Renew) -> Done:
        began = self._clock.now_ns()
        if not self._leases.renew(request.cluster_id, request.until_ns):
            raise failed("too many clusters hold leases")
        at = self._clock.stamp()
        return Done(at, at.monotonic_ns - began)

    async def _reboot(self) -> Done:
        if self._settings.after_job != "reboot":
            raise KeeperError(ErrorCode.WRONG_STATE, "the operator does not have this machine booted again")
        busy = [str(slot.number) for slot in self._slots if slot.holds_task]
        if busy:
            raise KeeperError(ErrorCode.WRONG_STATE, f"slot {', '.join(busy)[:80]} holds a task")
        began = self._clock.now_ns()
        self._log.info("keeper.reboots")
        try:
            await asyncio.to_thread(rebooting.reboot)
        except KeeperError as error:
            self._log.error("reboot.failed", detail=error.detail)
            raise
        at = self._clock.stamp()
        return Done(at, at.monotonic_ns - began)

    async def _audit(self) -> Audited:
        in_use = self._syncs.things()
        left: list[str] = []
        for folder in (self._base.path, *self._limiter.folders()):
            # Twice: a sync server that is begun or ended meanwhile is explained the one time or the other.
            found, again = (strangers(folder, len(self._slots), self._syncs.names()) for _ in range(2))
            left += [each for each in found if each in again]
        for slot, ground in zip(self._slots, self._grounds, strict=True):
            name = str(slot.number)
            folder, sockets = self._places.slots / name, self._places.sockets / name
            places = SlotPlaces(self._base.path / f"slot-{name}", folder, sockets, ground.thread)
            if slot.holds_task:
                in_use += await asyncio.to_thread(things_of, places)
            else:
                occupied, found = await slot.things(partial(_left_at, ground, places))
                if occupied:  # since it was asked
                    in_use += found
                else:
                    left += found
        left += await asyncio.to_thread(self._network.leftovers)
        return Audited(tuple(in_use), tuple(left))


def _left_at(ground: Ground, places: SlotPlaces) -> tuple[bool, list[str]]:
    """What is at a slot besides the sandbox that waits for a task, and whether it has one after all."""
    return ground.occupied, things_of(places, ground.standing)


def _raise_descriptor_limit() -> None:
    """A slot takes a dozen descriptors."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _gid_of(uid: int) -> int:
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return uid
