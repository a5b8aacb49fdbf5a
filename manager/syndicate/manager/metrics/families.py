"""The manager's metrics: names, help texts, and where each value comes from.

Names are Prometheus's: base units (seconds, bytes), counters end in `_total`. Labels are constants of the
program, and in one case names that the operator gave: those of volunteers, as far as MOST_CERTIFICATES goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import CollectorRegistry

from ..core.figures import Figures
from ..core.observer import Observer
from ..core.tally import Histogram

PREFIX: Final = "syndicate_manager_"
# Those that expire first are told.
MOST_CERTIFICATES: Final = 500
_COMMITS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
_RECORDS: Final = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1000.0, 4096.0)


class CommitMeter:
    """How long commits take, and how much is in them; called in the store's one writer thread."""

    def __init__(self) -> None:
        self.seconds = Histogram(_COMMITS_S)
        self.records = Histogram(_RECORDS)

    def __call__(self, seconds: float, records: int) -> None:
        """A commit was made."""
        self.seconds.see(seconds)
        self.records.see(records)


@dataclass(frozen=True, slots=True)
class Watched:
    """Where a picture is taken from. All are read on the loop; `streams` by whose they are."""

    version: str
    figures: Callable[[], Figures]
    observer: Observer
    commits: CommitMeter
    streams: Callable[[], Mapping[str, int]]
    denials: Callable[[], Mapping[str, int]]
    log_bytes: Callable[[], Mapping[str, int]]
    cluster: str
    certificates: Callable[[], list[tuple[str, int]]]
    loop_lag_s: Callable[[], float]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A histogram as it stood."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float


def _still(histogram: Histogram) -> _Seen:
    return _Seen(histogram.bounds, tuple(histogram.counts), histogram.total)


@dataclass(frozen=True, slots=True)
class ManagerFamilies:
    """A picture, taken on the loop by `of`; `collect` may be called in any thread."""

    version: str
    cluster: str
    figures: Figures
    submissions: int
    requeues: int
    ended: Mapping[str, int]
    waits: _Seen
    phases: Mapping[str, _Seen]
    faults: Mapping[str, _Seen]
    failed_faults: Mapping[str, int]
    commits_s: _Seen
    commits_records: _Seen
    streams: Mapping[str, int]
    denials: Mapping[str, int]
    log_bytes: Mapping[str, int]
    certificates: list[tuple[str, int]] = field(default_factory=list)
    loop_lag_s: float = 0.0

    @classmethod
    def of(cls, watched: Watched) -> ManagerFamilies:
        """As all stands now."""
        observer = watched.observer
        return cls(
            version=watched.version,
            cluster=watched.cluster,
            figures=watched.figures(),
            submissions=observer.submissions,
            requeues=observer.requeues,
            ended=observer.ended.read(),
            waits=_still(observer.waits),
            phases={phase: _still(seen) for phase, seen in observer.phases.items()},
            faults={kind.name.lower(): _still(seen) for kind, seen in observer.faults.items()},
            failed_faults=observer.failed_faults.read(),
            commits_s=_still(watched.commits.seconds),
            commits_records=_still(watched.commits.records),
            streams=watched.streams(),
            denials=watched.denials(),
            log_bytes=watched.log_bytes(),
            certificates=watched.certificates()[:MOST_CERTIFICATES],
            loop_lag_s=watched.loop_lag_s(),
        )

    def collect(self) -> Iterator[Metric]:
        """All metrics of the manager, and those of its process."""
        yield InfoMetricFamily(PREFIX + "build", "The software that runs.", value={"version": self.version})
        yield from self._cluster()
        yield from self._pace()
        yield from self._edges()
        # In a registry of its own: the library's global one would be module state.
        yield from ProcessCollector(registry=CollectorRegistry()).collect()

    def _cluster(self) -> Iterator[Metric]:
        seen = self.figures
        yield _gauge(
            "slots", "Slots by state; resting: refused of late, and left alone.", "state", seen.slots
        )
        yield _gauge("volunteers", "Volunteers by state.", "state", seen.nodes)
        yield _gauge("jobs", "Jobs that have not ended, by state.", "state", seen.jobs)
        yield _gauge("queued_jobs", "Jobs that wait, by what they wait for.", "reason", seen.waiting)
        yield _gauge(
            "queue_longest_wait_seconds",
            "How long the job has waited that waits longest, by what for.",
            "reason",
            seen.longest_wait_s,
        )
        yield GaugeMetricFamily(
            PREFIX + "pending_commands", "Commands that volunteers have not answered.", seen.pending_commands
        )

    def _pace(self) -> Iterator[Metric]:
        yield CounterMetricFamily(PREFIX + "submissions", "Jobs that were taken.", self.submissions)
        yield CounterMetricFamily(
            PREFIX + "requeues", "Jobs queued again after a failure of the infrastructure.", self.requeues
        )
        yield _counter("jobs_ended", "Jobs that ended, by state.", "state", self.ended)
        yield _histogram(
            "queue_wait_seconds", "From queued until the reservation that held began.", {"": self.waits}
        )
        yield _histogram(
            "gang_phase_seconds",
            "How long a whole gang takes to reserve its slots, to prepare and start, and to be released.",
            self.phases,
            "phase",
        )
        yield _histogram(
            "fault_seconds", "From a client's request until the fault holds, by kind.", self.faults, "kind"
        )
        yield _counter(
            "faults_failed", "Faults that did not come about, by kind.", "kind", self.failed_faults
        )

    def _edges(self) -> Iterator[Metric]:
        yield _histogram("store_commit_seconds", "Commits to the disk.", {"": self.commits_s})
        yield _histogram("store_commit_records", "Records in one commit.", {"": self.commits_records})
        yield _gauge("streams", "Streams that are open, by whose they are.", "peer", self.streams)
        yield _counter("denials", "Calls that were denied, by reason.", "reason", self.denials)
        yield _counter(
            "log_bytes",
            "Output of tasks: received; dropped by its limit; lost, since it could not be written.",
            "outcome",
            self.log_bytes,
        )
        expiry = GaugeMetricFamily(
            "syndicate_certificate_expiry_timestamp_seconds",
            "When a certificate expires, in seconds since 1970.",
            labels=["name", "cluster"],
        )
        for name, until in self.certificates:
            expiry.add_metric([name, self.cluster], until)
        yield expiry
        yield GaugeMetricFamily(
            PREFIX + "event_loop_lag_seconds",
            "How late the loop was at worst in the last minute.",
            self.loop_lag_s,
        )


def _gauge(name: str, text: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(PREFIX + name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _counter(name: str, text: str, label: str, values: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(PREFIX + name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _histogram(name: str, text: str, seen: Mapping[str, _Seen], label: str = "") -> HistogramMetricFamily:
    """One histogram for each value of the label, or one without any."""
    family = HistogramMetricFamily(PREFIX + name, text, labels=[label] if label else [])
    for key, one in seen.items():
        family.add_metric([key] if label else [], list(_buckets(one)), one.total)
    return family


def _buckets(seen: _Seen) -> Iterable[tuple[str, float]]:
    """Cumulative, as Prometheus has them."""
    below = 0
    for bound, count in zip((*map(str, seen.bounds), "+Inf"), seen.counts, strict=True):
        below += count
        yield bound, below
