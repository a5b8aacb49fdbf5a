"""What the records of a step tell of the cluster's pace."""

from __future__ import annotations

from dataclasses import replace

from syndicate.manager.core.model import FaultKind, JobSpec, JobState, Source, Stamp
from syndicate.manager.core.observer import Observer
from syndicate.manager.core.records import FaultRecord, JobRecord, StoryRecord
from syndicate.manager.core.tally import MOST_LABELS, OTHER, Count, Histogram

BOOT = "boot"


def at(seconds: float) -> Stamp:
    """A time on the manager's clock."""
    return Stamp(BOOT, int(seconds * 1e9), int(seconds * 1e9))


def job(state: JobState = JobState.QUEUED) -> JobRecord:
    """A job that was queued at 1 s."""
    spec = JobSpec("a", Source("0" * 64, 1), 1, None, 0, 60.0)
    return JobRecord(7, "r", "anna", spec, state, 1, at(1), at(1))


def test_a_wait_lasts_until_the_reservation_that_held() -> None:
    """A reservation that a slot refused is part of it, and is no phase."""
    observer = Observer(1)
    observer.saw([job()], at(1))
    observer.saw([job(JobState.RESERVING)], at(2))
    observer.saw([job()], at(3))
    observer.saw([job(JobState.RESERVING)], at(11))
    observer.saw([job(JobState.PREPARING)], at(11.5))

    assert (observer.waits.seen, observer.waits.total) == (1, 10.0)
    assert (observer.phases["reserve"].seen, observer.phases["reserve"].total) == (1, 0.5)


def test_a_job_that_is_saved_twice_in_a_state_counts_once() -> None:
    """The phase began with the first; its end is counted where its story says so."""
    observer = Observer(1)
    for second in (1.0, 2.0):
        observer.saw([job(JobState.STOPPING)], at(second))
    done = job(JobState.SUCCEEDED)
    observer.saw([done, StoryRecord(7, 1, 1, at(4), "", "job.ended", "")], at(4))
    observer.saw([replace(done, published=True)], at(9))

    assert observer.submissions == 1
    assert observer.ended.read() == {"succeeded": 1}
    assert (observer.phases["release"].seen, observer.phases["release"].total) == (1, 3.0)


def test_jobs_of_before_are_no_submissions() -> None:
    """A restart saves them again."""
    observer = Observer(8)
    observer.saw([job()], at(1))

    assert observer.submissions == 0


def test_a_fault_counts_when_it_holds_and_not_when_it_is_meant() -> None:
    """By kind; one that failed has no latency."""
    observer = Observer(1)
    meant = FaultRecord(7, 1, 1, "r", FaultKind.KILL, "slave-0", "client-0", at(1))
    observer.saw([meant], at(1))
    observer.saw([replace(meant, applied_at=at(1.5))], at(1.5))
    observer.saw([replace(meant, applied_at=at(1.5), healed_at_manager=at(9))], at(9))
    observer.saw([replace(meant, kind=FaultKind.REVIVE, error="no")], at(2))

    assert (observer.faults[FaultKind.KILL].seen, observer.faults[FaultKind.KILL].total) == (1, 0.5)
    assert observer.faults[FaultKind.REVIVE].seen == 0
    assert observer.failed_faults.read() == {"revive": 1}


def test_a_value_belongs_to_the_bucket_whose_bound_it_is() -> None:
    """As Prometheus has it: `le` is less or equal."""
    histogram = Histogram((1.0, 2.0))
    for value in (1.0, 1.5, 9.0, -1.0):
        histogram.see(value)

    assert histogram.counts == [2, 1, 1]
    assert histogram.total == 11.5


def test_labels_are_bounded() -> None:
    """What comes beyond counts as one."""
    count = Count()
    for number in range(MOST_LABELS + 10):
        count.add(f"reason-{number}")

    assert len(count.read()) == MOST_LABELS + 1
    assert count.read()[OTHER] == 10
