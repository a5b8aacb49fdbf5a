"""Removes ended jobs beyond those that are kept, the oldest first: what they left, then their rows."""

from __future__ import annotations

import asyncio
import functools
from dataclasses import dataclass
from typing import Final

import structlog

from .core.model import JobState
from .disks import DiskStore
from .logs import LogStore
from .rpc import Shelves
from .store import Store, StoreError

EVERY_S: Final = 600.0
# Between two removals, so that they never take much of the disk.
_PAUSE_S: Final = 0.01
_AT_A_TIME: Final = 100

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Parts:
    """What holds things of jobs beside the store."""

    logs: LogStore
    disks: DiskStore
    shelves: Shelves


@dataclass(frozen=True, slots=True)
class Keep:
    """How many ended jobs, how many lines of the audit log, and how many bytes of histories."""

    jobs: int
    audit: int
    history_bytes: int


async def keep_newest(
    store: Store,
    parts: Parts,
    keep: Keep,
    every_s: float = EVERY_S,
) -> None:
    """Until cancelled, leaves the newest of the jobs that have ended, and so of the audit log."""
    loop = asyncio.get_running_loop()
    while True:
        removed = 0
        try:
            old = await store.old_jobs(keep.jobs, _AT_A_TIME)
            for job_id in old:
                await loop.run_in_executor(None, functools.partial(parts.logs.remove_job, job_id))
                await loop.run_in_executor(None, functools.partial(parts.disks.remove_job, job_id))
                await parts.shelves.remove_job(job_id)
                await store.remove_job(job_id)
                removed += 1
                await asyncio.sleep(_PAUSE_S)
            await _make_room(store, parts.shelves, keep.history_bytes)
            if lines := await store.trim_audit(keep.audit):
                _log.info("retention.audit", lines=lines)
        except (OSError, StoreError) as error:
            # Nothing depends on it: what is left is tried again with the next round.
            _log.error("retention.failed", error=str(error))
        if removed:
            _log.info("retention.removed", jobs=removed)
        if removed < _AT_A_TIME:
            await asyncio.sleep(every_s)


async def _make_room(store: Store, shelves: Shelves, most: int) -> None:
    """Removes histories of the oldest jobs that have ended, until no more bytes are left than that."""
    held = await shelves.jobs()
    total = sum(held.values())
    for job_id, size in held.items():
        if total <= most:
            return
        job = await store.load_job(job_id)
        if job is None or job.job.state > JobState.STOPPING:
            await shelves.remove_job(job_id)
            _log.info("retention.histories", job_id=job_id, bytes=size)
            total -= size
