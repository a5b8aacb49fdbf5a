"""Removes ended jobs beyond those that are kept, the oldest first: their output, then their rows."""

from __future__ import annotations

import asyncio
import functools
from typing import Final

import structlog

from .logs import LogStore
from .store import Store, StoreError

EVERY_S: Final = 600.0
# Between two removals, so that they never take much of the disk.
_PAUSE_S: Final = 0.01
_AT_A_TIME: Final = 100

_log = structlog.get_logger()


async def keep_newest(
    store: Store, logs: LogStore, keep_jobs: int, keep_audit: int, every_s: float = EVERY_S
) -> None:
    """Until cancelled, leaves the `keep_jobs` newest of the jobs that have ended, and so of the audit log."""
    loop = asyncio.get_running_loop()
    while True:
        removed = 0
        try:
            old = await store.old_jobs(keep_jobs, _AT_A_TIME)
            for job_id in old:
                await loop.run_in_executor(None, functools.partial(logs.remove_job, job_id))
                await store.remove_job(job_id)
                removed += 1
                await asyncio.sleep(_PAUSE_S)
            if lines := await store.trim_audit(keep_audit):
                _log.info("retention.audit", lines=lines)
        except (OSError, StoreError) as error:
            # Nothing depends on it: what is left is tried again with the next round.
            _log.error("retention.failed", error=str(error))
        if removed:
            _log.info("retention.removed", jobs=removed)
        if removed < _AT_A_TIME:
            await asyncio.sleep(every_s)
