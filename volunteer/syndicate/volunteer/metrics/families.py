"""The volunteer's metrics: names, help texts, and where each value comes from.

Names are Prometheus's: base units (seconds, bytes), counters end in `_total`. Labels are constants of the
program, and the managers and the name that the operator gave.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import CollectorRegistry

from ..core.figures import Figures
from ..identity import BadIdentity, load

PREFIX: Final = "syndicate_volunteer_"


@dataclass(frozen=True, slots=True)
class VolunteerFamilies:
    """A picture that was taken on the loop; `collect` may be called in any thread."""

    version: str
    figures: Figures
    keeper_up: bool
    keeper_connections: int
    links_up: Mapping[str, bool]
    attempts: Mapping[str, int]
    reconnects: Mapping[str, int]
    cache_bytes: int
    cache_sources: int
    calls: Mapping[str, int]
    log_bytes: Mapping[str, int]
    folders: Mapping[str, Path]
    loop_lag_s: float

    def collect(self) -> Iterator[Metric]:
        """All metrics of the volunteer, and those of its process. Reads the certificates."""
        yield InfoMetricFamily(PREFIX + "build", "The software that runs.", value={"version": self.version})
        yield _gauge("slots", "Slots by state.", "state", self.figures.slots)
        yield GaugeMetricFamily(
            PREFIX + "task_events_waiting", "Ends that a manager has not written down.",
            self.figures.events_waiting,
        )  # fmt: skip
        yield from self._connections()
        yield GaugeMetricFamily(PREFIX + "cache_bytes", "What sources take on disk.", self.cache_bytes)
        yield GaugeMetricFamily(PREFIX + "cache_sources", "Sources on disk.", self.cache_sources)
        yield _counter("relay_calls", "Calls of client tasks, by outcome.", "outcome", self.calls)
        text = "Output of tasks: sent to managers, and dropped by its limit."
        yield _counter("log_bytes", text, "outcome", self.log_bytes)
        yield self._certificates()
        text = "How late the loop was at worst in the last minute."
        yield GaugeMetricFamily(PREFIX + "event_loop_lag_seconds", text, self.loop_lag_s)
        # In a registry of its own: the library's global one would be module state.
        yield from ProcessCollector(registry=CollectorRegistry()).collect()

    def _connections(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(PREFIX + "keeper_up", "1 while the keeper answers.", int(self.keeper_up))
        text = "Connections to the keeper that stood."
        yield CounterMetricFamily(PREFIX + "keeper_connections", text, self.keeper_connections)
        yield _gauge("manager_up", "1 while the manager's welcome stands.", "manager", self.links_up)
        yield _counter(
            "manager_attempts", "Streams to the manager that were tried.", "manager", self.attempts
        )
        text = "Streams that the manager welcomed after the first."
        yield _counter("manager_reconnects", text, "manager", self.reconnects)
        text = "How long tasks run on if nothing more is heard of the manager."
        yield _gauge("lease_left_seconds", text, "manager", self.figures.lease_s)

    def _certificates(self) -> Metric:
        expiry = GaugeMetricFamily(
            "syndicate_certificate_expiry_timestamp_seconds",
            "When a certificate expires, in seconds since 1970.",
            labels=["name", "cluster"],
        )
        told = set()
        for folder in self.folders.values():
            try:
                identity = load(folder)
            except BadIdentity:
                continue  # there is none, which manager_up tells
            names = (f"volunteer/{identity.volunteer_id}", identity.cluster)
            if names not in told:
                told.add(names)
                expiry.add_metric(names, identity.not_after)
        return expiry


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
