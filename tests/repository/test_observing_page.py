"""docs/observing.md names each metric that there is, and none that is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from syndicate.manager.core.figures import Figures as ManagerFigures
from syndicate.manager.core.observer import Observer
from syndicate.manager.metrics import CommitMeter, ManagerFamilies, Watched
from syndicate.volunteer.core.figures import Figures as VolunteerFigures
from syndicate.volunteer.metrics import VolunteerFamilies

PAGE = Path(__file__).resolve().parents[2] / "docs" / "observing.md"
ENDINGS = {"counter": "_total", "info": "_info"}


def served() -> dict[str, set[str]]:
    """Names of both daemons' metrics, as Prometheus stores them, without those of processes."""
    watched = Watched(
        "0", lambda: ManagerFigures({}, {}, {}, {}, {}, 0), Observer(1), CommitMeter(), dict, dict, dict,
        "c", list, float,
    )  # fmt: skip
    volunteer = VolunteerFamilies(
        "0", VolunteerFigures({}, {}, 0), True, 0, {}, {}, {}, 0, 0, {}, {}, {}, 0.0
    )
    return {
        part: {
            metric.name + ENDINGS.get(metric.type, "")
            for metric in families.collect()
            if metric.name.startswith("syndicate_")
        }
        for part, families in (("manager", ManagerFamilies.of(watched)), ("volunteer", volunteer))
    }


@pytest.mark.parametrize("part", ["manager", "volunteer"])
def test_each_metric_stands_on_the_page(part: str) -> None:
    """Once, in its daemon's table."""
    (table,) = re.findall(
        rf"<!-- metrics:{part} -->\n(.*?)<!-- /metrics:{part} -->", PAGE.read_text(), re.DOTALL
    )
    named = re.findall(r"^\| `([a-z_]+)", table, re.MULTILINE)

    assert sorted(named) == sorted(served()[part])


def test_alerts_ask_for_metrics_that_there_are() -> None:
    """A rule upon a name that nobody serves never fires."""
    alerts = PAGE.read_text().partition("What is worth an alert")[2].partition("## Logs")[0]
    asked = {name.removesuffix("_bucket") for name in re.findall(r"syndicate_[a-z_]+", alerts)}

    assert asked and asked <= set.union(*served().values())


def test_both_daemons_serve_by_the_same_text() -> None:
    """Neither may import the other, so it stands in both: what is mended in one is mended in the other."""
    root = PAGE.parents[1]
    manager, volunteer = (
        (root / part / "syndicate" / part / "metrics" / "exposition.py").read_text()
        for part in ("manager", "volunteer")
    )

    assert manager == volunteer
