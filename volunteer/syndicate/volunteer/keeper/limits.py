"""Bounds of memory and processes, where the machine has the controllers; on version 1 or 2 hierarchies alike.

A slot has one cgroup per controller for as long as the keeper runs. On version 2 it is the slot's own cgroup;
on version 1 it is `<hierarchy>/syndicate-<instance>/slot-<n>`, which the launcher joins before exec.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .cgroups import Cgroup

_UNBOUNDED_V1 = {"memory": "-1", "pids": "max"}
_FILES_V1 = {"memory": "memory.limit_in_bytes", "pids": "pids.max"}
_FILES_V2 = {"memory": "memory.max", "pids": "pids.max"}


@dataclass(frozen=True)
class _Controller:
    name: str
    base: Path  # the instance's folder in its hierarchy
    unified: bool

    def file(self, slot: int) -> Path:
        files = _FILES_V2 if self.unified else _FILES_V1
        return self.base / f"slot-{slot}" / files[self.name]

    def set(self, slot: int, bound: int) -> None:
        unbounded = "max" if self.unified else _UNBOUNDED_V1[self.name]
        self.file(slot).write_text(str(bound) if bound else unbounded)


class Limiter:
    """The controllers that were found for one instance."""

    def __init__(self, controllers: tuple[_Controller, ...]) -> None:
        self._controllers = controllers

    @classmethod
    def open(cls, base: Cgroup, slots: int) -> Limiter:
        """Find the controllers and make the slots' folders; what is not there or not allowed is left out."""
        found = []
        for name in _FILES_V2:
            controller = _unified(name, base.path) or _version_1(name, base.path.name, slots)
            if controller is not None:
                found.append(controller)
        return cls(tuple(found))

    @property
    def names(self) -> tuple[str, ...]:
        """The controllers, `memory` and `pids`."""
        return tuple(controller.name for controller in self._controllers)

    def join(self, slot: int) -> list[str]:
        """Files to which a process writes 0 to come under the slot's bounds."""
        return [str(each.base / f"slot-{slot}" / "tasks") for each in self._controllers if not each.unified]

    def apply(self, slot: int, memory_bytes: int, pids: int) -> None:
        """Set the slot's bounds, 0 for none; raises OSError."""
        for controller in self._controllers:
            controller.set(slot, memory_bytes if controller.name == "memory" else pids)

    def folders(self) -> list[Path]:
        """The instance's folders in version 1 hierarchies."""
        return [controller.base for controller in self._controllers if not controller.unified]

    def close(self) -> None:
        """Remove the version 1 folders; raises CgroupError."""
        for folder in self.folders():
            Cgroup(folder).remove()


def _unified(name: str, base: Path) -> _Controller | None:
    if name not in (base / "cgroup.controllers").read_text().split():
        return None
    try:
        (base / "cgroup.subtree_control").write_text(f"+{name}")
    except OSError:  # a container that lends the controller without the right to pass it on
        return None
    return _Controller(name, base, unified=True)


def _version_1(name: str, instance: str, slots: int) -> _Controller | None:
    mount = find_version_1(name)
    if mount is None:
        return None
    base = mount / instance
    try:
        base.mkdir(exist_ok=True)
        for slot in range(slots):
            (base / f"slot-{slot}").mkdir(exist_ok=True)
    except OSError:  # mounted read-only, as containers often do
        return None
    return _Controller(name, base, unified=False)


def find_version_1(name: str) -> Path | None:
    """The mount of the version 1 hierarchy with this controller, or None."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        if kind == "cgroup" and name in options.split(","):
            return Path(fields.split(" ")[4])
    return None
