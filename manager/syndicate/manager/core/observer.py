"""What the records of each step tell of the cluster's pace: how long jobs wait, gangs take, faults need.

The observer reads what the machine saves and changes nothing, so that the machine knows nothing of it. It is
there only where somebody asks for figures. What it saw before a restart is gone, as counters may be.
"""

from __future__ import annotations

from collections.abc import Sequence

from .frozen import frozen
from .model import FaultKind, JobState, Stamp
from .records import FaultRecord, JobRecord, Record, StoryRecord
from .tally import Count, Histogram
from .transitions import TERMINAL_JOB_STATES

_WAITS_S = (0.01, 0.05, 0.25, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0)
_PHASES_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0)
_FAULTS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
PHASES = ("reserve", "start", "release")


@frozen
class _Phase:
    state: JobState
    since_ns: int


class Observer:
    """Counters and histograms. `next_job_id` is the first that was not there when it was made."""

    def __init__(self, next_job_id: int) -> None:
        self.submissions = 0
        self.requeues = 0
        self.ended = Count()
        self.waits = Histogram(_WAITS_S)
        self.phases = {phase: Histogram(_PHASES_S) for phase in PHASES}
        self.faults = {kind: Histogram(_FAULTS_S) for kind in FaultKind}
        self.failed_faults = Count()
        self._next_job_id = next_job_id
        # Of jobs that are in a phase, so no more than have slots.
        self._in_phase: dict[int, _Phase] = {}

    def saw(self, records: Sequence[Record], now: Stamp) -> None:
        """Takes the records that one step saves, at the manager's time of the step."""
        ended = {
            record.job_id
            for record in records
            if isinstance(record, StoryRecord) and record.event == "job.ended"
        }
        for record in records:
            if isinstance(record, JobRecord):
                self._job(record, now)
                if record.job_id in ended and record.state in TERMINAL_JOB_STATES:
                    self.ended.add(record.state.name.lower())
            elif isinstance(record, FaultRecord):
                self._fault(record, now)
            elif isinstance(record, StoryRecord) and record.event == "job.requeued":
                self.requeues += 1

    def _job(self, job: JobRecord, now: Stamp) -> None:
        if job.job_id >= self._next_job_id:
            self._next_job_id = job.job_id + 1
            self.submissions += 1
        before = self._in_phase.get(job.job_id)
        if before is not None and before.state is job.state:
            return
        if job.state in (JobState.RESERVING, JobState.PREPARING, JobState.STOPPING):
            self._in_phase[job.job_id] = _Phase(job.state, now.monotonic_ns)
        elif before is not None:
            del self._in_phase[job.job_id]
        if before is None:
            return
        took_s = (now.monotonic_ns - before.since_ns) / 1e9
        match before.state, job.state:
            case JobState.RESERVING, JobState.PREPARING:
                self.phases["reserve"].see(took_s)
                # Up to the reservation that held: one that a slot refused is part of the wait.
                self.waits.see(_between_s(job.queued_at, now) - took_s)
            case JobState.PREPARING, JobState.RUNNING:
                self.phases["start"].see(took_s)
            case JobState.STOPPING, _:
                self.phases["release"].see(took_s)

    def _fault(self, fault: FaultRecord, now: Stamp) -> None:
        if fault.healed_at_manager is not None:
            return  # saved once more when it was taken back: it was counted when it came about
        if fault.error:
            self.failed_faults.add(fault.kind.name.lower())
        elif fault.applied_at is not None:
            self.faults[fault.kind].see(_between_s(fault.requested_at, now))


def _between_s(earlier: Stamp, later: Stamp) -> float:
    if earlier.boot_id == later.boot_id:
        return (later.monotonic_ns - earlier.monotonic_ns) / 1e9
    return (later.utc_ns - earlier.utc_ns) / 1e9
