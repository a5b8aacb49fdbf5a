"""The cluster in numbers: what is where, and who waits for what."""

from __future__ import annotations

from manager_core.harness import SECOND, Cluster
from manager_core.people import People, student
from syndicate.manager.core import events as ev
from syndicate.manager.core.figures import Figures
from syndicate.manager.core.model import Quota
from syndicate.manager.core.queue import Queue
from syndicate.manager.core.snapshot import Waiting


def figures(cluster: Cluster) -> Figures:
    """As they stand."""
    return cluster.machine.figures(cluster.now)


def nonzero(values: object) -> dict[str, float]:
    """Those that are not 0."""
    assert isinstance(values, dict)
    return {name: value for name, value in values.items() if value}


def test_each_slot_is_in_one_state() -> None:
    """Used, free, on a drained volunteer, on one that is away."""
    cluster = Cluster()
    for name in ("node-a", "node-b", "node-c"):
        cluster.volunteer(name, slots=3)
    cluster.submit(2)
    cluster.deliver()
    (holder,) = {task.volunteer_id for task in cluster.job().tasks}
    drained, away = sorted({"node-a", "node-b", "node-c"} - {holder})
    cluster.ask(lambda n: ev.DrainNode(n, "r", drained, True))
    cluster.detach(cluster.volunteers[away])
    found = figures(cluster)

    assert nonzero(found.slots) == {"used": 2, "free": 1, "drained": 3, "away": 3}
    assert nonzero(found.nodes) == {"ready": 1, "drained": 1, "away": 1}
    assert nonzero(found.jobs) == {"running": 1}


def test_jobs_wait_for_slots_for_their_turn_and_for_what_a_quota_lets_them_have() -> None:
    """By the first job of each owner; the longest wait of each kind."""
    people = People(slots=4)
    unbounded = Quota(-1, -1, -1, -1)
    people.put(
        student("anna", quota=unbounded), student("bob", quota=unbounded),
        student("carol", quota=Quota(1, -1, -1, -1)),
    )  # fmt: skip
    cluster = people.cluster
    cluster.submit(3, owner="carol")
    cluster.deliver()
    cluster.submit(1, owner="carol")
    cluster.submit(1, owner="carol")
    cluster.submit(4, owner="anna")
    cluster.submit(2, owner="anna")
    cluster.advance(5.0)
    found = figures(cluster)

    assert nonzero(found.waiting) == {"quota": 2, "slots": 1, "turn": 1}
    assert found.jobs["queued"] == sum(found.waiting.values()) == 4
    assert 5.0 <= found.longest_wait_s["slots"] < 6.0
    assert found.longest_wait_s["quota"] >= found.longest_wait_s["slots"]


def test_a_long_queue_is_looked_at_by_its_owners_alone() -> None:
    """Thousands of jobs of one owner are one look: a scrape stops nobody."""
    queue = Queue()
    for number in range(1, 5001):
        queue.push(Waiting(number, 1, SECOND), "anna" if number % 5 else "bob")

    assert [(first.job_id, many) for first, many in queue.firsts()] == [(1, 4000), (5, 1000)]
