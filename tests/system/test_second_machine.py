"""Two whole machines at one manager: one that claims what the other has is refused, and can be mended."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import without_seccomp
from tests.support.cluster import EXAMPLES, Cluster, ended, eventually
from tests.support.machine import BOOT_ID, Machine
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


def test_a_second_volunteer_on_one_machine_is_refused(own_cluster: Cluster, tmp_path: Path) -> None:
    """The two have one id and one boot id, and each its state: the first keeps its stream and its tasks."""
    job = own_cluster.submit("idle", machines=4)
    own_cluster.until_running(job)
    before = links(own_cluster)

    with Machine(tmp_path, own_cluster, boot_id=BOOT_ID.read_text().strip()) as beside:
        beside.start_volunteer("local")

        refusal = beside.told("link.refused", "ALREADY_EXISTS")
        assert "another volunteer on this machine, with another state directory" in refusal
        assert "attached as local; give this one an id of its own" in refusal
        assert_undisturbed(own_cluster, job, before)
        beside.end_volunteer()
        beside.start_volunteer("other")
        beside.told("link.up")
        eventually("its slot", lambda: own_cluster.users.cluster().free_slots == 1)
    own_cluster.users.cancel(job)
    own_cluster.wait(job)
    assert links(own_cluster) == before
    eventually("the first one's slots", lambda: own_cluster.users.cluster().free_slots == 4)
    assert_nothing_is_left(own_cluster)


def test_a_machine_that_cannot_isolate_gets_no_job(own_cluster: Cluster, tmp_path: Path) -> None:
    """Its keeper was told --unsafe; the manager was not: it is listed with what it lacks, and that is all."""
    prefix = [sys.executable, without_seccomp.__file__]
    with Machine(tmp_path, own_cluster, prefix=prefix, flags=["--unsafe"]) as unsafe:
        unsafe.start_volunteer("other")
        unsafe.told("link.up")
        assert own_cluster.users.cluster().slots == 4
        lacks = {node.volunteer_id: list(node.unsafe) for node in own_cluster.users.nodes()}
        assert lacks == {"local": [], "other": ["seccomp"]}
        table = own_cluster.ctl("nodes").stdout.splitlines()
        assert table[0].endswith("UNSAFE") and table[2].endswith("seccomp")

        refused = own_cluster.ctl("submit", str(EXAMPLES / "hello"), "-n", "5", "--no-client")
        assert "not counting other: unsafe, which this manager does not allow" in refused.stderr
        own_cluster.daemons["volunteer"].kill()
        job = own_cluster.submit(EXAMPLES / "hello", machines=1)
        why = "other is unsafe, which this manager does not allow"
        # The manager may hear of the job before it hears of the volunteer's end.
        eventually("why it waits", lambda: why in own_cluster.ctl("show", str(job)).stdout)
        own_cluster.daemons["volunteer"].restart()
        ran = own_cluster.wait(job)
        assert ended(ran) == "succeeded" and ran.tasks[0].volunteer_id == "local"
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
