"""Bounds of memory, processes and processors, by the machine's controllers, of version 1 or 2 alike.

A slot has one cgroup per controller for as long as the keeper runs. On version 2 it is the slot's own cgroup;
on version 1 it is `<hierarchy>/syndicate-<instance>/slot-<n>`, which the launcher joins before exec,
or, for a bound of processors, the keeper while the sandbox still waits.

What swaps counts as memory, so that a task's bound is one bound: on version 2 swap is denied, on version 1
memory and swap together have the same bound as memory, or, where the kernel does not count swap, nothing is
swapped that can be helped. On version 2 the kernel ends a whole slot that runs out of memory; on version 1 it
ends one process of it, and the keeper the others: see `oom`.

What waits in a slot's sockets is memory as well on version 2. On version 1 the kernel counts it apart, and
only where it has a bound: without one a task could fill the machine's memory past its own, and take what all
of the machine's connections share. That bound is the same for all tasks: one that changed could not be set to
less than what connections of the last task still hold.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .cgroups import MOUNTINFO, Cgroup, own_folder

CONTROLLERS = ("memory", "pids", "cpu")

_PERIOD_US = 100_000  # the kernel's own default
_LEAST_QUOTA_US = 1_000  # the kernel takes no less
_SOCKET_BYTES = 64 << 20  # of a slot, on version 1
_SOCKETS_V1 = "memory.kmem.tcp.limit_in_bytes"


@dataclass(frozen=True)
class Bounds:
    """What a task may take at most; 0 for no bound. `cpu_millis` is in thousandths of a processor."""

    memory_bytes: int = 0
    pids: int = 0
    cpu_millis: int = 0


UNBOUNDED = Bounds()


@dataclass(frozen=True)
class Controller:
    """One controller of an instance; `base` is the instance's folder in its hierarchy."""

    name: str
    base: Path
    unified: bool

    def folder(self, slot: int) -> Path:
        """The slot's folder in this hierarchy."""
        return self.base / f"slot-{slot}"

    def set(self, slot: int, bounds: Bounds) -> None:
        """Set what this controller bounds; raises OSError."""
        self.write(self.folder(slot), bounds)

    def write(self, folder: Path, bounds: Bounds) -> None:
        """As `set`, for any of its folders."""
        for name, value in self._values(folder, bounds):
            (folder / name).write_text(value)

    def values(self, slot: int, bounds: Bounds) -> Iterator[tuple[str, str]]:
        """What is written to which of the slot's files, in this order."""
        return self._values(self.folder(slot), bounds)

    def _values(self, folder: Path, bounds: Bounds) -> Iterator[tuple[str, str]]:
        match self.name:
            case "memory":
                yield from (_memory_v2 if self.unified else _memory_v1)(folder, bounds.memory_bytes)
            case "pids":
                yield "pids.max", str(bounds.pids or "max")
            case "cpu":
                # Rounded up: a wish above 0 never means no bound.
                quota = max(bounds.cpu_millis * _PERIOD_US // 1000, _LEAST_QUOTA_US)
                if self.unified:
                    yield "cpu.max", f"{quota if bounds.cpu_millis else 'max'} {_PERIOD_US}"
                else:
                    yield "cpu.cfs_quota_us", str(quota if bounds.cpu_millis else -1)


def _memory_v2(folder: Path, bound: int) -> Iterator[tuple[str, str]]:
    yield "memory.max", str(bound or "max")
    if (folder / "memory.swap.max").exists():  # not where the machine's swap is not counted
        yield "memory.swap.max", "0" if bound else "max"
    yield "memory.oom.group", "1"


def _memory_v1(folder: Path, bound: int) -> Iterator[tuple[str, str]]:
    both = (folder / "memory.memsw.limit_in_bytes").exists()
    if both:  # it may never be less than the bound of memory alone, whichever of the two is changed
        yield "memory.memsw.limit_in_bytes", "-1"
    yield "memory.limit_in_bytes", str(bound or -1)
    if both and bound:
        yield "memory.memsw.limit_in_bytes", str(bound)
    if not both:
        yield "memory.swappiness", "0"


class Limiter:
    """The controllers that were found for one instance."""

    def __init__(self, controllers: tuple[Controller, ...]) -> None:
        self._controllers = controllers

    @classmethod
    def open(cls, base: Cgroup, slots: int, *, delegated: bool = False) -> Limiter:
        """Find the controllers and make the slots' folders; what is not there or not allowed is left out."""
        found = []
        for name in CONTROLLERS:
            controller = _unified(name, base.path) or _version_1(
                name, base.path.name, slots, delegated=delegated
            )
            if controller is not None:
                found.append(controller)
        return cls(tuple(found))

    @property
    def names(self) -> tuple[str, ...]:
        """The controllers, of CONTROLLERS."""
        return tuple(controller.name for controller in self._controllers)

    def get(self, name: str) -> Controller | None:
        """The controller of this name, if it was found."""
        return next((each for each in self._controllers if each.name == name), None)

    def join(self, slot: int) -> list[str]:
        """Files to which a process writes 0 to come under the slot's bounds, but for that of processors."""
        joined = [each for each in self._controllers if not each.unified and each.name != "cpu"]
        return [str(each.folder(slot) / "tasks") for each in joined]

    def adopt(self, slot: int, pids: Iterable[int]) -> None:
        """Bring processes under the slot's bound of processors if they did not start there; raises OSError.

        Only what has such a bound comes there: a cgroup weighs as one task against all others on the machine,
        so that many slots together would starve beside a few busy processes, and gain nothing for it.
        """
        cpu = self.get("cpu")
        if cpu is not None and not cpu.unified:
            for pid in pids:
                (cpu.folder(slot) / "cgroup.procs").write_text(str(pid))

    def apply(self, slot: int, bounds: Bounds) -> None:
        """Set the slot's bounds; raises OSError."""
        for controller in self._controllers:
            controller.set(slot, bounds)

    def bound_apart(self, name: str, bounds: Bounds) -> list[str]:
        """Set bounds for a cgroup of the instance that is no slot's, but of processors; raises OSError.

        On version 2 it is there already. Returns what `join` returns for a slot. See `pace_apart`.
        """
        joined = []
        for each in self._controllers:
            if each.name == "cpu":
                continue
            folder = each.base / name
            if not each.unified:
                folder.mkdir(exist_ok=True)
                joined.append(str(folder / "tasks"))
                if (folder / _SOCKETS_V1).exists():
                    (folder / _SOCKETS_V1).write_text(str(_SOCKET_BYTES))
            each.write(folder, bounds)
        return joined

    def pace_apart(self, name: str, cpu_millis: int, pids: Iterable[int]) -> None:
        """Set a bound of processors for such a cgroup, whose processes these are; raises OSError.

        As `adopt`: without this it has none, and its processes are as any others of the machine.
        """
        cpu = self.get("cpu")
        if cpu is None:
            return
        folder = cpu.base / name
        if not cpu.unified:
            folder.mkdir(exist_ok=True)
        cpu.write(folder, Bounds(cpu_millis=cpu_millis))
        for pid in () if cpu.unified else pids:
            (folder / "cgroup.procs").write_text(str(pid))

    def forget_apart(self, name: str) -> None:
        """Remove what `bound_apart` and `pace_apart` made on version 1; raises CgroupError."""
        for each in self._controllers:
            if not each.unified:
                Cgroup(each.base / name).remove()

    def folders(self) -> list[Path]:
        """The instance's folders in version 1 hierarchies."""
        return [controller.base for controller in self._controllers if not controller.unified]

    def close(self) -> None:
        """Remove the version 1 folders; raises CgroupError."""
        for folder in self.folders():
            Cgroup(folder).remove()


def _unified(name: str, base: Path) -> Controller | None:
    if name not in (base / "cgroup.controllers").read_text().split():
        return None
    try:
        (base / "cgroup.subtree_control").write_text(f"+{name}")
    except OSError:  # a container that lends the controller without the right to pass it on
        return None
    return Controller(name, base, unified=True)


def _version_1(name: str, instance: str, slots: int, *, delegated: bool) -> Controller | None:
    mount = place_version_1(name, delegated)
    if mount is None:
        return None
    base = mount / instance
    try:
        base.mkdir(exist_ok=True)
        for slot in range(slots):
            folder = base / f"slot-{slot}"
            folder.mkdir(exist_ok=True)
            if (folder / _SOCKETS_V1).exists():
                (folder / _SOCKETS_V1).write_text(str(_SOCKET_BYTES))
    except OSError:  # mounted read-only, as containers often do
        return None
    return Controller(name, base, unified=False)


def pass_on(folder: Path) -> None:
    """Have a version 2 cgroup pass its controllers on; one that may not be is left out, as `open` finds."""
    for name in CONTROLLERS:
        _unified(name, folder)


def can_pass_on(folder: Path) -> bool:
    """Whether a version 2 cgroup may pass controllers on: the machine's top, or one without processes.

    Only the top has no type; see cgroups(7), "no internal processes".
    """
    return not (folder / "cgroup.type").exists() or not (folder / "cgroup.procs").read_text().strip()


def place_version_1(name: str, delegated: bool) -> Path | None:
    """Where an instance makes its folder in a version 1 hierarchy: at its top, or where it itself was put."""
    mount = find_version_1(name)
    return own_folder(mount, name) if mount is not None and delegated else mount


def find_version_1(name: str, mountinfo: Path = MOUNTINFO) -> Path | None:
    """The mount of the version 1 hierarchy with this controller, or None."""
    for line in os.fsdecode(mountinfo.read_bytes()).split("\n"):
        fields, _, rest = line.partition(" - cgroup ")  # in no name: blanks there are escaped
        if name in rest.rpartition(" ")[2].split(","):
            return Path(fields.split(" ")[4])
    return None
