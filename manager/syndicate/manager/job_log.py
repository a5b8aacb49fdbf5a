"""Lines of the manager's log about jobs: that one started, ended or was requeued, and faults that failed.

Who wants all of a job's story asks for it (`syndicatectl show`); these are for whoever looks after the
cluster. They hold ids and constants only: what a user wrote stays out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import structlog

from .core.model import Stamp
from .core.records import FaultRecord, JobRecord, Record, StoryRecord

_log = structlog.get_logger()
_TOLD: Final = {"job.started", "job.ended", "job.requeued"}


def tell(records: Sequence[Record], _: Stamp) -> None:
    """Writes what the records of one step have to tell."""
    told = {
        record.job_id: record.event
        for record in records
        if isinstance(record, StoryRecord) and record.event in _TOLD
    }
    for record in records:
        if isinstance(record, JobRecord) and (event := told.get(record.job_id)):
            _tell_job(event, record)
        elif isinstance(record, FaultRecord) and record.error:
            _log.warning(
                "fault.failed",
                job_id=record.job_id,
                attempt=record.attempt,
                task=record.task,
                kind=record.kind.name.lower(),
                request_id=record.request_id,
            )


def _tell_job(event: str, job: JobRecord) -> None:
    log = _log.bind(job_id=job.job_id, attempt=job.attempt, owner=job.owner, request_id=job.request_id)
    match event:
        case "job.started":
            log.info(event, slots=job.spec.slots, waited_ms=job.gang_start_ns // 1_000_000)
        case "job.ended":
            log.info(event, state=job.state.name, reason=job.reason.name)
        case _:
            log.warning(event, reason=job.reason.name)
