"""A scrape as Prometheus makes it, and the rules that its names and labels keep to."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterable

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
# More would be a user's text, or grow with what users do.
MOST_SERIES_OF_A_LABEL = 64
LABELS = {
    "state",
    "reason",
    "phase",
    "kind",
    "peer",
    "outcome",
    "name",
    "cluster",
    "manager",
    "version",
    "le",
}
_NAME = re.compile(r"(syndicate|process)_[a-z][a-z0-9]*(_[a-z0-9]+)*")
_BASE_UNITS = ("seconds", "bytes", "records", "info", "fds")
_NOT_BASE = (
    "ms",
    "milliseconds",
    "microseconds",
    "nanoseconds",
    "minutes",
    "hours",
    "kb",
    "mb",
    "mib",
    "percent",
)


def scrape(address: str, accept: str = OPENMETRICS) -> tuple[str, str]:
    """The text and its type."""
    request = urllib.request.Request(f"http://{address}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read().decode(), answer.headers["Content-Type"]


def families(text: str) -> dict[str, Metric]:
    """By name, as the OpenMetrics parser, which is strict, has them."""
    return {metric.name: metric for metric in text_string_to_metric_families(text)}


def value(found: dict[str, Metric], sample: str, **labels: str) -> float:
    """One sample's value."""
    values = [
        one.value
        for metric in found.values()
        for one in metric.samples
        if one.name == sample and labels.items() <= one.labels.items()
    ]
    assert len(values) == 1, f"{sample}{labels}: {values}"
    return float(values[0])


def offences(found: Iterable[Metric]) -> list[str]:
    """What breaks the conventions: https://prometheus.io/docs/practices/naming/ and this project's bounds."""
    wrong = []
    for metric in found:
        name, words = metric.name, metric.name.split("_")
        if not _NAME.fullmatch(name):
            wrong.append(f"{name}: not a name of this project")
        if len(metric.documentation) < 5 or not metric.documentation.endswith("."):
            wrong.append(f"{name}: no help text that is a sentence")
        if metric.type == "unknown":
            wrong.append(f"{name}: no type")
        if metric.type != "counter" and words[-1] == "total":
            wrong.append(f"{name}: ends in total and is no counter")
        if metric.type == "histogram" and words[-1] not in _BASE_UNITS:
            wrong.append(f"{name}: a histogram of no unit")
        if set(words) & set(_NOT_BASE):
            wrong.append(f"{name}: not a base unit")
        for sample in metric.samples:
            if not set(sample.labels) <= LABELS:
                wrong.append(f"{name}: labels {sorted(sample.labels)}")
        for label in {key for sample in metric.samples for key in sample.labels}:
            if len({sample.labels.get(label) for sample in metric.samples}) > MOST_SERIES_OF_A_LABEL:
                wrong.append(f"{name}: too many values of {label}")
    return wrong
