"""What each task of a job may use: what the job asks for, else the operator's defaults, within his maxima."""

from __future__ import annotations

from dataclasses import fields
from typing import Final

from .errors import BadRequest
from .model import Limits
from .records import NodeRecord
from .words import size

# A disk lies in memory. What its task needs beside it, so that a full disk is told as that and not as want
# of memory.
BESIDE_DISK_BYTES: Final = 64 << 20

LOSING: Final = "lose-unsynced"
"""The capability that a job of --lose-unsynced needs."""

# Below these not even what stands around a task starts, and its machine would be taken for the culprit.
LEAST: Final = Limits(
    disk_bytes=1 << 20,
    disk_inodes=256,
    log_head_bytes=1,
    log_tail_bytes=1,
    memory_bytes=BESIDE_DISK_BYTES + (1 << 20),
    pids=16,
    cpu_millis=50,
    open_files=64,
    file_bytes=4096,
)

# What the kernel takes, where the operator sets no maximum.
_CEILING: Final = Limits(
    disk_bytes=1 << 46,
    disk_inodes=1 << 31,
    log_head_bytes=1 << 40,
    log_tail_bytes=1 << 30,
    memory_bytes=1 << 46,
    pids=1 << 22,
    cpu_millis=1_000_000,
    open_files=1 << 20,
    file_bytes=1 << 46,
)

_NAMES: Final = tuple(field.name for field in fields(Limits))
# The wish of a job that asks for nothing.
DEFAULTS: Final = Limits(**dict.fromkeys(_NAMES, 0))


def granted(wish: Limits, default: Limits, most: Limits) -> Limits:
    """The limits of a job that asks for `wish`, where 0 stands for the default; 0 in `most` for no maximum.

    Raises BadRequest (BAD_FIELD) with the field, what was asked, the most or the least, and the remedy.
    """
    if wish is DEFAULTS and default.file_bytes <= default.disk_bytes and shortfall(default) <= 0:
        return default
    values = {name: getattr(wish, name) or getattr(default, name) for name in _NAMES}
    for name in _NAMES:
        if getattr(wish, name):
            _check_range(name, values[name], getattr(LEAST, name), getattr(most, name))
    if not wish.file_bytes:
        values["file_bytes"] = min(values["file_bytes"], values["disk_bytes"])
    found = Limits(**values)
    _check_disk(found, wish, most)
    return found


def shortfall(limits: Limits) -> int:
    """Bytes of memory that are missing for the disk and what goes beside it; at most 0 where it fits."""
    return limits.disk_bytes + BESIDE_DISK_BYTES - limits.memory_bytes if limits.memory_bytes else 0


def figure(name: str, value: int) -> str:
    """A limit for people: `512 MiB`, `4,096`."""
    return size(value) if name.endswith("_bytes") else f"{value:,}"


def _check_range(name: str, asked: int, least: int, most: int) -> None:
    if asked < least:
        text = f"must be at least {figure(name, least)}, not {figure(name, asked)}"
        raise _bad(name, text, asked, least=str(least), hint=f"Ask for at least {figure(name, least)}")
    ceiling = getattr(_CEILING, name)
    if asked > (most or ceiling):
        hint = f"Ask for at most {figure(name, most or ceiling)}"
        if most:
            hint += f"; the operator's max_limits.{name} allows no more"
        text = f"must be at most {figure(name, most or ceiling)}, not {figure(name, asked)}"
        raise _bad(name, text, asked, most=str(most or ceiling), hint=hint)


def _check_disk(found: Limits, wish: Limits, most: Limits) -> None:
    """What depends on the disk. Blames what was asked for rather than a default."""
    disk, memory = found.disk_bytes, found.memory_bytes
    if shortfall(found) > 0:
        spare, needed = size(BESIDE_DISK_BYTES), disk + BESIDE_DISK_BYTES
        fits = max(memory - BESIDE_DISK_BYTES, 0)
        ways = [f"a disk of at most {size(fits)}"] if fits >= LEAST.disk_bytes else []
        if not most.memory_bytes or needed <= most.memory_bytes:
            ways.append(f"memory of at least {size(needed)}")
        hint = f"The disk lies in memory: ask for {' or '.join(ways)}"
        if wish.disk_bytes:
            text = f"is {size(disk)}, which with {spare} beside it does not fit in {size(memory)} of memory"
            raise _bad("disk_bytes", text, disk, most=str(fits), hint=hint)
        text = f"is {size(memory)}, too little for a disk of {size(disk)} and {spare} beside it"
        raise _bad("memory_bytes", text, memory, least=str(needed), hint=hint)
    if found.file_bytes > disk:
        text = f"is {size(found.file_bytes)}, more than the disk's {size(disk)}"
        hint = f"Ask for at most {size(disk)}, or a larger disk"
        raise _bad("file_bytes", text, found.file_bytes, most=str(disk), hint=hint)


def _bad(name: str, text: str, asked: int, **metadata: str) -> BadRequest:
    field = f"limits.{name}"
    return BadRequest("BAD_FIELD", f"{field} {text}", field=field, asked=str(asked), **metadata)


def why_not_losing(node: NodeRecord) -> str:
    """Why a machine cannot let a disk lose what is not synced; empty where it can."""
    if LOSING in node.capabilities:
        return ""
    why = dict(node.cannot).get(LOSING, "it does not say that it can")
    return f"{node.volunteer_id} cannot let a disk lose what is not synced: {why}"
