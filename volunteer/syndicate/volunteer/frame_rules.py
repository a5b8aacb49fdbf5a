"""What the fields of the local protocol may hold, beyond their types."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from . import local

MAX_INTEGER: Final = (1 << 63) - 1

Rule = Callable[[Any], Any]  # true where the value may be


def _matching(pattern: str) -> Rule:
    return re.compile(pattern).fullmatch


def _between(low: int, high: int) -> Rule:
    return lambda number: low <= number <= high


def _is_line(text: str) -> bool:
    return len(text) <= 4096 and text.isprintable()


def _is_name(text: str) -> bool:
    return 0 < len(text) <= 255 and text.isprintable()


def _is_barrier(text: str) -> bool:
    return len(text) <= local.LONGEST_BARRIER and text.isprintable()


_TASK_FORM: Final = r"master|(?:slave|client)-(?:0|[1-9][0-9]{0,5})"
_BYTE_FORM: Final = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_ADDRESS_FORM: Final = (
    rf"(?:{_BYTE_FORM}\.){{3}}{_BYTE_FORM}"  # as the kernel writes it, so without zeros before
)

ID: Final = _matching(r"[a-z0-9-]{1,63}")
_CAPABILITY: Final = _matching(r"[a-z0-9_.-]{1,63}")
_BOOT_ID: Final = _matching(r"[0-9a-f-]{1,36}")
_TASK: Final = _matching(_TASK_FORM)
_ADDRESS: Final = _matching(_ADDRESS_FORM)
_ADDRESS_OR_ALL: Final = _matching(f"|{_ADDRESS_FORM}")
NATURAL: Final = _between(0, MAX_INTEGER)
_POSITIVE: Final = _between(1, MAX_INTEGER)
# What is no number, or is infinite, lies between no two.
_PERCENT: Final = _between(0, 100)
_MILLISECONDS: Final = _between(0, 600_000)
FINITE: Final = _between(-MAX_INTEGER, MAX_INTEGER)
_ERROR: Final = _between(0, 255)
SIZE: Final = _between(0, local.MAX_FRAME_BYTES)

# Fields that are narrower than their type; for tuples and dicts the rule is about each item or key.
RULES: Final[dict[str, Rule]] = {
    "TaskId.task": _TASK,
    "TaskId.job_id": _POSITIVE,
    "Member.task": _TASK,
    "Member.address": _ADDRESS,
    "Prepare.address": _ADDRESS,
    "Prepare.prefix_length": _between(1, 32),
    "Prepare.source": _matching(r"[0-9a-f]{64}"),
    "Prepare.job_name": lambda text: len(text) <= 255 and text.isprintable(),
    "Prepare.sync_server": _matching(f"|{_ADDRESS_FORM}:[0-9]{{1,5}}"),
    "BarrierTask.task": _matching(f"{_TASK_FORM}|{_ADDRESS_FORM}"),
    "BarrierRound.barrier": _is_barrier,
    "BarrierRound.error": _ERROR,
    "OpenBarrier.barrier": _is_barrier,
    "OpenBarrier.remaining": _between(-MAX_INTEGER, MAX_INTEGER),
    "OpenBarrier.missing": _TASK,
    "BarriersTold.trouble": _is_line,
    "Start.generation": _POSITIVE,
    "Kill.generation": _POSITIVE,
    "Revive.generation": _POSITIVE,
    "ReadLog.generation": _POSITIVE,
    "ReadLog.limit": _between(1, local.MAX_LOG_READ_BYTES),
    "ReadDisk.limit": _between(1, local.MAX_LOG_READ_BYTES),
    "NetworkState.cut": _ADDRESS,
    "NetworkState.cut_out": _ADDRESS,
    "NetworkState.cut_in": _ADDRESS,
    "NetworkState.reset": _ADDRESS,
    "LinkState.peer": _ADDRESS_OR_ALL,
    "Degradation.loss_percent": _PERCENT,
    "Degradation.delay_ms": _MILLISECONDS,
    "Degradation.jitter_ms": _MILLISECONDS,
    "Degradation.duplicate_percent": _PERCENT,
    "Degradation.corrupt_percent": _PERCENT,
    "Degradation.reorder_percent": _PERCENT,
    "DropBarriers.barrier": _is_barrier,
    "DropBarriers.id": _is_name,
    "Signal.generation": _POSITIVE,
    "Signal.number": _between(1, 64),
    "Signal.id": _is_name,
    "SlotInfo.address": _ADDRESS_OR_ALL,
    "Synced.fixed_address": _ADDRESS_OR_ALL,
    "Synced.network": _matching("fabric|host"),
    "Synced.capabilities": _CAPABILITY,
    "Synced.unsafe": _CAPABILITY,
    "Synced.epochs": ID,
    "Incapability.capability": _CAPABILITY,
    "Incapability.why": lambda text: len(text) <= local.MAX_WHY and text.isprintable(),
    "Synced.boot_id": _BOOT_ID,
    "Stamp.boot_id": _BOOT_ID,
    "Exit.status": _between(0, 255),
    "Exit.cause": _matching("|kill|release|lease|memory|host-memory"),
    "Refused.detail": _is_line,
    "DiskRead.missing": _is_line,
    "Audited.in_use": _is_line,
    "Audited.left": _is_line,
}
