"""A job whose kills are losses of power, from `submit` to the report; and one whose kills are not."""

from __future__ import annotations

import json

import pytest

from tests.support.cluster import JOBS, Cluster
from tests.support.power_cut import left_after_a_cut
from tests.system.conftest import assert_nothing_is_left, end_what_runs

pytestmark = pytest.mark.system


@pytest.mark.parametrize(("options", "kept"), [(("--lose-unsynced",), ["synced"]), ((), ["lost", "synced"])])
def test_a_kill_takes_what_was_not_synced_where_that_was_asked_for(
    shared_cluster: Cluster, options: tuple[str, ...], kept: list[str]
) -> None:
    """The revived member says what it found, and the report what a kill was."""
    submitted = shared_cluster.ctl("submit", str(JOBS / "power"), "-n", "2", "--no-client", *options)
    assert submitted.returncode == 0, submitted.stderr
    job_id = int(submitted.stdout)
    shared_cluster.until_running(job_id)

    assert left_after_a_cut(shared_cluster.users, job_id) == kept

    report = shared_cluster.ctl("report", str(job_id), "--json")
    assert report.returncode == 0, report.stderr
    assert ("loss of power here" in json.loads(report.stdout)["notes"][0]) is bool(options)
    end_what_runs(shared_cluster)
    assert_nothing_is_left(shared_cluster)
