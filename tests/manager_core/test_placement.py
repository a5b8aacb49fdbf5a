"""Placement: whole gangs in one domain, packed; backfill that cannot delay the head."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from syndicate.manager.core.placement import plan, shadow_of
from syndicate.manager.core.snapshot import FreeNode, Placement, Running, Snapshot, Waiting

S = 1_000_000_000


def node(name: str, slots: int, domain: str = "lan") -> FreeNode:
    """A volunteer with free slots 0 to slots - 1."""
    return FreeNode(name, domain, tuple(range(slots)))


def started(snapshot: Snapshot, now_ns: int = 0) -> list[int]:
    """The ids of the jobs that start."""
    return [placement.job_id for placement in plan(snapshot, now_ns)]


def test_jobs_start_in_turn_while_they_fit() -> None:
    """The first two fill the cluster, the third waits."""
    waiting = tuple(Waiting(i, 2, S) for i in (1, 2, 3))
    assert started(Snapshot((node("a", 4),), (), waiting)) == [1, 2]


def test_a_gang_stays_in_one_domain() -> None:
    """Four free slots in two domains hold no gang of three."""
    halves = (node("a", 2, "east"), node("b", 2, "west"))
    assert started(Snapshot(halves, (), (Waiting(1, 3, S),))) == []
    assert started(Snapshot(halves, (), (Waiting(1, 2, S), Waiting(2, 2, S)))) == [1, 2]


def test_a_gang_takes_the_tightest_domain_and_the_fewest_volunteers() -> None:
    """A gang leaves the roomy domain alone, and fits onto one volunteer where one is large enough."""
    free = (node("a", 5, "roomy"), node("b", 1), node("c", 3), node("d", 4))
    [two] = plan(Snapshot(free[:1] + free[2:3], (), (Waiting(1, 2, S),)), 0)
    assert two.slots == (("c", 0), ("c", 1))
    [three] = plan(Snapshot(free[1:], (), (Waiting(1, 3, S),)), 0)
    assert {name for name, _ in three.slots} == {"c"}
    [five] = plan(Snapshot(free[1:], (), (Waiting(1, 5, S),)), 0)
    assert five.slots == (("d", 0), ("d", 1), ("d", 2), ("d", 3), ("b", 0))


def test_a_short_job_passes_a_head_that_does_not_fit() -> None:
    """A job that is over before the head can start may have the idle slots meanwhile."""
    running = (Running(9, "lan", 2, 100 * S),)
    head = Waiting(1, 4, 50 * S)
    assert started(Snapshot((node("a", 2),), running, (head, Waiting(2, 2, 100 * S)))) == [2]
    assert started(Snapshot((node("a", 2),), running, (head, Waiting(2, 2, 101 * S)))) == []


def test_a_long_job_may_have_what_the_head_leaves_over() -> None:
    """The head needs 4 of 5: one slot is over, however long it is used; a second one is not."""
    running = (Running(9, "lan", 2, 100 * S),)
    waiting = (Waiting(1, 4, S), Waiting(2, 1, 999 * S), Waiting(3, 1, 999 * S))
    assert started(Snapshot((node("a", 3),), running, waiting)) == [2]


def test_a_job_passes_the_head_in_another_domain() -> None:
    """Slots of a domain that the head does not wait for are free to take."""
    free = (node("a", 2, "east"), node("b", 1, "west"))
    waiting = (Waiting(1, 4, S), Waiting(2, 1, 999 * S))
    assert [p.domain for p in plan(Snapshot(free, (Running(9, "east", 2, S),), waiting), 0)] == ["west"]


def test_a_head_that_nothing_can_help_holds_nobody_up() -> None:
    """A gang that waits for a machine to return is promised nothing; the next one that does not fit is."""
    running = (Running(9, "lan", 1, 100 * S),)
    waiting = (Waiting(1, 40, S), Waiting(2, 3, S), Waiting(3, 1, 200 * S), Waiting(4, 1, 50 * S))
    assert started(Snapshot((node("a", 2),), running, waiting)) == [4]


def test_the_shadow_counts_everything_that_ends_at_once() -> None:
    """Two jobs that end together leave their slots together; a later one does not count as over."""
    running = [Running(7, "lan", 2, 10 * S), Running(8, "lan", 2, 10 * S), Running(9, "lan", 4, 20 * S)]
    shadow = shadow_of({"lan": 1}, running, 3, 0)
    assert shadow is not None
    assert (shadow.at_ns, shadow.extra, shadow.job_id) == (10 * S, 2, 7)


def test_an_unlimited_job_promises_nothing() -> None:
    """A job without an end gives no slot back as far as anybody can tell."""
    assert shadow_of({"lan": 1}, [Running(7, "lan", 9, None)], 3, 0) is None


snapshots = st.builds(
    Snapshot,
    st.lists(st.tuples(st.sampled_from("xy"), st.integers(1, 4)), max_size=4).map(
        lambda nodes: tuple(node(f"n{i}", slots, domain) for i, (domain, slots) in enumerate(nodes))
    ),
    st.lists(st.tuples(st.sampled_from("xy"), st.integers(1, 4), st.integers(0, 9)), max_size=4).map(
        lambda jobs: tuple(Running(100 + i, d, n, end * S) for i, (d, n, end) in enumerate(jobs))
    ),
    st.lists(st.tuples(st.integers(1, 8), st.integers(1, 9)), max_size=6).map(
        lambda jobs: tuple(Waiting(i + 1, n, limit * S) for i, (n, limit) in enumerate(jobs))
    ),
)


@settings(deadline=None)
@given(snapshots)
def test_no_slot_is_given_twice_and_gangs_are_whole(snapshot: Snapshot) -> None:
    """A plan uses free slots only, each once, one domain a job, and starts no job twice."""
    domain_of = {(n.volunteer_id, slot): n.domain for n in snapshot.free for slot in n.slots}
    placements = plan(snapshot, 0)
    used = [slot for placement in placements for slot in placement.slots]
    assert len(used) == len(set(used))
    assert set(used) <= set(domain_of)
    needs = {job.job_id: job.slots for job in snapshot.waiting}
    assert len({p.job_id for p in placements}) == len(placements)
    for placement in placements:
        assert len(placement.slots) == needs[placement.job_id]
        assert {domain_of[slot] for slot in placement.slots} == {placement.domain}


@settings(deadline=None)
@given(snapshots)
def test_backfill_never_delays_the_head(snapshot: Snapshot) -> None:
    """With every job as long as its limit, the head can start when it could without any backfill."""
    placements = plan(snapshot, 0)
    in_turn: list[Placement] = []
    for job, placement in zip(snapshot.waiting, placements, strict=False):
        if job.job_id != placement.job_id:
            break
        in_turn.append(placement)
    if len(in_turn) == len(snapshot.waiting):
        return
    head = snapshot.waiting[len(in_turn)]
    limits = {job.job_id: job.limit_ns for job in snapshot.waiting}

    def earliest(started_jobs: list[Placement]) -> int | None:
        free: dict[str, int] = {}
        for one in snapshot.free:
            free[one.domain] = free.get(one.domain, 0) + len(one.slots)
        running = list(snapshot.running)
        for one in started_jobs:
            free[one.domain] -= len(one.slots)
            running.append(Running(one.job_id, one.domain, len(one.slots), limits[one.job_id]))
        shadow = shadow_of(free, running, head.slots, 0)
        return None if shadow is None else shadow.at_ns

    promised = earliest(in_turn)
    if promised is not None:
        actual = earliest(placements)
        assert actual is not None
        assert actual <= promised
