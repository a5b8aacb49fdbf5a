"""Two whole machines at one manager: one that claims what the other has is refused, and can be mended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import EXAMPLES, Cluster, ended, eventually
from tests.support.machine import Machine
from tests.system.conftest import assert_nothing_is_left

pytestmark = pytest.mark.system


@pytest.fixture
def second(own_cluster: Cluster, tmp_path: Path) -> Iterator[Machine]:
    """A machine with one slot beside the cluster's own."""
    with Machine(tmp_path, own_cluster) as machine:
        yield machine


def links(cluster: Cluster) -> list[str]:
    """What the first volunteer wrote of its link."""
    lines = (cluster.dir / "volunteer.log").read_text().splitlines()
    return [line for line in lines if "link." in line]


def assert_undisturbed(cluster: Cluster, job: int, before: list[str]) -> None:
    """The first one's job runs in its first attempt, in the session that it had; it is the only node."""
    assert links(cluster) == before
    running = cluster.users.job(job)
    assert ended(running) == "running" and running.attempt == 1
    assert {task.volunteer_id for task in running.tasks} == {"local"}
    (node,) = cluster.users.nodes()
    assert (node.volunteer_id, len(node.slots)) == ("local", 4)


def test_a_second_volunteer_of_one_id_is_refused_and_joins_under_its_own(
    own_cluster: Cluster, second: Machine
) -> None:
    """Its log says in one line what to do; done so, a job of both machines' slots still waits for no one."""
    job = own_cluster.submit("idle", machines=4)
    own_cluster.until_running(job)
    before = links(own_cluster)

    second.start_volunteer("local")

    refusal = second.told("link.refused", "ALREADY_EXISTS")
    assert "another machine is attached as local; give this one an id of its own" in refusal
    assert_undisturbed(own_cluster, job, before)
    second.end_volunteer()
    second.start_volunteer("other")
    second.told("link.up")
    eventually("its slot", lambda: own_cluster.users.cluster().free_slots == 1)
    hello = own_cluster.run(EXAMPLES / "hello", machines=1)
    assert ended(hello) == "succeeded" and hello.tasks[0].volunteer_id == "other"
    assert links(own_cluster) == before
    own_cluster.users.cancel(job)
    own_cluster.wait(job)
    second.end_volunteer()
    eventually("the first one's slots", lambda: own_cluster.users.cluster().free_slots == 4)
    assert_nothing_is_left(own_cluster)


def test_a_second_volunteer_with_the_firsts_addresses_is_refused(
    own_cluster: Cluster, second: Machine
) -> None:
    """Its operator gave it a prefix that overlaps: the line names both prefixes and whose the other is."""
    job = own_cluster.submit("idle", machines=4)
    own_cluster.until_running(job)
    before = links(own_cluster)
    (node,) = own_cluster.users.nodes()

    second.start_volunteer("other", SYNDICATE_VOLUNTEER_PREFIX=node.prefix)

    refusal = second.told("link.refused", "ALREADY_EXISTS")
    assert f"prefix {node.prefix} overlaps {node.prefix} of local" in refusal
    assert_undisturbed(own_cluster, job, before)
    own_cluster.users.cancel(job)
    own_cluster.wait(job)
    assert_nothing_is_left(own_cluster)
