"""Every call of ChaosControl through a client's socket, told by the members that suffer it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from syndicate.v1 import common_pb2 as common
from syndicate.v1 import scheduler_pb2 as scheduler

from tests.support.cluster import Cluster, ended, output
from tests.system.conftest import assert_nothing_is_left

pytestmark = pytest.mark.system

MEMBERS = ("master", "slave-0", "slave-1", "slave-2", "slave-3")
Reach = dict[str, list[str]]
"""Of each member those that hear it."""


def but(*out: str) -> list[str]:
    """All members but these."""
    return [name for name in MEMBERS if name not in out]


ALL: Reach = {name: but(name) for name in MEMBERS}


def within(*groups: set[str]) -> Reach:
    """Who hears whom where these groups are cut from each other, and in none of them one is left alone."""
    return {
        name: [
            peer
            for peer in but(name)
            if not any(
                name in one and peer in other for one in groups for other in groups if one is not other
            )
        ]
        for name in MEMBERS
    }


@dataclass(frozen=True)
class Ran:
    """The job, and what its client found in each scenario."""

    job: scheduler.Job
    found: dict[str, dict[str, Any]]

    def __getitem__(self, scenario: str) -> dict[str, Any]:
        found = self.found[scenario]
        assert "error" not in found, found["error"]
        return found

    def where_able(self, scenario: str) -> dict[str, Any] | None:
        """None where the machine cannot do it, and said why."""
        found = self[scenario]
        if "cannot" not in found:
            return found
        assert found["cannot"]
        return None


@pytest.fixture(scope="module")
def ran(shared_cluster: Cluster) -> Iterator[Ran]:
    """One run of the client, which makes every call; afterwards nothing is left."""
    job_id = shared_cluster.submit("probes", machines=5, client="probes-client", time_limit_s=200)
    job = shared_cluster.wait(job_id, 240.0)
    text = output(shared_cluster, job, "client-0")
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    assert ended(job) in ("succeeded", "failed"), text
    yield Ran(job, {line.pop("scenario"): line for line in lines})
    assert_nothing_is_left(shared_cluster)


def test_groups_are_cut_from_each_other(ran: Ran) -> None:
    """Who is in none of them reaches all; a heal of one line takes back what its call did."""
    found = ran["groups"]
    assert found["reach"] == within({"master", "slave-0"}, {"slave-1", "slave-2"})
    assert found["lines"] == found["healed"] == 4
    assert found["after"] == ALL


@pytest.mark.parametrize("shape", ["halves", "random-halves", "bridge", "isolate-one"])
def test_a_shape_cuts_as_its_groups_say(ran: Ran, shape: str) -> None:
    """Between members: exactly those of other groups are not heard."""
    found = ran["shapes"]["shapes"][shape]
    assert found["reach"] == within(*map(set, found["groups"]))
    sizes = sorted(len(group) for group in found["groups"])
    assert sizes == {"bridge": [2, 2], "isolate-one": [1, 4]}.get(shape, [2, 3])
    assert ran["shapes"]["after"] == ALL


def test_in_a_majority_ring_each_reaches_a_majority_of_its_own(ran: Ran) -> None:
    """Three of five, itself counted, and no two the same three."""
    found = ran["shapes"]["shapes"]["majority-ring"]
    reached = {name: {name, *hearers} for name, hearers in found["reach"].items()}
    assert {group[0]: set(group) for group in found["groups"]} == reached
    assert {len(group) for group in reached.values()} == {3}
    assert len({frozenset(group) for group in reached.values()}) == 5


def test_one_way_the_later_group_is_not_heard_by_the_earlier(ran: Ran) -> None:
    """The other way it passes."""
    found = ran["one_way"]
    assert found["reach"] == {**ALL, "slave-0": but("slave-0", "master")}
    assert found["after"] == ALL


def test_a_disconnect_is_silence(ran: Ran) -> None:
    """Nobody hears it, it hears nobody, and an open connection says nothing."""
    found = ran["disconnect"]
    assert found["reach"] == within({"slave-0"}, set(but("slave-0")))
    assert found["said"] == "silence"
    assert found["after"] == ALL


def test_a_reset_tells_tcp(ran: Ran) -> None:
    """Open connections are reset, new ones refused, all else vanishes; then both work again."""
    found = ran["reset"]
    assert found["opened"] == found["again"] == "open"
    assert (found["said"], found["dialled"]) == ("ECONNRESET", "ECONNREFUSED")
    assert found["reach"] == within({"slave-1"}, set(but("slave-1")))
    assert found["after"] == ALL


def test_faults_compose(ran: Ran) -> None:
    """Each goes by itself: a reconnect keeps the partition, a kill and a revival keep what is in force."""
    found = ran["compose"]
    assert found["both"] == []
    assert found["one"] == but("slave-0", "master")
    assert found["two"] == but("slave-0", "master", "slave-1")
    assert found["three"] == found["revived"] == but("slave-0", "slave-1")
    assert found["after"] == ALL


def test_loss_is_of_that_share(ran: Ran) -> None:
    """30 % of 5,000 packets: within five standard deviations, 3.2 points."""
    if (found := ran.where_able("loss")) is not None:
        assert abs(found["lost"] - 0.3) < 0.032


def test_a_rate_bounds_what_passes(ran: Ran) -> None:
    """200 KB at 2 Mbit/s take 0.8 s, each time; the quickest of several tells of the rate alone."""
    if (found := ran.where_able("rate")) is not None:
        assert 0.7 < min(found["took_s"]) < 1.6 and found["free_s"] < 0.2, found


def test_a_delay_is_of_that_time(ran: Ran) -> None:
    """50 ms at least, each time; the quickest of several tells of the delay alone. Then none."""
    if (found := ran.where_able("delay")) is not None:
        assert 0.049 < found["least_s"] < 0.06 and found["after_s"] < 0.02, found


def test_packets_are_duplicated_corrupted_spread_and_reordered(ran: Ran) -> None:
    """Each by its own name, and what goes to others is whole.

    Corrupted ones reach no program; with jitter some take less and some more than the delay; what is
    reordered is not delayed.
    """
    if (found := ran.where_able("worse")) is not None:
        assert (found["duplicate"], found["corrupt"]) == ([400, 200], [0, 200])
        assert min(found["jitter"]) < 0.05 and max(found["jitter"]) > 0.07, found["jitter"]
        assert min(found["reorder"]) < 0.05 and max(found["reorder"]) >= 0.06, found["reorder"]
        # Some that were not delayed may have been held up by the machine for as long.
        assert statistics.median(took for took in found["reorder"] if took >= 0.05) >= 0.06, found["reorder"]


def test_a_paused_task_stands_still_and_goes_on(ran: Ran) -> None:
    """It answers nothing, and its counter goes on where it was."""
    found = ran["pause"]
    assert found["paused"] == ["slave-2"] and found["silent"] == "silence"
    assert found["went_on"] and found["gap_s"] > 0.35
    assert (found["lines"], found["again"]) == (1, False) or found["again"]


def test_a_full_disk_takes_nothing(ran: Ran) -> None:
    """ENOSPC while it is full, and room again after the heal."""
    found = ran["disk_full"]
    assert (found["before"], found["full"], found["after"]) == ("written", "ENOSPC", "written")


def test_a_signal_reaches_each_program_once(ran: Ran) -> None:
    """One process of each of two members, and its handler runs: not make, and not twice."""
    found = ran["signal"]
    assert found["sent"] == found["counts"] == [1, 1]


def test_a_lease_ends_what_nobody_heals(ran: Ran) -> None:
    """After its time, to within what a busy machine takes, and not before."""
    found = ran["leases"]
    assert found["before"] == ["disconnect", "disk_full", "pause"]
    assert sorted(found["held_s"]) == found["before"] and found["in_force"] == []
    assert all(3.99 < held < 20 for held in found["held_s"].values()), found["held_s"]
    assert found["reach"] == ALL and found["write"] == "written"


def test_one_of_several_that_refuses_leaves_all_as_they_were(ran: Ran) -> None:
    """The dead one cannot be paused; the others go on."""
    found = ran["rollback"]
    assert found["refused"] == "TASK_DEAD"
    assert found["paused"] == found["in_force"] == [] and found["answers"] == [True, True]


def test_one_call_strikes_all_and_one_line_heals_all(ran: Ran) -> None:
    """A line for each member, listed as in force, and taken back together."""
    found = ran["together"]
    assert found["reach"] == {name: [] for name in MEMBERS}
    assert found["lines"] == 5 and found["in_force"] == ["disconnect"] * 5
    assert found["after"] == ALL and found["left"] == []


@pytest.mark.parametrize(
    ("call", "kind", "names"),
    [
        ("overlap", "BadField", "(master) is in group 1 and in group 2"),
        ("stranger", "NoSuchMember", "10.99.99.99"),
        ("one group", "BadField", "two or more"),
        ("over 100", "BadField", "loss_percent is 120"),
        ("negative", "BadField", "loss_percent is -1"),
        ("lease 0", "ValueError", "lease is 0 s"),
        ("shape", "ValueError", "'ring-of-fire' is no shape"),
        ("KILL", "BadField", "signal 9"),
        ("no line", "NoSuchFault", "line 99999"),
        ("twice", "BadField", "named twice"),
        ("nobody", "ValueError", "no address"),
    ],
)
def test_bad_input_is_refused_by_name(ran: Ran, call: str, kind: str, names: str) -> None:
    """Each error says which item is wrong, and nothing was done."""
    said, text = ran["bad"]["said"][call]
    assert said == kind and names in text
    assert ran["bad"]["in_force"] == []


def test_the_end_of_the_job_heals_what_is_left(ran: Ran) -> None:
    """The last Finish heals; the ledger has no line that is under way, failed, or in force."""
    assert ended(ran.job) == "succeeded", ran.found
    last = [fault for fault in ran.job.faults if fault.kind == common.FAULT_KIND_DISCONNECT][-1]
    assert last.healed_by == "job end"
    for fault in ran.job.faults:
        assert fault.HasField("applied_at") and not fault.error, fault
