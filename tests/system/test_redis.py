"""The Redis example on a real cluster: the same stale read each time."""

from __future__ import annotations

import pytest
from syndicate.v1 import common_pb2 as common

from tests.examples.verdicts import STALE
from tests.support.cluster import EXAMPLES, Cluster, ended

pytestmark = pytest.mark.system

JOBS = 20


@pytest.mark.timeout(900)
def test_redis_comes_out_false_by_a_stale_read(cluster: Cluster) -> None:
    """Twenty times: each run names the replica that was cut off, what it read and what was written."""
    source = EXAMPLES / "redis"
    submitted = [cluster.submit(source, machines=2, client=source / "client") for _ in range(JOBS)]

    for job in [cluster.wait(number) for number in submitted]:
        text = job.result.text
        assert (ended(job), job.result.outcome) == ("failed", common.OUTCOME_FAIL), text
        assert STALE.match(text), text
        told = job.result.metrics
        assert (told["stale_reads"], told["writes_lost_with_disk"], told["lost_writes"]) == (1, 0, 1), text
